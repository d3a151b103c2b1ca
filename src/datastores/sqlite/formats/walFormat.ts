/**
 * SQLite's write-ahead log as it lies on disk: a 32-byte header, then frames of a 24-byte header and one page. Pure
 * parsing and checksumming; the format is the one published at https://www.sqlite.org/fileformat2.html#walformat.
 */
import { endianness } from 'node:os';

export const walHeaderBytes = 32;
export const frameHeaderBytes = 24;

const magic = 0x377f0682;
const formatVersion = 3_007_000;
export const hostIsBigEndian = endianness() === 'BE';

/** The running checksum: it covers the log's header and every frame up to a point, so equal sums mean equal history. */
export interface WalSum {
  a: number;
  b: number;
}

/** What tells the log between two restarts from any other: the first salt rises by one with each, the second is random. */
export interface LogLife {
  salt1: number;
  salt2: number;
}

export function sameLife(a: LogLife, b: LogLife): boolean {
  return a.salt1 === b.salt1 && a.salt2 === b.salt2;
}

export function sameSum(a: WalSum, b: WalSum): boolean {
  return a.a === b.a && a.b === b.b;
}

export interface WalHeader extends LogLife {
  /** In which byte order the checksum reads its 32-bit words; everything else in a WAL is big-endian. */
  bigEndian: boolean;
  /** Bytes; a power of two from 512 to 65536. */
  pageSize: number;
  /** How often the log had been restarted when this header was written. */
  checkpoints: number;
  sum: WalSum;
}

/**
 * A checksum that is being carried on: its two words, signed. As plain numbers they are mostly too large to be anything
 * but an object for the collector, for each frame anew.
 */
export type RunningSum = Int32Array;

export function runningSum({ a, b }: WalSum = { a: 0, b: 0 }): RunningSum {
  return Int32Array.of(a, b);
}

export function sumSoFar(sum: RunningSum): WalSum {
  return { a: (sum[0] ?? 0) >>> 0, b: (sum[1] ?? 0) >>> 0 };
}

/** The memory that was summed last, as words: a view for each frame would be one more object for the collector. */
let words: Int32Array = new Int32Array(0);

/**
 * Carries `sum` on over bytes [from, to) of `buffer`, in place. `from` and `to` are multiples of 8 counted from a
 * 4-byte aligned start.
 */
export function addToSum(sum: RunningSum, buffer: Uint8Array, from: number, to: number, bigEndian: boolean): void {
  let a = sum[0] ?? 0;
  let b = sum[1] ?? 0;
  if (bigEndian === hostIsBigEndian && (buffer.byteOffset + from) % 4 === 0) {
    if (words.buffer !== buffer.buffer) words = new Int32Array(buffer.buffer, 0, buffer.buffer.byteLength >> 2);
    const end = (buffer.byteOffset + to) >> 2;
    for (let i = (buffer.byteOffset + from) >> 2; i < end; i += 2) {
      a = (a + (words[i] as number) + b) | 0;
      b = (b + (words[i + 1] as number) + a) | 0;
    }
  } else {
    const view = new DataView(buffer.buffer, buffer.byteOffset, buffer.byteLength);
    for (let i = from; i < to; i += 8) {
      a = (a + view.getInt32(i, !bigEndian) + b) | 0;
      b = (b + view.getInt32(i + 4, !bigEndian) + a) | 0;
    }
  }
  sum[0] = a;
  sum[1] = b;
}

/** The header of a log, or null where these bytes are none (too short, another format, a checksum that does not fit). */
export function parseWalHeader(bytes: Buffer): WalHeader | null {
  if (bytes.length < walHeaderBytes) return null;
  const found = bytes.readUInt32BE(0);
  if ((found & ~1) >>> 0 !== magic || bytes.readUInt32BE(4) !== formatVersion) return null;
  const bigEndian = (found & 1) === 1;
  const pageSize = bytes.readUInt32BE(8);
  if (pageSize < 512 || pageSize > 65_536 || (pageSize & (pageSize - 1)) !== 0) return null;
  const running = runningSum();
  addToSum(running, bytes, 0, 24, bigEndian);
  const sum = sumSoFar(running);
  if (sum.a !== bytes.readUInt32BE(24) || sum.b !== bytes.readUInt32BE(28)) return null;
  return {
    bigEndian,
    pageSize,
    checkpoints: bytes.readUInt32BE(12),
    salt1: bytes.readUInt32BE(16),
    salt2: bytes.readUInt32BE(20),
    sum,
  };
}

/** What a frame must fit: the log it belongs to. */
export interface WalIdentity extends LogLife {
  bigEndian: boolean;
  pageSize: number;
}

/** Number of the page in the frame at `at`. */
export function framePage(bytes: Buffer, at: number): number {
  return bytes.readUInt32BE(at);
}

/** Size of the database in pages after the commit that the frame at `at` is; 0 where it does not end a transaction. */
export function frameDbPages(bytes: Buffer, at: number): number {
  return bytes.readUInt32BE(at + 4);
}

/** The checksum after the frame at `at`, as the frame itself says it. */
export function frameSum(bytes: Buffer, at: number): WalSum {
  return { a: bytes.readUInt32BE(at + 16), b: bytes.readUInt32BE(at + 20) };
}

// Salts are compared signed, since what does not fit into 31 bits without being so is one more object for the collector.
function hasSalt1(bytes: Buffer, at: number, { salt1 }: WalIdentity): boolean {
  return bytes.readInt32BE(at + 8) === (salt1 | 0);
}

function hasSalt2(bytes: Buffer, at: number, { salt2 }: WalIdentity): boolean {
  return bytes.readInt32BE(at + 12) === (salt2 | 0);
}

/** Whether the frame at `at` has a salt of the log, if only one. */
export function frameHasSaltOf(bytes: Buffer, at: number, log: WalIdentity): boolean {
  return hasSalt1(bytes, at, log) || hasSalt2(bytes, at, log);
}

/**
 * Whether the frame at `at` (its page follows its header) continues the log, carrying `sum` on over it. Where the salts or
 * the checksum do not, `sum` is spoilt.
 */
export function frameFits(bytes: Buffer, at: number, log: WalIdentity, sum: RunningSum): boolean {
  if (!hasSalt1(bytes, at, log) || !hasSalt2(bytes, at, log) || framePage(bytes, at) === 0) return false;
  addToSum(sum, bytes, at, at + 8, log.bigEndian);
  addToSum(sum, bytes, at + frameHeaderBytes, at + frameHeaderBytes + log.pageSize, log.bigEndian);
  return sum[0] === bytes.readInt32BE(at + 16) && sum[1] === bytes.readInt32BE(at + 20);
}

export function frameBytes(pageSize: number): number {
  return frameHeaderBytes + pageSize;
}
