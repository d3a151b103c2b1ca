/** Gathers the look-ups of one moment into a single call, so that a nested query costs one call per level and not one per row. */

/**
 * A function of one key, backed by one of many. Calls made before the event loop turns share one call of `fetch`.
 * Nothing is remembered afterwards: an answer is never older than the moment it was asked for.
 */
export function batched<Value>(fetch: (keys: readonly string[]) => Promise<ReadonlyMap<string, Value>>) {
  let waiting: { keys: Set<string>; answer: Promise<ReadonlyMap<string, Value>> } | null = null;

  return async (key: string): Promise<Value | null> => {
    if (waiting === null) {
      const keys = new Set<string>();
      // After the promises that are already due: resolvers of one level settle in the same turn but not at once.
      const answer = new Promise<void>((resolve) => setImmediate(resolve)).then(() => {
        waiting = null;
        return fetch([...keys]);
      });
      waiting = { keys, answer };
    }
    waiting.keys.add(key);
    return (await waiting.answer).get(key) ?? null;
  };
}
