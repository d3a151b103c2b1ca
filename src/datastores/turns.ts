/** Threads that write into one file take turns. */

/** Longer than a write takes; whoever has the turn then has died with it. */
const turnPatienceMs = 10_000;

/**
 * One thread writes at a time. The file system lets only one write into a file, too, but has the others spin meanwhile,
 * on a core that could hash.
 */
export class Turns {
  private readonly state: Int32Array;

  /** What the threads share. */
  static shared(): SharedArrayBuffer {
    return new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT);
  }

  constructor(shared: SharedArrayBuffer) {
    this.state = new Int32Array(shared);
  }

  take(work: () => void): void {
    while (Atomics.compareExchange(this.state, 0, 0, 1) !== 0) {
      if (Atomics.wait(this.state, 0, 1, turnPatienceMs) === 'timed-out') break;
    }
    this.use(work);
  }

  /** False, with nothing done, where another thread has the turn. */
  tryToTake(work: () => void): boolean {
    if (Atomics.compareExchange(this.state, 0, 0, 1) !== 0) return false;
    this.use(work);
    return true;
  }

  private use(work: () => void): void {
    try {
      work();
    } finally {
      Atomics.store(this.state, 0, 0);
      Atomics.notify(this.state, 0, 1);
    }
  }
}
