/** An iterator that can be left while it waits. */

/**
 * Runs `source` with a signal that fires as soon as the reader leaves. A plain async generator would not do: its
 * return() waits for the next value, and on a quiet source that may be never.
 */
export function abortable<Value>(source: (signal: AbortSignal) => AsyncIterable<Value>): AsyncIterableIterator<Value> {
  const leaving = new AbortController();
  const iterator = source(leaving.signal)[Symbol.asyncIterator]();
  const ended: IteratorReturnResult<undefined> = { done: true, value: undefined };

  return {
    async next() {
      if (leaving.signal.aborted) return ended;
      try {
        return await iterator.next();
      } catch (thrown) {
        // What a source throws because it was told to stop is nobody's error.
        if (leaving.signal.aborted) return ended;
        throw thrown;
      }
    },
    async return() {
      leaving.abort();
      // Not awaited: it settles once the source has seen the signal, and nobody is left to be told how.
      iterator.return?.().catch(() => undefined);
      return ended;
    },
    [Symbol.asyncIterator]() {
      return this;
    },
  };
}
