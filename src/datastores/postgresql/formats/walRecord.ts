/** What PostgreSQL's write-ahead log consists of: pages, and records that lie between the headers of pages. */
import { type Instant, instant } from '../../../instant.js';

export const WAL_PAGE = 8192;
export const SHORT_HEADER = 24;
export const LONG_HEADER = 40;
export const RECORD_HEADER = 24;
/** 2000-01-01T00:00:00Z, PostgreSQL's epoch, in microseconds since 1970. */
const POSTGRES_EPOCH = 946_684_800_000_000n;

/** A committed transaction: its record lies in [start, end), all LSNs. */
export interface WalCommit {
  start: number;
  end: number;
  at: Instant;
}

/** A checkpoint of the server's; a restart point of a replay can be made of it. */
export interface WalCheckpoint {
  end: number;
  /** Where a replay from it begins. */
  redo: number;
}

/** The newest complete record. Two logs that agree in it, and in where it lies, are the same log up to there. */
export interface RecordMark {
  start: number;
  crc: number;
}

/** A whole record, without the page headers that lie in it. */
export interface WalRecord {
  start: number;
  header: Buffer;
  body: Buffer;
}

/** The bytes are not a PostgreSQL log that goes on from what was read before. */
export class WalFormatError extends Error {}

/** Without block references a record is: optional origin and top-level xid, the data's length, the data. */
export function dataAt(body: Buffer): number {
  let at = 0;
  for (;;) {
    const id = body.readUInt8(at);
    if (id === 253) at += 3;
    else if (id === 252) at += 5;
    else if (id === 255) return at + 2;
    else if (id === 254) return at + 5;
    else throw new WalFormatError(`block ${id} in a record that has none`);
  }
}

/** As 2^53 is far beyond every log, numbers do; they are much quicker than BigInts. */
export function lsnAt(bytes: Buffer, at: number): number {
  return bytes.readUInt32LE(at) + bytes.readUInt32LE(at + 4) * 2 ** 32;
}

export function commitTime(body: Buffer): Instant {
  return instant(Number(body.readBigInt64LE(dataAt(body)) + POSTGRES_EPOCH));
}

/** A record that begins at `start` in the pieces in which it lies between the page headers, each with its place. */
export function* piecesOf(start: number, record: Buffer, segmentSize: number): Generator<[lsn: number, piece: Buffer]> {
  let lsn = start;
  for (let at = 0; at < record.length; ) {
    if (lsn % WAL_PAGE === 0) lsn += lsn % segmentSize === 0 ? LONG_HEADER : SHORT_HEADER;
    const piece = record.subarray(at, at + WAL_PAGE - (lsn % WAL_PAGE));
    yield [lsn, piece];
    at += piece.length;
    lsn += piece.length;
  }
}

export function align(length: number): number {
  return Math.ceil(length / 8) * 8;
}
