/** Lets calls through to a set of asynchronous methods while it is open, and knows when the last one has come back. */

export interface Gate<T> {
  readonly methods: T;
  /** Refuses every later call; resolves when those under way have settled, with how many they were. */
  close(): Promise<number>;
}

/**
 * @param order whether calls may overlap; a transaction's must not, since one connection serves them all
 * @param refusal what a call after the closing is rejected with
 */
export function gate<T extends object>(methods: T, order: 'overlapping' | 'one-by-one', refusal: () => Error): Gate<T> {
  const underWay = new Set<Promise<unknown>>();
  let last: Promise<unknown> = Promise.resolve();
  let open = true;

  function call(method: (...args: unknown[]) => Promise<unknown>, args: unknown[]): Promise<unknown> {
    if (!open) return Promise.reject(refusal());
    const turn = order === 'overlapping' ? Promise.resolve() : last;
    const result = turn.then(() => method(...args));
    // Registered before the caller can wait for the result: what the caller has waited for is no longer under way.
    const settled: Promise<unknown> = result.then(
      () => underWay.delete(settled),
      () => underWay.delete(settled),
    );
    underWay.add(settled);
    last = settled;
    return result;
  }

  return {
    methods: new Proxy(methods, {
      get(target, name, receiver) {
        const method = Reflect.get(target, name, receiver);
        return typeof method === 'function' ? (...args: unknown[]) => call(method as never, args) : method;
      },
    }),
    async close() {
      open = false;
      const count = underWay.size;
      await Promise.all(underWay);
      return count;
    },
  };
}
