/**
 * The pages that take the place of a base's, gathered newest first: only the first version that is added of a page is
 * kept. Their content is on disk in the order in which it came, with an index by page number beside it, so that memory
 * stays small for databases of any size: one bit a page. Filled by this and by pageAppender, read by this and by pagePatch.
 */
import { closeSync, openSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { writeWholeSync } from '../../durable.js';
import { SpareBuffers } from '../../spareBuffers.js';
import { Turns } from '../../turns.js';
import { PageAppender, type PlacedPages, type SharedPages } from './pageAppender.js';
import { indexWindowBytes, type PageFiles, readUpTo } from './pageFiles.js';
import { PageSet } from './pageSet.js';

/** Pages whose places wait for being written into the index. */
const unplacedAtMost = 1 << 16;
const unplacedSpaces = new SpareBuffers(
  unplacedAtMost * (Float64Array.BYTES_PER_ELEMENT + Uint32Array.BYTES_PER_ELEMENT),
  2,
);

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
  put(page: number, content: Buffer): void {
    this.own.append([page], content);
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

  /** Of a large database the system takes a while for it, on a thread of its own. */
  async remove(): Promise<void> {
    this.close();
    const { pages, index } = this.files;
    await Promise.all([rm(pages, { force: true }), rm(index, { force: true })]);
  }

  /** Lets go of the files, which go with their directory. */
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
