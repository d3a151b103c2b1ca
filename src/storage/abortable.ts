/** Makes any stream obey a signal, even one that is stuck and knows of none. */

/**
 * The items of `source` until `signal` is aborted; then the iteration throws the signal's reason at once. The source is
 * told to end but not waited for: a stuck one would never answer.
 */
export async function* abortable<T>(
  source: AsyncIterable<T>,
  signal: AbortSignal | undefined,
): AsyncGenerator<T, void, undefined> {
  if (!signal) {
    yield* source;
    return;
  }
  const iterator = source[Symbol.asyncIterator]();
  // A new promise per step: racing against one that lives as long as the stream would keep every step in memory.
  let giveUp: (reason: unknown) => void = () => {};
  const onAbort = () => giveUp(signal.reason);
  signal.addEventListener('abort', onAbort);
  let done = false;
  try {
    for (;;) {
      const step = await new Promise<IteratorResult<T>>((resolve, reject) => {
        giveUp = reject;
        if (signal.aborted) return reject(signal.reason);
        iterator.next().then(resolve, (error) => {
          done = true;
          reject(error);
        });
      });
      if (step.done) {
        done = true;
        return;
      }
      yield step.value;
    }
  } finally {
    signal.removeEventListener('abort', onAbort);
    if (!done) {
      const ended = Promise.resolve(iterator.return?.()).catch(() => {});
      if (!signal.aborted) await ended;
    }
  }
}
