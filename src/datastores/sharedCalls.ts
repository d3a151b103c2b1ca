/**
 * Calls that share one answer: whoever comes while one runs waits for the next, because the running one may have looked
 * before what the caller did.
 */
export class SharedCalls<T> {
  private running: Promise<T> | null = null;
  private waiting: Promise<T> | null = null;

  constructor(private readonly call: () => Promise<T>) {}

  async next(signal?: AbortSignal): Promise<T> {
    signal?.throwIfAborted();
    if (!this.waiting) {
      const start = () => {
        this.running = this.waiting;
        this.waiting = null;
        return this.call();
      };
      this.waiting = (this.running ?? Promise.resolve()).then(start, start);
      this.waiting.catch(() => {});
    }
    return abortable(this.waiting, signal);
  }

  /** Resolves when the calls that run or wait now are over, whatever comes of them. */
  async settled(): Promise<void> {
    await Promise.allSettled([this.running, this.waiting]);
  }
}

/** The promise, or the signal's reason if that comes first. */
export function abortable<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return promise;
  return new Promise<T>((resolve, reject) => {
    const abort = () => reject(signal.reason);
    if (signal.aborted) abort();
    signal.addEventListener('abort', abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}
