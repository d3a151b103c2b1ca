/** A piece of captured log that still grows. */
import { type FileHandle, mkdir, open, rm } from 'node:fs/promises';
import path from 'node:path';
import { BLOCK_BYTES, BLOCK_HEADER_BYTES } from '../../../blocks/blockFormat.js';
import { SpareBuffers } from '../../spareBuffers.js';
import type { Continuation } from '../formats/continuation.js';
import type { SegmentEpoch } from '../formats/segmentFormat.js';
import { frameBytes } from '../formats/walFormat.js';
import { writeAt } from '../source/atOnce.js';
import { completePiece } from './completePiece.js';
import { encodedPages, framesPerBlock, type IndexLine, indexLine, type Look, readIndex } from './pieceIndex.js';
import { discardSegment, type SealedSegment, writeSeal } from './spool.js';
import { packInto, type SpooledBlock } from './spooledBlocks.js';

/** For the blocks of frames that are written together. */
const rooms = new SpareBuffers(1 << 20, 2);
/** For frames that do not fill a block yet; few pieces grow at the same time. */
const tails = new SpareBuffers(BLOCK_BYTES, 4);
/** Only a huge transaction has so much to be told of it before it is committed. */
const fullLines = 1 << 20;

export class OpenSegment {
  private transactions = 0;
  /** Of these transactions. */
  private committedFrames = 0;
  /** Of all, also those of a transaction that did not end yet. */
  private frames = 0;
  private storedBytes = 0;
  /** The frames that follow the blocks, written raw in one of two places in turn: what the index tells of stays. */
  private readonly tail = tails.take();
  private tailFrames = 0;
  private tailPlace: 0 | 1 = 0;
  private tailWritten = 0;
  private indexedPlace: 0 | 1 = 0;
  private pendingLines = '';
  private pendingLooks: Look[] = [];
  private indexBytes = 0;
  /** All its frames are blocks … */
  private packed = false;
  /** … and only those of whole transactions, and only the seal is missing. */
  private complete = false;
  private closed = false;
  private readonly size: number;
  private readonly perBlock: number;

  private constructor(
    private readonly file: string,
    private readonly handles: Record<'blocks' | 'frames' | 'index', FileHandle>,
    readonly generation: number,
    readonly after: number,
    pageSize: number,
    /** When it was opened, by the monotonic counter, to seal by age. */
    readonly openedAt: number,
  ) {
    this.size = frameBytes(pageSize);
    this.perBlock = framesPerBlock(pageSize);
  }

  static async create(directory: string, generation: number, after: number, pageSize: number): Promise<OpenSegment> {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const file = path.join(directory, `${generation}-${after}`);
    const opened: FileHandle[] = [];
    const fresh = async (ending: string) => {
      const handle = await open(`${file}${ending}`, 'w', 0o600);
      opened.push(handle);
      return handle;
    };
    try {
      // Of a piece that began at the same place and was removed but for its seal.
      await rm(`${file}.json`, { force: true });
      const handles = { blocks: await fresh('.blocks'), frames: await fresh('.frames'), index: await fresh('.index') };
      const segment = new OpenSegment(file, handles, generation, after, pageSize, performance.now());
      segment.line({ pageSize, generation, after, perBlock: segment.perBlock });
      return segment;
    } catch (error) {
      for (const handle of opened) await handle.close();
      throw error;
    }
  }

  get last(): number {
    return this.after + this.transactions;
  }

  /** Plain bytes so far, without the head. */
  get bytes(): number {
    return this.frames * this.size;
  }

  /** Says to which life of the WAL the next frames belong. */
  startEpoch(epoch: Omit<SegmentEpoch, 'firstFrame'>): void {
    this.line({ epoch: { ...epoch, sum: { ...epoch.sum }, firstFrame: this.frames } });
  }

  /**
   * Adds whole frames; they count once the transaction that they belong to is committed and the index flushed. Where it fails,
   * none was added.
   */
  async append(frames: Buffer): Promise<void> {
    if (this.pendingLines.length > fullLines) await this.writeLines();
    const { size, perBlock } = this;
    const count = frames.length / size;
    const full = Math.floor((this.tailFrames + count) / perBlock);
    const taken = full === 0 ? 0 : full * perBlock - this.tailFrames;
    if (full > 0) {
      const blocks = await this.writeBlocks(full, frames);
      this.line({ blocks });
      this.tailFrames = 0;
      this.tailWritten = 0;
      this.tailPlace = this.indexedPlace === 0 ? 1 : 0;
    }
    frames.copy(this.tail, this.tailFrames * size, taken * size);
    this.tailFrames += count - taken;
    this.frames += count;
    this.line({ pages: encodedPages(frames, size) });
  }

