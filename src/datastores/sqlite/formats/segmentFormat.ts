/**
 * The plain format of an archived piece of a SQLite log, version 1: a head that describes and proves itself, then the
 * WAL's frames as they were captured, each with its 24-byte header, so that their checksums can be followed again.
 * All numbers are little-endian; times are IEEE doubles holding whole microseconds since 1970 (0: not known).
 *
 *   0  8 bytes  "pitrwal\n"
 *   8  u32      format version
 *  12  u32      page size
 *  16  double   generation
 *  24  double   ordinal of the transaction before the first one
 *  32  u32      transactions
 *  36  u32      epochs
 *  40  u32      frames
 *  44  u32      zero
 *  48           epochs, 32 bytes each: first frame (index in this segment), 1 where checksums are big-endian,
 *               salt 1, salt 2, checksum a and b before that frame, frames of the WAL before it, restarts so far
 *  ..           transactions, 24 bytes each: two doubles (tLo, tHi), u32 size of the database in pages, u32 frames
 *  ..           page number of each frame, u32
 *  ..           u32 CRC-32 of all the above
 *  ..           the frames
 */
import { crc32 } from 'node:zlib';
import { TransactionTable } from './transactionTable.js';
import type { WalSum } from './walFormat.js';

export const segmentVersion = 1;
const magic = Buffer.from('pitrwal\n', 'latin1');
/** The part of a head that says how long the rest of it is. */
export const fixedBytes = 48;
const epochBytes = 32;

/** A run of frames from one life of the WAL, between two restarts. */
export interface SegmentEpoch {
  /** Index in the segment of its first frame. */
  firstFrame: number;
  bigEndian: boolean;
  salt1: number;
  salt2: number;
  /** The running checksum before the first frame. */
  sum: WalSum;
  /** How many frames of that WAL came before. */
  walFrames: number;
  checkpoints: number;
}

export interface SegmentHead {
  pageSize: number;
  generation: number;
  /** Ordinal of the transaction before the first one here. */
  after: number;
  epochs: SegmentEpoch[];
  transactions: TransactionTable;
  /** Page number of each frame. */
  pages: Uint32Array;
}

export function encodeHead(head: SegmentHead): Buffer {
  const { epochs, transactions, pages } = head;
  const bytes = Buffer.alloc(headBytes(epochs.length, transactions.length, pages.length));
  magic.copy(bytes);
  bytes.writeUInt32LE(segmentVersion, 8);
  bytes.writeUInt32LE(head.pageSize, 12);
  bytes.writeDoubleLE(head.generation, 16);
  bytes.writeDoubleLE(head.after, 24);
  bytes.writeUInt32LE(transactions.length, 32);
  bytes.writeUInt32LE(epochs.length, 36);
  bytes.writeUInt32LE(pages.length, 40);
  let at = fixedBytes;
  for (const epoch of epochs) {
    const { firstFrame, bigEndian, salt1, salt2, sum, walFrames, checkpoints } = epoch;
    for (const word of [firstFrame, bigEndian ? 1 : 0, salt1, salt2, sum.a, sum.b, walFrames, checkpoints]) {
      at = bytes.writeUInt32LE(word, at);
    }
  }
  at += transactions.bytes.copy(bytes, at);
  for (const page of pages) at = bytes.writeUInt32LE(page, at);
  bytes.writeUInt32LE(crc32(bytes.subarray(0, at)), at);
  return bytes;
}

export const BAD_SEGMENT = 'BAD_SEGMENT';

/** Thrown for bytes that are no segment, or another one; the caller says whose fault it is. Its `code` passes threads. */
export class BadSegment extends Error {
  readonly code = BAD_SEGMENT;
}

/** Reads exactly the next `bytes` bytes; throws where there are fewer. */
export type ReadExactly = (bytes: number) => Promise<Buffer>;

/** Reads a head from its first byte on, and leaves the source at the first frame. @throws BadSegment */
export async function readHead(read: ReadExactly): Promise<SegmentHead> {
  const fixed = await read(fixedBytes);
  return parseHead(fixed, await read(bytesOfHead(fixed) - fixedBytes));
}

/** How long a head is that begins like this. @throws BadSegment */
export function bytesOfHead(fixed: Buffer): number {
  if (!fixed.subarray(0, magic.length).equals(magic)) throw new BadSegment('it is not a piece of SQLite log');
  const version = fixed.readUInt32LE(8);
  if (version !== segmentVersion) throw new BadSegment(`its format version is ${version}, not ${segmentVersion}`);
  return headBytes(fixed.readUInt32LE(36), fixed.readUInt32LE(32), fixed.readUInt32LE(40));
}

/** A head from its fixed part and the rest of it. @throws BadSegment */
export function parseHead(fixed: Buffer, rest: Buffer): SegmentHead {
  const [transactionCount, epochCount, frameCount] = [32, 36, 40].map((at) => fixed.readUInt32LE(at)) as [
    number,
    number,
    number,
  ];
  const proven = rest.length - 4;
  if (crc32(rest.subarray(0, proven), crc32(fixed)) !== rest.readUInt32LE(proven)) {
    throw new BadSegment('its index fails its own checksum');
  }
  const head: SegmentHead = {
    pageSize: fixed.readUInt32LE(12),
    generation: fixed.readDoubleLE(16),
    after: fixed.readDoubleLE(24),
    epochs: [],
    transactions: TransactionTable.encodedAt(rest, epochCount * epochBytes, transactionCount),
    pages: new Uint32Array(frameCount),
  };
  let at = 0;
  for (let i = 0; i < epochCount; i++, at += epochBytes) {
    head.epochs.push({
      firstFrame: rest.readUInt32LE(at),
      bigEndian: rest.readUInt32LE(at + 4) === 1,
      salt1: rest.readUInt32LE(at + 8),
      salt2: rest.readUInt32LE(at + 12),
      sum: { a: rest.readUInt32LE(at + 16), b: rest.readUInt32LE(at + 20) },
      walFrames: rest.readUInt32LE(at + 24),
      checkpoints: rest.readUInt32LE(at + 28),
    });
  }
  at += head.transactions.bytes.length;
  for (let i = 0; i < frameCount; i++, at += 4) head.pages[i] = rest.readUInt32LE(at);
  if (head.transactions.allFrames() !== frameCount)
    throw new BadSegment('its index counts frames that it does not list');
  return head;
}

function headBytes(epochs: number, transactions: number, frames: number): number {
  return fixedBytes + epochs * epochBytes + TransactionTable.bytesFor(transactions) + frames * 4 + 4;
}
