/** Tells when a process has stopped answering, and when it answers again, by asking it something now and then. */

/** How often it is asked in the time after which it is said to hang. */
const turnsUntilHang = 6;

export class Pulse {
  /** Nothing has come from the process since it was asked `hangMs` ago. */
  hangs = false;
  /**
   * Turns since it was asked, 0 where something came from it afterwards. Not the clock is asked: where this process itself
   * was stopped, or the machine slept, the timer makes one turn of it, and the answer is there before the next one.
   */
  private silentTurns = 0;
  private timer: NodeJS.Timeout | undefined;

  /** `changed` is called whenever `hangs` has changed, but for a stop. */
  constructor(
    private readonly hangMs: number,
    private readonly ask: () => void,
    private readonly changed: () => void,
  ) {}

  start(): void {
    this.timer = setInterval(() => this.turn(), this.hangMs / turnsUntilHang).unref();
  }

  /** Something came from the process, whatever it is. */
  heard(): void {
    this.silentTurns = 0;
    this.set(false);
  }

  stop(): void {
    clearInterval(this.timer);
    this.silentTurns = 0;
    this.hangs = false;
  }

  private turn(): void {
    // Once: what is not read stays in the pipe.
    if (this.silentTurns === 0) this.ask();
    this.silentTurns++;
    if (this.silentTurns > turnsUntilHang) this.set(true);
  }

  private set(hangs: boolean): void {
    if (this.hangs === hangs) return;
    this.hangs = hangs;
    this.changed();
  }
}
