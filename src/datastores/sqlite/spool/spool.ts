/**
 * Captured log on its way to the archive, in a directory of the instance. A piece is three files: `.frames` grows with
 * the log, `.index` has a line with its own checksum for each epoch, for the page numbers of frames that were written
 * together and for the transactions of each look, and `.json`, which appears by a rename, seals the two. Nothing is
 * synchronised to disk: a killed process loses nothing, and after a crash of the machine the checksums decide how much of
 * a piece is left.
 */
import { type FileHandle, mkdir, open, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { crc32 } from 'node:zlib';
import type { Continuation } from '../formats/continuation.js';
import type { SegmentEpoch } from '../formats/segmentFormat.js';
import { frameBytes, framePage } from '../formats/walFormat.js';
import { writeAt } from '../source/atOnce.js';

/** A finished piece; plain data, for it crosses from one process to the other. */
export interface SealedSegment {
  /** Path of its files without their endings. */
  file: string;
  generation: number;
  /** Ordinals: it holds the transactions in (after, last]. */
  after: number;
  last: number;
  /** Size of its frames. */
  bytes: number;
  coveredTo: number;
  continuation: Continuation;
}

/** A line of an index. */
export type IndexLine =
  | { pageSize: number; generation: number; after: number }
  | { epoch: SegmentEpoch }
  /** Of the next frames: u32, little-endian, in base64. */
  | { pages: string }
  | { look: Look };

/** The transactions that one look found, or some of them: all have the same times. */
export interface Look {
  tLo: number;
  tHi: number;
  /** Of each transaction, see SegmentTransaction. */
  dbPages: number[];
  frames: number[];
}

/** Only a huge transaction makes a piece larger; its page numbers are left to be read from its frames. */
const indexedBytes = 64 << 20;

export class OpenSegment {
  private transactions = 0;
  private pageCount = 0;
  private pendingLines = '';
  /** What is to be a line of its own after the pending ones. */
  private look: Look | null = null;
  private indexBytes = 0;

  private constructor(
    private readonly file: string,
    private readonly framesFile: FileHandle,
    private readonly indexFile: FileHandle,
    readonly generation: number,
    readonly after: number,
    private readonly pageSize: number,
    /** When it was opened, by the monotonic counter, to seal by age. */
    readonly openedAt: number,
  ) {}

  static async create(directory: string, generation: number, after: number, pageSize: number): Promise<OpenSegment> {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const file = path.join(directory, `${generation}-${after}`);
    const framesFile = await open(`${file}.frames`, 'w', 0o600);
    const indexFile = await open(`${file}.index`, 'w', 0o600).catch(async (error) => {
      await framesFile.close();
      throw error;
    });
    const segment = new OpenSegment(file, framesFile, indexFile, generation, after, pageSize, performance.now());
    segment.line({ pageSize, generation, after });
    return segment;
  }

  get last(): number {
    return this.after + this.transactions;
  }

  /** Plain bytes so far, without the head. */
  get bytes(): number {
    return this.pageCount * frameBytes(this.pageSize);
  }

  /** Says to which life of the WAL the next frames belong. */
  startEpoch(epoch: Omit<SegmentEpoch, 'firstFrame'>): void {
    const whole = { ...epoch, sum: { ...epoch.sum }, firstFrame: this.pageCount };
    this.endLook();
    this.line({ epoch: whole });
  }

  /** Adds whole frames; they count once the transaction that they belong to is committed and the index flushed. */
  async append(frames: Buffer): Promise<void> {
    await writeAt(this.framesFile, frames, this.bytes);
    if (this.bytes < indexedBytes) this.line({ pages: pagesOf(frames, frameBytes(this.pageSize)) });
    this.pageCount += frames.length / frameBytes(this.pageSize);
  }

  /** The transaction that the last `frames` frames are, see SegmentTransaction. */
  commit({ tLo, tHi }: Pick<Look, 'tLo' | 'tHi'>, dbPages: number, frames: number): void {
    if (this.look?.tLo !== tLo || this.look.tHi !== tHi) {
      this.endLook();
      this.look = { tLo, tHi, dbPages: [], frames: [] };
    }
    this.look.dbPages.push(dbPages);
    this.look.frames.push(frames);
    this.transactions++;
  }

  /** Makes what was committed survive this process. */
  async flush(): Promise<void> {
    this.endLook();
    if (this.pendingLines === '') return;
    const bytes = Buffer.from(this.pendingLines);
    await writeAt(this.indexFile, bytes, this.indexBytes);
    this.pendingLines = '';
    this.indexBytes += bytes.length;
  }

  /** Null where it holds no whole transaction; it is removed then. */
  async seal(coveredTo: number, continuation: Continuation): Promise<SealedSegment | null> {
    await this.flush();
    await this.close();
    const { file, generation, after, last, bytes } = this;
    if (this.transactions === 0) {
      await discardSegment(file);
      return null;
    }
    return writeSeal({ file, generation, after, last, bytes, coveredTo, continuation });
  }

  async close(): Promise<void> {
    await this.framesFile.close();
    await this.indexFile.close();
  }

  /** Closes and removes it. */
  async discard(): Promise<void> {
    await this.close().catch(() => {});
    await discardSegment(this.file);
  }

  /** A line for each transaction would cost more than all else that is done with small ones. */
  private endLook(): void {
    if (this.look) this.line({ look: this.look });
    this.look = null;
  }

  private line(content: IndexLine): void {
    const json = JSON.stringify(content);
    this.pendingLines += `${crc32(json)} ${json}\n`;
  }
}

function pagesOf(frames: Buffer, size: number): string {
  const pages = Buffer.allocUnsafe((4 * frames.length) / size);
  for (let at = 0, to = 0; at < frames.length; at += size) to = pages.writeUInt32LE(framePage(frames, at), to);
  return pages.toString('base64');
}

export async function discardSegment(file: string): Promise<void> {
  // The seal goes last: without its frames it would be a lie, without the seal the rest is only rubbish.
  for (const ending of ['.index', '.frames', '.json']) await rm(`${file}${ending}`, { force: true });
}

/** Nothing is added to it any more. */
export async function writeSeal(sealed: SealedSegment): Promise<SealedSegment> {
  await writeFile(`${sealed.file}.json.part`, JSON.stringify({ ...sealed, file: undefined }), { mode: 0o600 });
  await rename(`${sealed.file}.json.part`, `${sealed.file}.json`);
  return sealed;
}
