/**
 * The pages that take the place of a base's, gathered newest first: only the first version that is added of a page is
 * kept. Their content is on disk in the order in which it came, with an index by page number beside it, so that memory
 * stays small for databases of any size: one bit a page.
 *
 *   pages   the pages' content, one after another
 *   index   u32 little-endian at 4 * page number: where in `pages` it is, counted in pages from 1; zero or nothing: not there
 *
 * Both belong to one recovery in one process and are not synced: after a crash they are gathered again.
 */
import { closeSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import path from 'node:path';
import { PageSet } from './pageSet.js';

/** Pages are written in pieces that stay in the processor's cache on the way. */
const batchBytes = 128 << 10;

export interface PageFiles {
  pages: string;
  index: string;
  pageSize: number;
}

export class NewerPages {
  private readonly set: PageSet;
  private readonly pages: number;
  private readonly index: number;
  private readonly batch: Buffer;
  private batched = 0;
  private count = 0;
  private readonly entry = Buffer.alloc(4);
  private open = true;

  /** @param dbPages pages beyond this are not kept */
  constructor(
    private readonly directory: string,
    readonly pageSize: number,
    readonly dbPages: number,
  ) {
    this.set = new PageSet(dbPages);
    this.batch = Buffer.allocUnsafeSlow(Math.max(batchBytes, pageSize));
    this.pages = openSync(this.files.pages, 'w+', 0o600);
    this.index = openSync(this.files.index, 'w+', 0o600);
  }

  get files(): PageFiles {
    const { directory, pageSize } = this;
    return { pages: path.join(directory, 'newer.pages'), index: path.join(directory, 'newer.index'), pageSize };
  }

  has(page: number): boolean {
    return this.set.has(page);
  }

  /** True where this is the newest version of the page and its content is to follow. */
  claim(page: number): boolean {
    return this.set.add(page);
  }

  /** The content of a page that was claimed. */
  put(page: number, content: Uint8Array): void {
    if (this.batched + this.pageSize > this.batch.length) this.flush();
    this.batch.set(content, this.batched);
    this.batched += this.pageSize;
    this.count += 1;
    this.entry.writeUInt32LE(this.count);
    writeAll(this.index, this.entry, 4 * page);
  }

  flush(): void {
    writeAll(this.pages, this.batch.subarray(0, this.batched), this.count * this.pageSize - this.batched);
    this.batched = 0;
  }

  /** How many pages there are. */
  get size(): number {
    return this.count;
  }

  /** All page numbers in rising order, at most `atOnce` at a time. Not before flush(). */
  *groups(atOnce: number): Generator<number[]> {
    let group: number[] = [];
    for (let page = 1; page <= this.dbPages; page++) {
      if (!this.set.has(page)) continue;
      group.push(page);
      if (group.length < atOnce) continue;
      yield group;
      group = [];
    }
    if (group.length > 0) yield group;
  }

  /** Reads a page that is there. Not before flush(). */
  get(page: number, into: Uint8Array): void {
    readUpTo(this.index, this.entry, 4 * page);
    readUpTo(this.pages, into, (this.entry.readUInt32LE() - 1) * this.pageSize);
  }

  remove(): void {
    if (this.open) {
      closeSync(this.pages);
      closeSync(this.index);
    }
    this.open = false;
    rmSync(this.files.pages, { force: true });
    rmSync(this.files.index, { force: true });
  }
}

/** Puts newer pages over pieces of a database file. */
export class PagePatch {
  private readonly pages: number;
  private readonly index: number;
  private readonly pageSize: number;
  private entries = Buffer.alloc(0);

  constructor(files: PageFiles) {
    this.pageSize = files.pageSize;
    this.pages = openSync(files.pages, 'r');
    this.index = openSync(files.index, 'r');
  }

  /** Overwrites what is newer of the bytes that lie at `at` in the database file. */
  apply(bytes: Buffer, at: number): void {
    const { pageSize } = this;
    const first = Math.floor(at / pageSize) + 1;
    const last = Math.ceil((at + bytes.length) / pageSize);
    const wanted = 4 * (last - first + 1);
    if (this.entries.length < wanted) this.entries = Buffer.allocUnsafeSlow(wanted);
    const found = readUpTo(this.index, this.entries.subarray(0, wanted), 4 * first);
    for (let i = 0; i + 4 <= found; i += 4) {
      const place = this.entries.readUInt32LE(i);
      if (place === 0) continue;
      const start = (first + i / 4 - 1) * pageSize;
      const from = Math.max(start, at);
      const to = Math.min(start + pageSize, at + bytes.length);
      const part = bytes.subarray(from - at, to - at);
      const read = readUpTo(this.pages, part, (place - 1) * pageSize + from - start);
      if (read < part.length) throw new Error(`the newer version of page ${first + i / 4} is cut short`);
    }
  }

  close(): void {
    closeSync(this.pages);
    closeSync(this.index);
  }
}

export function writeAll(file: number, bytes: Uint8Array, at: number): void {
  for (let done = 0; done < bytes.length; ) done += writeSync(file, bytes, done, bytes.length - done, at + done);
}

/** Answers with how many bytes there were. */
function readUpTo(file: number, bytes: Uint8Array, at: number): number {
  for (let done = 0; done < bytes.length; ) {
    const read = readSync(file, bytes, done, bytes.length - done, at + done);
    if (read === 0) return done;
    done += read;
  }
  return bytes.length;
}
