/**
 * Looks after all databases at rest with one timer. A timer, a promise and a turn of the queue for each of hundreds of
 * them cost several times what the look itself does.
 */
export class RestRound {
  private readonly resting = new Map<() => boolean, () => void>();
  private timer: NodeJS.Timeout | null = null;

  constructor(private readonly everyMs: number) {}

  /** Asks `still` every round until it answers false, or until `wake` is called; then `ended` resolves. */
  rest(still: () => boolean): { ended: Promise<void>; wake(): void } {
    let resolve: () => void = () => {};
    const ended = new Promise<void>((done) => {
      resolve = done;
    });
    const wake = () => {
      this.resting.delete(still);
      if (this.resting.size === 0 && this.timer) {
        clearInterval(this.timer);
        this.timer = null;
      }
      resolve();
    };
    this.resting.set(still, wake);
    this.timer ??= setInterval(() => this.goRound(), this.everyMs);
    return { ended, wake };
  }

  private goRound(): void {
    for (const [still, wake] of [...this.resting]) if (!rests(still)) wake();
  }
}

/** What a file says when it cannot even be looked at is for the database's own next look to meet, where it is told. */
function rests(still: () => boolean): boolean {
  try {
    return still();
  } catch {
    return false;
  }
}

const rounds = new Map<number, RestRound>();

/** The round of all databases of this process that are looked at in this interval. */
export function restRound(everyMs: number): RestRound {
  const round = rounds.get(everyMs) ?? new RestRound(everyMs);
  rounds.set(everyMs, round);
  return round;
}
