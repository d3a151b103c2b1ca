/**
 * Runs beside the codec: proves that an archived segment is the log that goes on from record to record, and puts it into
 * the WAL files in which it lies. They are handed to the server when all of their segments are proved (walFeed.ts).
 */
import { closeSync, constants, fchownSync, openSync } from 'node:fs';
import path from 'node:path';
import { Fault } from '../../../errors.js';
import type { Instant } from '../../../instant.js';
import type { OpenSink } from '../../../model.js';
import { writeWholeSync } from '../../durable.js';
import { Turns } from '../../turns.js';
import { walFileName } from '../formats/lsn.js';
import { SegmentBytes, type SegmentHeader, type SegmentRange } from '../formats/segmentFormat.js';
import { WalReader } from '../formats/walReader.js';
import { piecesOf, WalFormatError, type WalRecord } from '../formats/walRecord.js';
import type { RunAs } from '../server/processes.js';
import { withoutLocation } from '../server/tablespaces.js';

export const feedSinkModule = import.meta.url;

/** Pieces that stay in the processor's cache between being decoded, read and written. */
const PIECE_BYTES = 128 * 1024;

/** The log that a replay is given. */
export interface FedLog {
  /** Whose every segment has to be. */
  major: number;
  timeline: number;
  segmentSize: number;
  systemId: string;
  /** Only what lies between the two is written; the first is a multiple of the segment size. */
  after: number;
  cut: number;
}

export interface FeedArgument extends FedLog {
  segment: SegmentRange;
  /** Where the files are built, under their own names; nobody but the service can enter it. */
  directory: string;
  /** Whose the files are to be; null for the service's own user. */
  owner: RunAs | null;
  /** Shared by all segments: two of them may lie in the same file. */
  turns: SharedArrayBuffer;
}

/** The newest commit of each file in which there is one, in log order. */
export type FedSegment = { file: string; at: Instant }[];

export const open: OpenSink = (argument) => {
  const feeding = new Feeding(argument as FeedArgument);
  const incoming = new SegmentBytes((argument as FeedArgument).segment, feeding);
  return {
    take(bytes) {
      for (let at = 0; at < bytes.length; at += PIECE_BYTES) incoming.push(bytes.subarray(at, at + PIECE_BYTES));
    },
    end(): FedSegment {
      incoming.end();
      return feeding.commits;
    },
    close: () => feeding.close(),
  };
};

class Feeding {
  readonly commits: FedSegment = [];
  private records: WalReader | null = null;
  private readonly turn: Turns;
  private file: { descriptor: number; start: number } | null = null;
  private readonly changed: { start: number; record: Buffer }[] = [];

  constructor(private readonly plan: FeedArgument) {
    this.turn = new Turns(plan.turns);
  }

  header(header: SegmentHeader): void {
    const { timeline, segmentSize, systemId } = this.plan;
    if (header.timeline !== timeline || header.segmentSize !== segmentSize || header.systemId !== systemId) {
      throw new Fault('LOG_CORRUPT', 'The archived log is not that of the backup’s server and timeline');
    }
    this.records = new WalReader(
      header.start,
      segmentSize,
      ({ start, at }) => this.committed(walFileName(timeline, start, segmentSize), at),
      null,
      (found) => this.foundTablespace(found),
    );
  }

  bytes(lsn: number, bytes: Buffer): void {
    try {
      this.records?.push(bytes);
    } catch (error) {
      if (!(error instanceof WalFormatError)) throw error;
      throw new Fault('LOG_CORRUPT', `The archived log is damaged: ${error.message}`);
    }
    const written = this.records?.major ?? this.plan.major;
    if (written !== this.plan.major) {
      throw new Fault('LOG_CORRUPT', `The archived log is of PostgreSQL ${written}, the backup of ${this.plan.major}`);
    }
    this.writeWithin(lsn, bytes);
    // What is changed may have begun in what was written before.
    for (const { start, record } of this.changed.splice(0)) {
      for (const [at, piece] of piecesOf(start, record, this.plan.segmentSize)) this.writeWithin(at, piece);
    }
  }

  close(): void {
    if (this.file) closeSync(this.file.descriptor);
    this.file = null;
  }

  private committed(file: string, at: Instant): void {
    const newest = this.commits.at(-1);
    if (newest?.file === file) newest.at = at;
    else this.commits.push({ file, at });
  }

  private foundTablespace(found: WalRecord): void {
    const record = withoutLocation(found);
    if (record) this.changed.push({ start: found.start, record });
  }

  /** Writes what of these bytes lies between the plan's beginning and its cut. */
  private writeWithin(lsn: number, bytes: Buffer): void {
    const { after, cut, segmentSize } = this.plan;
    const end = Math.min(lsn + bytes.length, cut);
    for (let at = Math.max(lsn, after); at < end; ) {
      const start = at - (at % segmentSize);
      const piece = bytes.subarray(at - lsn, Math.min(end, start + segmentSize) - lsn);
      const descriptor = this.fileAt(start);
      this.turn.take(() => writeWholeSync(descriptor, piece, at - start));
      at += piece.length;
    }
  }

  private fileAt(start: number): number {
    if (this.file?.start === start) return this.file.descriptor;
    this.close();
    const { directory, timeline, segmentSize, owner } = this.plan;
    const file = path.join(directory, walFileName(timeline, start, segmentSize));
    const descriptor = openSync(file, constants.O_WRONLY | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
    this.file = { descriptor, start };
    if (owner) fchownSync(descriptor, owner.uid, owner.gid);
    return descriptor;
  }
}
