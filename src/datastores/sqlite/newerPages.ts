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
import { closeSync, openSync, readSync } from 'node:fs';
import path from 'node:path';
import { writeWholeSync } from '../durable.js';
import { SpareBuffers } from '../spareBuffers.js';
import { Turns } from '../turns.js';
import { PageSet } from './pageSet.js';

/** Pages are written in batches that stay in the processor's cache on the way; none is longer than half of one. */
const batchBytes = 128 << 10;
/** While another thread writes, a batch grows up to this: to wait for the other would cost more than the writing. */
const batchAtMost = 2 * batchBytes;
/** Of the index, read or written at once: 16 MiB of a database with pages of 4 KiB. */
const indexWindowBytes = 16 << 10;
/** Pages whose places wait for being written into the index. */
const unplacedAtMost = 1 << 16;
const unplacedSpaces = new SpareBuffers(
  unplacedAtMost * (Float64Array.BYTES_PER_ELEMENT + Uint32Array.BYTES_PER_ELEMENT),
  2,
);

export interface PageFiles {
  pages: string;
  index: string;
  pageSize: number;
}

/** What threads need that put pages into the same file. */
export interface SharedPages {
  file: string;
  pageSize: number;
  /** How many places were given away. */
  places: SharedArrayBuffer;
  turns: SharedArrayBuffer;
}

/** Page numbers, and where each one's content was put. */
export interface PlacedPages {
  numbers: Uint32Array;
  places: Uint32Array;
}

/** On each thread, which gathers a few segments at the most. */
const batches = new SpareBuffers(batchAtMost, 8);

/** Appends pages to the file that all share, and remembers where. To be closed. */
export class PageAppender {
  private readonly batch = batches.take();
  private readonly places: Int32Array;
  private readonly turns: Turns;
  private batched = 0;
  private readonly numbers: number[] = [];
  private readonly at: number[] = [];

  constructor(
    private readonly file: number,
    private readonly shared: SharedPages,
  ) {
    this.places = new Int32Array(shared.places);
    this.turns = new Turns(shared.turns);
  }

  append(page: number, content: Uint8Array): void {
    const needed = this.batched + content.length;
    if (needed > batchBytes && !this.turns.tryToTake(() => this.write()) && needed > batchAtMost) this.flush();
    this.batch.set(content, this.batched);
    this.batched += content.length;
    this.numbers.push(page);
  }

  /** Everything that was appended since the last end(). */
  end(): PlacedPages {
    this.flush();
    return { numbers: Uint32Array.from(this.numbers.splice(0)), places: Uint32Array.from(this.at.splice(0)) };
  }

  close(): void {
    batches.give(this.batch);
  }

  private flush(): void {
    this.turns.take(() => this.write());
  }

  private write(): void {
    const { pageSize } = this.shared;
    const count = this.batched / pageSize;
    const start = Atomics.add(this.places, 0, count);
    writeWholeSync(this.file, this.batch.subarray(0, this.batched), start * pageSize);
    for (let i = 1; i <= count; i++) this.at.push(start + i);
    this.batched = 0;
  }
}

export class NewerPages {
  private set: PageSet | null = null;
  private readonly pages: number;
  private readonly index: number;
  private readonly entry = Buffer.alloc(4);
  private readonly indexWindow = Buffer.alloc(indexWindowBytes);
  private readonly own: PageAppender;
  readonly shared: SharedPages;
  private count = 0;
  private open = true;
  /** Page numbers, each times `unplacedAtMost` and with its slot in `places` added, so that they can be sorted as they are. */
  private readonly unplaced: Float64Array;
  private readonly places: Uint32Array;
  private readonly unplacedSpace = unplacedSpaces.take();
  private unplacedPages = 0;

  constructor(
    private readonly directory: string,
    readonly pageSize: number,
  ) {
    const { pages, index } = this.files;
    const { buffer } = this.unplacedSpace;
    this.unplaced = new Float64Array(buffer, 0, unplacedAtMost);
    this.places = new Uint32Array(buffer, this.unplaced.byteLength, unplacedAtMost);
    this.shared = { file: pages, pageSize, places: new SharedArrayBuffer(4), turns: Turns.shared() };
    this.pages = openSync(pages, 'w+', 0o600);
    this.index = openSync(index, 'w+', 0o600);
    this.own = new PageAppender(this.pages, this.shared);
  }

