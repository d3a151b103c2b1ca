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

/** Answers with how many bytes there were. */
export function readUpTo(file: number, bytes: Uint8Array, at: number): number {
  for (let done = 0; done < bytes.length; ) {
    const read = readSync(file, bytes, done, bytes.length - done, at + done);
    if (read === 0) return done;
    done += read;
  }
  return bytes.length;
}
