/** Values that nobody expects, by a seeded random. */
import type { seeded } from '../seed.js';

export class Dice {
  constructor(readonly next: ReturnType<typeof seeded>) {}

  /** From 0 to below `limit`. */
  below(limit: number): number {
    return Math.floor(this.next() * limit);
  }

  chance(probability: number): boolean {
    return this.next() < probability;
  }

  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)] as T;
  }
}

const STRANGE_TEXTS = [
  '',
  ' ',
  '.',
  '..',
  '../../etc/passwd',
  '\u0000',
  '\ud800',
  '\udfff\ud800',
  'a\u202eb',
  '\ufeff',
  '💥',
  'é'.repeat(300),
  "'; DROP TABLE instance; --",
  '%00',
  '{{7*7}}',
  '__proto__',
  'constructor',
  'toString',
  '2026-11-22T12:00:00Z',
  '2026-11-22T12:00:00',
  '9999-12-31T23:59:60Z',
  '0001-01-01T00:00:00.1234567Z',
  'sqlite:///etc/passwd',
  'sqlite://../x',
  'postgresql://u:secret@169.254.169.254/db',
  'postgresql://u:secret@[fd00:ec2::254]/db?sslmode=disable',
  'postgresql://u@a,b/db',
  'postgresql://',
  '0/16B3748',
  '1/1',
  'x'.repeat(5_000),
];

export function strangeText(dice: Dice): string {
  if (dice.chance(0.7)) return dice.pick(STRANGE_TEXTS);
  const length = dice.below(40);
  return Array.from({ length }, () => String.fromCharCode(dice.below(dice.chance(0.5) ? 128 : 65_536))).join('');
}

const STRANGE_NUMBERS = [
  0,
  -0,
  -1,
  1,
  500,
  501,
  2 ** 31,
  -(2 ** 31),
  2 ** 53,
  1e308,
  -1e308,
  0.1,
  1e-300,
  12345678901234567000,
];

/** Any JSON value; `depth` bounds how it nests. */
export function strangeJson(dice: Dice, depth = 4): unknown {
  const kind = dice.below(depth > 0 ? 8 : 6);
  if (kind === 0) return null;
  if (kind === 1) return dice.chance(0.5);
  if (kind <= 3) return dice.pick(STRANGE_NUMBERS);
  if (kind <= 5) return strangeText(dice);
  const length = dice.below(dice.chance(0.02) ? 200 : 4);
  if (kind === 6) return Array.from({ length }, () => strangeJson(dice, depth - 1));
  return Object.fromEntries(Array.from({ length }, () => [strangeText(dice), strangeJson(dice, depth - 1)]));
}

/** A text with some of it cut, doubled or replaced. */
export function damaged(dice: Dice, text: string): string {
  let result = text;
  for (let left = 1 + dice.below(4); left > 0; left--) {
    const at = dice.below(result.length + 1);
    const to = at + dice.below(10);
    const act = dice.below(4);
    if (act === 0) result = result.slice(0, at);
    if (act === 1) result = result.slice(0, at) + result.slice(to);
    if (act === 2) result = result.slice(0, to) + result.slice(at);
    if (act === 3)
      result =
        result.slice(0, at) + dice.pick([...'{}()[]:!$@"\\|=&#,', '...', '"""', strangeText(dice)]) + result.slice(at);
  }
  return result;
}