  get files(): PageFiles {
    const { directory, pageSize } = this;
    return { pages: path.join(directory, 'newer.pages'), index: path.join(directory, 'newer.index'), pageSize };
  }

  /** The size of the database in pages, to be said before the first page; only the first call counts. */
  limitTo(dbPages: number): void {
    this.set ??= new PageSet(dbPages);
  }

  get dbPages(): number {
    return this.set?.pages ?? 0;
  }

  has(page: number): boolean {
    return this.set?.has(page) ?? false;
  }

  /** Keeps those of the versions, which threads have put into the file, that no newer one was kept of. */
  keep({ numbers, places }: PlacedPages): void {
    for (let i = 0; i < numbers.length; i++) {
      const page = numbers[i] ?? 0;
      if (this.claim(page)) this.place(page, places[i] ?? 0);
    }
  }

  /** True where there is no newer version of the page; its content is to follow before flush(). */
  claim(page: number): boolean {
    return this.set?.add(page) ?? false;
  }

  /** The content of a page that was claimed. */
  put(page: number, content: Uint8Array): void {
    this.own.append(page, content);
  }

  /** To be called after the last page; get(), groups() and PagePatch see everything only then. */
  flush(): void {
    const { numbers, places } = this.own.end();
    for (const [i, page] of numbers.entries()) this.place(page, places[i] ?? 0);
    this.writeIndex();
  }

  private place(page: number, place: number): void {
    const slot = this.unplacedPages++;
    this.unplaced[slot] = page * unplacedAtMost + slot;
    this.places[slot] = place;
    this.count += 1;
    if (this.unplacedPages === unplacedAtMost) this.writeIndex();
  }

  /** A window of the index at a time: an entry at a time would be a system call for each page. */
  private writeIndex(): void {
    const { indexWindow, index, places } = this;
    const sorted = this.unplaced.subarray(0, this.unplacedPages).sort();
    const at = (i: number) => 4 * Math.floor((sorted[i] ?? 0) / unplacedAtMost);
    for (let i = 0; i < sorted.length; ) {
      const start = at(i) - (at(i) % indexWindowBytes);
      const known = readUpTo(index, indexWindow, start);
      indexWindow.fill(0, known);
      let end = known;
      for (; i < sorted.length && at(i) < start + indexWindowBytes; i++) {
        indexWindow.writeUInt32LE(places[(sorted[i] ?? 0) % unplacedAtMost] ?? 0, at(i) - start);
        end = Math.max(end, at(i) - start + 4);
      }
      writeWholeSync(index, indexWindow.subarray(0, end), start);
    }
    this.unplacedPages = 0;
  }

  /** How many pages there are. */
  get size(): number {
    return this.count;
  }

  /** All page numbers in rising order, at most `atOnce` at a time. Not before flush(). */
  *groups(atOnce: number): Generator<number[]> {
    let group: number[] = [];
    for (let page = 1; page <= this.dbPages; page++) {
      if (!this.has(page)) continue;
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

  /** Lets go of the files, which go with their directory: removing them here would hold up the service's thread. */
  close(): void {
    if (this.open) {
      this.own.close();
      unplacedSpaces.give(this.unplacedSpace);
      closeSync(this.pages);
      closeSync(this.index);
    }
    this.open = false;
  }
}

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
      const part = bytes.subarray(from - at, to - at);
      const read = readUpTo(this.pages, part, (place - 1) * pageSize + from - start);
      if (read < part.length) throw new Error(`the newer version of page ${page} or one behind it is cut short`);
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

/** Answers with how many bytes there were. */
function readUpTo(file: number, bytes: Uint8Array, at: number): number {
  for (let done = 0; done < bytes.length; ) {
    const read = readSync(file, bytes, done, bytes.length - done, at + done);
    if (read === 0) return done;
    done += read;
  }
  return bytes.length;
}
