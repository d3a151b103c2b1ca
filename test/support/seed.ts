/** Random cases that can be had again: a fixed seed always, and a fresh one that is printed. */
import type { TestContext } from 'node:test';

/** Numbers from 0 to 1, exclusive; mulberry32 (Tommy Ettinger, public domain). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A fixed seed and a fresh one, or only PITR_TEST_SEED where that is set. */
export function seeds(t: TestContext): number[] {
  if (process.env.PITR_TEST_SEED) return [Number(process.env.PITR_TEST_SEED)];
  const fresh = Math.floor(Math.random() * 2 ** 32);
  t.diagnostic(`to repeat: PITR_TEST_SEED=${fresh}`);
  return [1, fresh];
}
