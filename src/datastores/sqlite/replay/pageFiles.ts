/**
 * The files of newerPages:
 *
 *   pages   the pages' content, one after another
 *   index   u32 little-endian at 4 * page number: where in `pages` it is, counted in pages from 1; zero or nothing: not there
 *
 * Both belong to one recovery in one process and are not synced: after a crash they are gathered again.
 */
import { readSync } from 'node:fs';

/** Of the index, read or written at once: 16 MiB of a database with pages of 4 KiB. */
export const indexWindowBytes = 16 << 10;

export interface PageFiles {
  pages: string;
  index: string;
  pageSize: number;
}

/**
 * Reads what lies at `at` into `bytes` from `from` up to `to`: a part of the buffer for each page would be one more object
 * for the collector. Answers with how many bytes there were.
 */
export function readUpTo(file: number, bytes: Uint8Array, at: number, from = 0, to = bytes.length): number {
  for (let filled = from; filled < to; ) {
    const read = readSync(file, bytes, filled, to - filled, at + filled - from);
    if (read === 0) return filled - from;
    filled += read;
  }
  return to - from;
}
