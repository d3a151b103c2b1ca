/** Work on many things side by side, with what has to be done in their order done in it. */

/**
 * Runs `work` on every item, at most `width` at a time. `inTurn` runs a piece of work in the order of the items, each
 * after the one before it. The first error ends all, and what runs has ended before it is thrown.
 */
export async function inParallel<T>(
  items: AsyncIterable<T> | Iterable<T>,
  width: number,
  work: (item: T, inTurn: <R>(step: () => R) => Promise<R>) => Promise<void>,
): Promise<void> {
  const running = new Set<Promise<void>>();
  let failure: { error: unknown } | null = null;
  let turn: Promise<void> = Promise.resolve();
  try {
    for await (const item of items) {
      const before = turn;
      let passOn: (failed?: unknown) => void = () => {};
      turn = new Promise((resolve) => {
        passOn = () => resolve();
      });
      const inTurn = async <R>(step: () => R): Promise<R> => {
        await before;
        if (failure) throw failure.error;
        try {
          return step();
        } finally {
          passOn();
        }
      };
      const task = work(item, inTurn)
        .catch((error) => {
          failure ??= { error };
        })
        .finally(() => {
          // Work that failed before its turn must not hold up the others.
          void before.then(passOn);
          running.delete(task);
        });
      running.add(task);
      if (running.size >= width) await Promise.race(running);
      if (failure) break;
    }
  } catch (error) {
    failure ??= { error };
  }
  await Promise.all(running);
  if (failure) throw (failure as { error: unknown }).error;
}
