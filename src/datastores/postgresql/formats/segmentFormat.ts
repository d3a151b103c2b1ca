/**
 * The plain bytes of an archived segment, version 1: a header of 32 bytes, then the log from `after` to `last` exactly as
 * the server wrote it. All numbers little-endian: 8 bytes magic, u32 timeline, u32 size of a WAL file, u64 first LSN,
 * u64 system identifier.
 */
import { Fault } from '../../../errors.js';
import type { StoredSegment } from '../../datastore.js';
import { formatLsn } from './lsn.js';
import { WalReader } from './walReader.js';
import { WalFormatError } from './walRecord.js';

const MAGIC = Buffer.from('PITRWAL1', 'latin1');
const HEADER_BYTES = 32;

export interface SegmentHeader {
  timeline: number;
  segmentSize: number;
  start: number;
  systemId: string;
}

export function encodeHeader(header: SegmentHeader): Buffer {
  const bytes = Buffer.alloc(HEADER_BYTES);
  MAGIC.copy(bytes);
  bytes.writeUInt32LE(header.timeline, 8);
  bytes.writeUInt32LE(header.segmentSize, 12);
  bytes.writeBigUInt64LE(BigInt(header.start), 16);
  bytes.writeBigUInt64LE(BigInt(header.systemId), 24);
  return bytes;
}

export interface SegmentReader {
  header(header: SegmentHeader): void;
  /** Log from `lsn` on; the bytes are valid during the call. */
  bytes(lsn: number, bytes: Buffer): void;
}

/** Which log a segment is said to hold. */
export type SegmentRange = Pick<StoredSegment, 'after' | 'last'>;

/** Takes a segment's bytes in whatever pieces they come. */
export class SegmentBytes {
  private head: Buffer | null = Buffer.alloc(0);
  private lsn: number;

  constructor(
    private readonly segment: SegmentRange,
    private readonly reader: SegmentReader,
  ) {
    this.lsn = segment.after;
  }

  /** @throws Fault LOG_CORRUPT, and what the reader throws */
  push(chunk: Buffer): void {
    let bytes = chunk;
    if (this.head) {
      this.head = Buffer.concat([this.head, chunk]);
      if (this.head.length < HEADER_BYTES) return;
      this.reader.header(decodeHeader(this.head, this.segment));
      bytes = this.head.subarray(HEADER_BYTES);
      this.head = null;
    }
    if (bytes.length > 0) this.reader.bytes(this.lsn, bytes);
    this.lsn += bytes.length;
  }

  /** @throws Fault LOG_CORRUPT where that was not the log from `after` to `last` */
  end(): void {
    if (this.head || this.lsn !== this.segment.last) throw corrupt(this.segment, `it ends at ${formatLsn(this.lsn)}`);
  }
}

/**
 * Reads a segment to its end, so that whoever stored it can prove it whole: also where the reader throws, because what
 * the storage then says of the object is the cause, and names it.
 * @throws Fault LOG_CORRUPT where it is not the log from `after` to `last`, and whatever `segment.read` and the reader
 *   throw
 */
async function readSegment(segment: StoredSegment, reader: SegmentReader): Promise<void> {
  const incoming = new SegmentBytes(segment, reader);
  let failure: { error: unknown } | null = null;
  for await (const chunk of segment.read({ reuse: true })) {
    if (failure) continue;
    try {
      incoming.push(chunk);
    } catch (error) {
      failure = { error };
    }
  }
  if (failure) throw failure.error;
  incoming.end();
}

/** Reads a segment's records; see WalReader for the callbacks. @throws as readSegment */
export async function readRecords(
  segment: StoredSegment,
  onCommit: ConstructorParameters<typeof WalReader>[2],
  onRecord?: ConstructorParameters<typeof WalReader>[3],
  onCheckpoint?: ConstructorParameters<typeof WalReader>[5],
): Promise<SegmentHeader> {
  let records: WalReader | null = null;
  let found: SegmentHeader | null = null;
  await readSegment(segment, {
    header: (header) => {
      found = header;
      records = new WalReader(header.start, header.segmentSize, onCommit, onRecord, undefined, onCheckpoint);
    },
    bytes: (_, bytes) => {
      try {
        records?.push(bytes);
      } catch (error) {
        if (error instanceof WalFormatError) throw corrupt(segment, error.message);
        throw error;
      }
    },
  });
  if (!found) throw corrupt(segment, 'it is empty');
  return found;
}

function decodeHeader(bytes: Buffer, segment: SegmentRange): SegmentHeader {
  if (!bytes.subarray(0, MAGIC.length).equals(MAGIC)) throw corrupt(segment, 'it has no header');
  const start = Number(bytes.readBigUInt64LE(16));
  if (start !== segment.after) throw corrupt(segment, `it begins at ${formatLsn(start)}`);
  return {
    timeline: bytes.readUInt32LE(8),
    segmentSize: bytes.readUInt32LE(12),
    start,
    systemId: String(bytes.readBigUInt64LE(24)),
  };
}

function corrupt(segment: SegmentRange, why: string): Fault {
  const range = `${formatLsn(segment.after)} to ${formatLsn(segment.last)}`;
  return new Fault('LOG_CORRUPT', `The archived log from ${range} is not what was archived: ${why}`, {
    hint: 'Recover to an instant before it, or from a later backup.',
  });
}
