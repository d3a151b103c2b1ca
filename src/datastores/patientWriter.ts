import type { Turns } from './turns.js';

/**
 * A thread's way into a file that other threads write into as well. What finds another one writing waits in memory and is
 * written together with what comes next, as far as there is room: to sleep until the other one is done would cost more
 * than the writing does, and once two threads have begun to wait for each other they do so with every piece.
 */
export class PatientWriter {
  private waiting = 0;

  /**
   * @param space where bytes wait
   * @param put writes what waited and then what came, which may be nothing; called while no other thread writes
   * @param atLeast fewer bytes wait for more
   */
  constructor(
    private readonly turns: Turns,
    private readonly space: Buffer,
    private readonly put: (waited: Uint8Array, came: Uint8Array) => void,
    private readonly atLeast = 0,
  ) {}

  /** The bytes may be used again afterwards. Not all are written before flush(). */
  write(bytes: Uint8Array): void {
    const all = this.waiting + bytes.length;
    if (all >= this.atLeast && this.turns.tryToTake(() => this.putAll(bytes))) return;
    if (all > this.space.length) {
      this.turns.take(() => this.putAll(bytes));
    } else {
      this.space.set(bytes, this.waiting);
      this.waiting = all;
    }
  }

  flush(): void {
    if (this.waiting > 0) this.turns.take(() => this.putAll(new Uint8Array()));
  }

  private putAll(bytes: Uint8Array): void {
    const waited = this.space.subarray(0, this.waiting);
    this.waiting = 0;
    this.put(waited, bytes);
  }
}
