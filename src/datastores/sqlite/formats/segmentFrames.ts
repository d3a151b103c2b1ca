/** The frames of a segment after its head, proved one by one: page numbers, ends of transactions and the WAL's checksums. */
import type { ByteReader } from './byteReader.js';
import { fittingFrames } from './frameProver.js';
import { BadSegment, type SegmentHead } from './segmentFormat.js';
import { frameBytes, frameDbPages, framePage, type RunningSum, runningSum, type WalIdentity } from './walFormat.js';

/** Frames are proved so many bytes at a time; more than the largest one has. */
export const batchBytes = 1 << 20;

/** Whole frames, one after another, the first of them number `first` of the segment. */
export interface FrameBatch {
  first: number;
  count: number;
  bytes: Buffer;
}

/** Proves a segment's frames one after another against its head and the checksum chain before them. */
export class FrameProof {
  private readonly size: number;
  private epochIndex = -1;
  private identity: WalIdentity | null = null;
  private sum: RunningSum = runningSum();
  private transaction = 0;
  private framesLeft: number;
  /** How many frames were proved. */
  proved = 0;

  constructor(private readonly head: SegmentHead) {
    this.size = frameBytes(head.pageSize);
    this.framesLeft = head.transactions.length > 0 ? head.transactions.frames(0) : 0;
  }

  /** The next `count` frames, which lie in `bytes` from `at` on. @throws BadSegment at the first that does not fit */
  next(bytes: Buffer, at: number, count: number): void {
    const { head, size } = this;
    const end = this.proved + count;
    for (let from = at; this.proved < end; ) {
      let next = head.epochs[this.epochIndex + 1];
      // More than one begin here where the disk had no room for a frame of the first.
      for (; next?.firstFrame === this.proved; next = head.epochs[this.epochIndex + 1]) {
        this.identity = { ...next, pageSize: head.pageSize };
        this.sum = runningSum(next.sum);
        this.epochIndex++;
      }
      const run = Math.min(end, next?.firstFrame ?? end) - this.proved;
      const fitting = this.identity ? fittingFrames(bytes, from, run, this.identity, this.sum) : 0;
      for (let i = 0; i < fitting; i++) this.count(bytes, from + i * size);
      if (fitting < run || run <= 0) throw this.misfit();
      from += run * size;
    }
  }

  /** A frame that continues the log, beside what the head says of it. */
  private count(bytes: Buffer, frame: number): void {
    const { transactions, pages } = this.head;
    this.framesLeft--;
    const expectedDbPages = this.framesLeft === 0 ? transactions.dbPages(this.transaction) : 0;
    if (framePage(bytes, frame) !== pages[this.proved] || frameDbPages(bytes, frame) !== expectedDbPages) {
      throw this.misfit();
    }
    if (this.framesLeft === 0 && ++this.transaction < transactions.length) {
      this.framesLeft = transactions.frames(this.transaction);
    }
    this.proved++;
  }

  private misfit(): BadSegment {
    return new BadSegment(`frame ${this.proved + 1} of ${this.head.pages.length} does not fit what comes before it`);
  }
}

/**
 * Streams a segment's frames in the order in which they were captured, each proved before it is handed on. A batch is
 * valid until the next one is asked for.
 * @throws BadSegment at the first frame that does not fit, or where the bytes end early
 */
export async function* provenFrames(head: SegmentHead, reader: ByteReader): AsyncGenerator<FrameBatch> {
  const size = frameBytes(head.pageSize);
  const total = head.pages.length;
  const perBatch = Math.max(1, Math.floor(batchBytes / size));
  const proof = new FrameProof(head);
  for (let first = 0; first < total; first += perBatch) {
    const count = Math.min(perBatch, total - first);
    const bytes = await reader.upTo(count * size);
    if (bytes.length < count * size) throw new BadSegment(`its bytes end within frame ${first + 1} of ${total}`);
    proof.next(bytes, 0, count);
    yield { first, count, bytes };
  }
}