  /** The transaction that the last `frames` frames are, see SegmentTransaction. */
  commit({ tLo, tHi }: Pick<Look, 'tLo' | 'tHi'>, dbPages: number, frames: number): void {
    let look = this.pendingLooks.at(-1);
    // A line for each transaction would cost more than all else that is done with small ones.
    if (look?.tLo !== tLo || look.tHi !== tHi) {
      look = { tLo, tHi, dbPages: [], frames: [] };
      this.pendingLooks.push(look);
    }
    look.dbPages.push(dbPages);
    look.frames.push(frames);
    this.transactions++;
    this.committedFrames += frames;
  }

  /** Makes what was committed survive this process. */
  async flush(): Promise<void> {
    if (this.pendingLines === '' && this.pendingLooks.length === 0) return;
    const { tail, tailWritten, tailFrames, tailPlace, size } = this;
    const place = tailPlace * this.perBlock * size;
    if (tailFrames > tailWritten) {
      const fresh = tail.subarray(tailWritten * size, tailFrames * size);
      await writeAt(this.handles.frames, fresh, place + tailWritten * size);
    }
    if (tailPlace !== this.indexedPlace) this.line({ tail: place });
    for (const look of this.pendingLooks) this.line({ look });
    this.pendingLooks = [];
    await this.writeLines();
    this.indexedPlace = tailPlace;
    this.tailWritten = tailFrames;
  }

  /** Null where it holds no whole transaction; it is removed then. */
  async seal(coveredTo: number, continuation: Continuation): Promise<SealedSegment | null> {
    const { file, generation, after, last } = this;
    if (this.transactions === 0) {
      await this.discard();
      return null;
    }
    if (!this.complete) await this.finish();
    const bytes = this.storedBytes + this.indexBytes;
    return writeSeal({ file, generation, after, last, bytes, coveredTo, continuation });
  }

  async close(): Promise<void> {
    const closing = await Promise.allSettled(Object.values(this.handles).map((handle) => handle.close()));
    if (!this.closed) tails.give(this.tail);
    this.closed = true;
    for (const each of closing) if (each.status === 'rejected') throw each.reason;
  }

  /** Closes and removes it. */
  async discard(): Promise<void> {
    await this.close().catch(() => {});
    await discardSegment(this.file);
  }

  private async finish(): Promise<void> {
    const inBlocks = this.frames - this.tailFrames;
    if (!this.packed) {
      await this.flush();
      if (this.committedFrames >= inBlocks) await this.writeLast(this.committedFrames - inBlocks);
      this.packed = true;
    }
    await this.close();
    // There are blocks of a transaction whose end never came.
    if (this.committedFrames < inBlocks) this.storedBytes = await completePiece(this.file, await readIndex(this.file));
    this.complete = true;
    // Only room on the disk: it goes with the piece at the latest.
    await rm(`${this.file}.frames`, { force: true }).catch(() => {});
  }

  /** The tail and what of `frames` fills blocks with it. */
  private async writeBlocks(count: number, frames: Buffer): Promise<SpooledBlock[]> {
    const bytes = this.perBlock * this.size;
    const blocks: SpooledBlock[] = [];
    const room = rooms.take();
    try {
      let written = 0;
      let filled = 0;
      for (let i = 0, from = 0; i < count; i++) {
        let plain = frames.subarray(from, from + bytes);
        if (i === 0 && this.tailFrames > 0) {
          const had = this.tailFrames * this.size;
          plain = this.tail.subarray(0, bytes);
          frames.copy(plain, had);
          from -= had;
        }
        from += bytes;
        if (filled + BLOCK_HEADER_BYTES + BLOCK_BYTES > room.length) {
          await writeAt(this.handles.blocks, room.subarray(0, filled), this.storedBytes + written);
          written += filled;
          filled = 0;
        }
        const block = packInto(room, filled, plain);
        blocks.push(block);
        filled += block.bytes;
      }
      await writeAt(this.handles.blocks, room.subarray(0, filled), this.storedBytes + written);
      this.storedBytes += written + filled;
    } finally {
      rooms.give(room);
    }
    return blocks;
  }

  /** The first frames of the tail, which do not fill a block, as the last one. */
  private async writeLast(frames: number): Promise<void> {
    if (frames === 0) return;
    const room = rooms.take();
    try {
      const block = packInto(room, 0, this.tail.subarray(0, frames * this.size));
      await writeAt(this.handles.blocks, room.subarray(0, block.bytes), this.storedBytes);
      const lines = this.pendingLines;
      this.line({ last: { at: this.storedBytes, ...block } });
      await this.writeLines().catch((error) => {
        // It is tried again.
        this.pendingLines = lines;
        throw error;
      });
      this.storedBytes += block.bytes;
    } finally {
      rooms.give(room);
    }
  }

  private async writeLines(): Promise<void> {
    const bytes = Buffer.from(this.pendingLines);
    await writeAt(this.handles.index, bytes, this.indexBytes);
    this.pendingLines = '';
    this.indexBytes += bytes.length;
  }

  private line(content: IndexLine): void {
    this.pendingLines += indexLine(content);
  }
}
