/** The frames of a segment after its head, proved one by one: page numbers, ends of transactions and the WAL's checksums. */
import type { ByteReader } from './byteReader.js';
import { BadSegment, type SegmentHead } from './segmentFormat.js';
import { checkFrame, frameBytes, type WalIdentity, type WalSum } from './walFormat.js';

const batchBytes = 1 << 20;

/** Whole frames, one after another, the first of them number `first` of the segment. */
export interface FrameBatch {
  first: number;
  count: number;
  bytes: Buffer;
}

/**
 * Streams a segment's frames in the order in which they were captured, each proved against the head and the checksum
 * chain before it is handed on. A batch is valid until the next one is asked for.
 * @throws BadSegment at the first frame that does not fit, or where the bytes end early
 */
export async function* provenFrames(head: SegmentHead, reader: ByteReader): AsyncGenerator<FrameBatch> {
  const size = frameBytes(head.pageSize);
  const total = head.pages.length;
  const perBatch = Math.max(1, Math.floor(batchBytes / size));
  let epochIndex = -1;
  let identity: WalIdentity | null = null;
  let sum: WalSum = { a: 0, b: 0 };
  let transaction = 0;
  let framesLeft = head.transactions[0]?.frames ?? 0;
  for (let first = 0; first < total; first += perBatch) {
    const count = Math.min(perBatch, total - first);
    const bytes = await reader.upTo(count * size);
    if (bytes.length < count * size) throw new BadSegment(`its bytes end within frame ${first + 1} of ${total}`);
    for (let i = 0; i < count; i++) {
      const next = head.epochs[epochIndex + 1];
      if (next && next.firstFrame === first + i) {
        identity = { ...next, pageSize: head.pageSize };
        sum = { ...next.sum };
        epochIndex++;
      }
      const frame = identity ? checkFrame(bytes, i * size, identity, sum) : null;
      framesLeft--;
      const expectedDbPages = framesLeft === 0 ? head.transactions[transaction]?.dbPages : 0;
      if (!frame || frame.page !== head.pages[first + i] || frame.dbPages !== expectedDbPages) {
        throw new BadSegment(`frame ${first + i + 1} of ${total} does not fit what comes before it`);
      }
      if (framesLeft === 0) framesLeft = head.transactions[++transaction]?.frames ?? 0;
    }
    yield { first, count, bytes };
  }
}
