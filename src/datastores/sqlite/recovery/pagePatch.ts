/** Reading of newerPages, on any thread: its pages put over pieces of a base. */
import { closeSync, openSync } from 'node:fs';
import { indexWindowBytes, type PageFiles, readUpTo } from '../replay/pageFiles.js';

/** Puts newer pages over pieces of a database file, best from its beginning to its end. */
export class PagePatch {
  private readonly pages: number;
  private readonly index: number;
  private readonly pageSize: number;
  private readonly entries = Buffer.alloc(indexWindowBytes);
  /** Number of the first page in `entries`, and how many there are; none yet where that is zero. */
  private window = { first: 0, count: 0 };
  /** How many newer pages were put, each counted with its first byte. */
  applied = 0;

  constructor(files: PageFiles) {
    this.pageSize = files.pageSize;
    this.pages = openSync(files.pages, 'r');
    this.index = openSync(files.index, 'r');
  }

  /** Overwrites what is newer of the bytes that lie at `at` in the database file. */
  apply(bytes: Buffer, at: number): void {
    const { pageSize } = this;
    const last = Math.ceil((at + bytes.length) / pageSize);
    for (let page = Math.floor(at / pageSize) + 1; page <= last; page++) {
      const place = this.placeOf(page);
      if (place === 0) continue;
      // Pages that were written in a row lie in a row.
      let count = 1;
      while (page + count <= last && this.placeOf(page + count) === place + count) count += 1;
      const start = (page - 1) * pageSize;
      const from = Math.max(start, at);
      const to = Math.min(start + count * pageSize, at + bytes.length);
      const read = readUpTo(this.pages, bytes, (place - 1) * pageSize + from - start, from - at, to - at);
      if (read < to - from) throw new Error(`the newer version of page ${page} or one behind it is cut short`);
      this.applied += from === start ? count : count - 1;
      page += count - 1;
    }
  }

  private placeOf(page: number): number {
    const { entries, window } = this;
    if (window.first === 0 || page < window.first || page >= window.first + indexWindowBytes / 4) {
      window.first = page;
      window.count = readUpTo(this.index, entries, 4 * page) >> 2;
    }
    const i = page - window.first;
    return i < window.count ? entries.readUInt32LE(4 * i) : 0;
  }

  close(): void {
    closeSync(this.pages);
    closeSync(this.index);
  }
}
