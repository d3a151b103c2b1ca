/** Where in a WAL a capture stopped: enough to tell, later, whether the WAL found then goes on exactly there. */
import { z } from 'zod';
import type { WalSum } from './walFormat.js';

export interface Continuation {
  version: 1;
  pageSize: number;
  salt1: number;
  salt2: number;
  /** Frames of that WAL that are captured; the checksum after the last of them says what they were. */
  frames: number;
  sum: WalSum;
  /** The greatest instant given to a transaction or told as covered, microseconds; times never fall below it again. */
  axis: number;
}

const word = z.number().int().min(0).max(0xffff_ffff);
const schema = z.object({
  version: z.literal(1),
  pageSize: word,
  salt1: word,
  salt2: word,
  frames: word,
  sum: z.object({ a: word, b: word }),
  axis: z.number().int().nonnegative(),
});

/** What an archive gives back, or null where it is none of this version's: then capture starts anew. */
export function parseContinuation(stored: unknown): Continuation | null {
  const parsed = schema.safeParse(stored);
  return parsed.success ? parsed.data : null;
}
