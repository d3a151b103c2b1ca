/**
 * The log that was received and is not archived yet, and how it is cut into segments: always where a record ends, so
 * that every record lies in exactly one segment and a segment can be read by itself.
 */
import { type Instant, instant } from '../../../instant.js';
import type { CapturedSegment } from '../../datastore.js';
import { positionAt } from '../formats/lsn.js';
import { encodeHeader } from '../formats/segmentFormat.js';
import { WalReader } from '../formats/walReader.js';
import { type RecordMark, type WalCommit, WalFormatError } from '../formats/walRecord.js';
import { ReceivedBytes } from './receivedBytes.js';

/** What is known of a stretch up to the end of a segment; handed back by the catalog as the continuation. */
export interface Progress {
  stretch: string;
  timeline: number;
  systemId: string;
  segmentSize: number;
  /** The LSN up to which the log is cut off and handed over. */
  end: number;
  /** The record that ends there; null where nothing was cut off yet. */
  mark: RecordMark | null;
  /** The greatest commit time so far; it never falls. */
  latestCommitAt: Instant | null;
}

/** The end of a prefix that an instant names; `determined` once a commit later than the instant was seen. */
export interface WatchedCut {
  at: Instant;
  end: number;
  determined: boolean;
}

/** The server answered with another log than the one that is archived. */
export class DivergedError extends Error {}

/** What was cut off. */
export interface Cut {
  segment: CapturedSegment;
  /** What is known at its end. */
  progress: Progress;
  /** To be called once, when nobody opens the segment any more. */
  release(): void;
}

export class WalBuffer {
  private readonly reader: WalReader;
  private readonly pending = new ReceivedBytes();
  /** Where the pending bytes begin. */
  private start: number;
  private transactions = 0;
  private first: Instant | null = null;
  private greatest: Instant | null = null;
  private latest: Instant | null;
  private lastCommitEnd: number | null = null;
  private proven: boolean;
  private watched: WatchedCut | null = null;

  /** Goes on from what is archived: the bytes to push begin at `from`. */
  constructor(private readonly archived: Progress) {
    this.start = archived.end;
    this.latest = archived.latestCommitAt;
    this.proven = archived.mark === null;
    this.reader = new WalReader(
      this.from,
      archived.segmentSize,
      (commit) => this.take(commit),
      (start, end) => this.prove(start, end),
    );
  }

  /** Reading starts with the last archived record, which proves that the log is still the same. */
  get from(): number {
    return this.archived.mark?.start ?? this.archived.end;
  }

  /** The LSN up to which bytes were received. */
  get received(): number {
    return this.reader.position;
  }

  get pendingBytes(): number {
    return this.pending.length;
  }

  /** Bytes that could be cut off now: a record that is still arriving has to be taken in to its end. */
  get wholeBytes(): number {
    return Math.max(0, this.reader.recordEnd - this.start);
  }

  /** The smallest commit time that is not archived. */
  get oldestPending(): Instant | null {
    return this.first;
  }

  /** Takes a copy. @throws WalFormatError, DivergedError */
  push(start: number, bytes: Buffer): void {
    if (start !== this.reader.position) throw new WalFormatError('the stream left out a piece');
    const known = Math.max(0, Math.min(bytes.length, this.archived.end - start));
    this.pending.push(bytes.subarray(known));
    try {
      this.reader.push(bytes);
    } catch (error) {
      if (!this.proven && error instanceof WalFormatError) throw new DivergedError(error.message);
      throw error;
    }
  }

  /** Everything up to the last complete record as a segment; null where there is none. */
  cut(): Cut | null {
    const { recordEnd: end, last: mark } = this.reader;
    if (!this.proven || mark === null || end <= this.start) return null;
    const { stretch } = this.archived;
    const progress: Progress = { ...this.archived, end, mark, latestCommitAt: this.latest };
    const { timeline, segmentSize, systemId } = progress;
    const header = encodeHeader({ timeline, segmentSize, systemId, start: this.start });
    const { pieces, release } = this.pending.detach(end - this.start);
    const segment: CapturedSegment = {
      after: positionAt(stretch, this.start),
      last: positionAt(stretch, end),
      transactions: this.transactions,
      firstCommitAt: this.first,
      lastCommitAt: this.greatest,
      coveredTo: coverage(this.latest),
      continuation: { ...progress, mark: { ...mark } },
      packed: false,
      async *open() {
        yield header;
        yield* pieces;
      },
    };
    this.start = end;
    this.transactions = 0;
    this.first = null;
    this.greatest = null;
    return { segment, progress, release };
  }

  /** Watches for the cut of the newest commit time seen so far; call when a commit has been seen. */
  watch(): WatchedCut {
    if (this.latest === null || this.lastCommitEnd === null) throw new WalFormatError('no commit has been seen yet');
    this.watched = { at: this.latest, end: this.lastCommitEnd, determined: false };
    return this.watched;
  }

  private prove(start: number, end: number): void {
    if (this.proven) return;
    const { mark } = this.archived;
    const found = this.reader.last;
    if (mark?.start !== start || end !== this.archived.end || found?.crc !== mark.crc) {
      throw new DivergedError('the last archived record is not there any more');
    }
    this.proven = true;
  }

  private take(commit: WalCommit): void {
    this.lastCommitEnd = commit.end;
    // The record that proves the connection is counted already.
    if (commit.end <= this.archived.end) return;
    this.transactions++;
    if (this.first === null || commit.at < this.first) this.first = commit.at;
    if (this.greatest === null || commit.at > this.greatest) this.greatest = commit.at;
    if (this.latest === null || commit.at > this.latest) this.latest = commit.at;
    if (this.watched && !this.watched.determined) {
      if (commit.at > this.watched.at) this.watched.determined = true;
      else this.watched.end = commit.end;
    }
  }
}

/**
 * An instant's cut is known once a later commit is archived: hence one microsecond before the greatest commit time. The
 * beginning of time where there was no commit.
 */
export function coverage(latestCommitAt: Instant | null): Instant {
  return instant(latestCommitAt === null ? 0 : latestCommitAt - 1);
}

/** Progress out of a stored continuation; null where it is none of ours. */
export function readProgress(stored: Record<string, unknown>): Progress | null {
  const { stretch, timeline, systemId, segmentSize, end, mark, latestCommitAt } = stored as Partial<Progress>;
  if (typeof stretch !== 'string' || typeof systemId !== 'string') return null;
  if (typeof timeline !== 'number' || typeof segmentSize !== 'number' || typeof end !== 'number') return null;
  return { stretch, timeline, systemId, segmentSize, end, mark: mark ?? null, latestCommitAt: latestCommitAt ?? null };
}
