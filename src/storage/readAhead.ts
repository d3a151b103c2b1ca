/** Lets the two ends of a stream work at the same time: the source runs a bounded number of items ahead. */

/** An answer on its way. Boxed, because an async generator would wait for a bare promise before it goes on. */
export interface Pending<T> {
  answer: Promise<T>;
}

/** Whoever stops early never looks at the answers still on their way; that a late one fails must not end the process. */
export function pending<T>(answer: Promise<T>): Pending<T> {
  answer.catch(() => {});
  return { answer };
}

/**
 * The items of `source`, at most `depth` of them fetched before they are asked for. When the consumer stops, fails or
 * is done, the source is ended before this is. `release` is called first of all and must make a pending fetch settle.
 */
export async function* readAhead<T extends object>(
  source: AsyncIterable<T>,
  depth: number,
  release: () => void = () => {},
): AsyncGenerator<T, void, undefined> {
  const iterator = source[Symbol.asyncIterator]();
  const ready: T[] = [];
  let failure: { error: unknown } | null = null;
  let ended = false;
  let stopped = false;
  let wakeConsumer = () => {};
  let wakeFetcher = () => {};

  const fetching = (async () => {
    try {
      while (!stopped) {
        const step = await iterator.next();
        if (step.done) return;
        ready.push(step.value);
        wakeConsumer();
        while (ready.length >= depth && !stopped) {
          await new Promise<void>((resolve) => {
            wakeFetcher = resolve;
          });
        }
      }
      await iterator.return?.();
    } catch (error) {
      failure = { error };
    } finally {
      ended = true;
      wakeConsumer();
    }
  })();

  try {
    for (;;) {
      while (ready.length === 0 && !ended) {
        await new Promise<void>((resolve) => {
          wakeConsumer = resolve;
        });
      }
      const item = ready.shift();
      if (item === undefined) break;
      wakeFetcher();
      yield item;
    }
    if (failure) throw (failure as { error: unknown }).error;
  } finally {
    stopped = true;
    release();
    wakeFetcher();
    await fetching;
  }
}
