/** Waiting for something to happen, with an end. */

/** Wakes those who wait for a condition whenever something has changed. */
export class News {
  private readonly waiting = new Set<() => void>();

  tell(): void {
    for (const resume of [...this.waiting]) resume();
  }

  /** Waits until `condition` holds; false where `ends` came first. */
  async until(condition: () => boolean, ends: AbortSignal): Promise<boolean> {
    while (!condition()) {
      if (ends.aborted) return false;
      await new Promise<void>((resolve) => {
        const done = () => {
          this.waiting.delete(done);
          ends.removeEventListener('abort', done);
          resolve();
        };
        this.waiting.add(done);
        ends.addEventListener('abort', done);
      });
    }
    return true;
  }
}

/** Waits, but not beyond the signal. */
export function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    if (signal.aborted) done();
    else signal.addEventListener('abort', done);
  });
}

/** What `work` comes to, or null where `ends` comes first; the work then goes on unattended. */
export async function within<T>(work: Promise<T>, ends: AbortSignal): Promise<T | null> {
  let stop: () => void = () => {};
  const ended = new Promise<null>((resolve) => {
    stop = () => resolve(null);
    if (ends.aborted) stop();
    else ends.addEventListener('abort', stop);
  });
  work.catch(() => {});
  return await Promise.race([work, ended]).finally(() => ends.removeEventListener('abort', stop));
}
