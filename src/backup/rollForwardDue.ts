/**
 * Whether a full backup is to be made of an instance's newest one and the log behind it, so that recoveries have less log
 * to replay. Pure: no I/O, no clock.
 */
import type { Instant } from '../instant.js';

export interface RollFacts {
  /** Plain bytes of the newest full backup of the growing log, and of the log behind it. */
  backupBytes: number;
  logBytes: number;
  /** When the last one was begun, whatever became of it; null where there was none. */
  lastBegunAt: Instant | null;
  now: Instant;
  /** On the file system of the service's home. */
  freeBytes: number;
}

export type RollVerdict = 'due' | 'little log' | 'lately' | 'no room';

const DAY = 24 * 3_600 * 1_000_000;
const GIB = 2 ** 30;

/** The same work is saved by every recovery afterwards, so it is worth doing once; not again and again. */
export function rollVerdict({ backupBytes, logBytes, lastBegunAt, now, freeBytes }: RollFacts): RollVerdict {
  if (logBytes <= backupBytes) return 'little log';
  if (lastBegunAt !== null && now - lastBegunAt < DAY) return 'lately';
  // The database while it is made, which may have grown, and what is stored of it; some replayed log.
  return freeBytes < 4 * backupBytes + GIB ? 'no room' : 'due';
}
