/** Seeded random numbers for tests: mulberry32, public domain, by Tommy Ettinger. */
export class Random {
  constructor(private state: number) {}

  /** In [0, 1). */
  next(): number {
    this.state = (this.state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this.state ^ (this.state >>> 15), 1 | this.state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  }

  /** A whole number in [0, limit). */
  below(limit: number): number {
    return Math.floor(this.next() * limit);
  }
}

/** A fixed seed, and a fresh one that the test's name prints so that a failure can be repeated: PITR_TEST_SEED=… */
export function seeds(fixed: number): number[] {
  const given = process.env.PITR_TEST_SEED;
  return given ? [Number(given)] : [fixed, Math.floor(Math.random() * 2 ** 31)];
}
