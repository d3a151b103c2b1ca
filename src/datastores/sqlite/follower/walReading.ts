/** The place in a log up to which it was read, and reading on from there: every frame proved and put into segments. */

import {
  frameBytes,
  frameDbPages,
  frameSum,
  type LogLife,
  runningSum,
  sameLife,
  type WalHeader,
  type WalSum,
} from '../formats/walFormat.js';
import type { LogState } from '../formats/walIndex.js';
import { BrokenLog, type WalFile } from '../source/walFile.js';
import type { AttachPoint } from './attachPoint.js';
import type { SegmentWriter } from './segmentWriter.js';

export class WalReading {
  readonly pageSize: number;
  dbPages: number;
  /** Frames of the log's present life that were read. */
  frames: number;
  /** The last transaction that was committed before the present life of the log began. */
  epochStart: number;
  /** The log's present life; null while there never was a frame. */
  private epoch: WalHeader | null;
  /** The checksum after the frames that were read. */
  private sum: WalSum;

  constructor(
    private readonly wal: WalFile,
    private readonly writer: SegmentWriter,
    point: AttachPoint,
  ) {
    this.pageSize = point.pageSize;
    this.dbPages = point.dbPages;
    this.epoch = point.epoch;
    this.frames = point.frames;
    this.sum = point.sum;
    this.epochStart = point.epochStart;
  }

  get bytes(): number {
    return this.frames * frameBytes(this.pageSize);
  }

  /** What of a log was not read. */
  unreadBytes(state: LogState): number {
    return (this.isOf(state) ? state.frames - this.frames : state.frames) * frameBytes(this.pageSize);
  }

  /** What was read of a log and is not in the database file yet. */
  uncopiedBytes(state: LogState): number {
    return (this.isOf(state) ? Math.max(0, this.frames - state.copied) : 0) * frameBytes(this.pageSize);
  }

  /** Whether a log is in the life that is read. */
  isOf(log: LogLife): boolean {
    return this.epoch !== null && sameLife(this.epoch, log);
  }

  /** Whether all that was read of this life is in the database file. */
  allCopied(state: LogState): boolean {
    return this.isOf(state) && state.copied === this.frames;
  }

  /** The log was restarted under a soft pin. @throws BrokenLog unless that is known to have lost nothing */
  enterNewLife(header: WalHeader, { copied }: LogState): void {
    // Under a soft pin no life of the log that had a frame can have ended, so this one is the first with any since
    // everything was read. Its salts prove nothing more: a restart raises the first by one, but an empty log may be
    // emptied again any number of times, and a connection that finds it empty draws new ones at random.
    if (copied > 0) throw new BrokenLog('the write-ahead log was copied although a reader protected it');
    if (header.pageSize !== this.pageSize) throw new BrokenLog('the page size of the database changed');
    this.epoch = header;
    this.frames = 0;
    this.sum = { ...header.sum };
    this.epochStart = this.writer.ordinal;
  }

  /** @throws BrokenLog where the log up to there does not continue what was read */
  async read(upTo: number, times: { tLo: number; tHi: number }): Promise<void> {
    const epoch = this.epoch;
    if (!epoch || upTo < this.frames) throw new BrokenLog('the write-ahead log lost frames that were committed');
    await this.wal.frames(epoch, { from: this.frames, to: upTo }, runningSum(this.sum), async (bytes, count) => {
      try {
        await this.writer.take(epoch, this.frames, this.sum, bytes, count, times);
      } finally {
        // Where the disk had no room for all of it, reading goes on after what it took.
        this.advance(bytes, this.writer.taken);
      }
    });
    await this.writer.flush();
    if (!this.writer.atCommit) throw new BrokenLog('the last frame that SQLite counts does not end a transaction');
  }

  private advance(bytes: Buffer, count: number): void {
    if (count === 0) return;
    const size = frameBytes(this.pageSize);
    this.frames += count;
    this.sum = frameSum(bytes, (count - 1) * size);
    for (let i = count - 1; i >= 0; i--) {
      const dbPages = frameDbPages(bytes, i * size);
      if (dbPages === 0) continue;
      this.dbPages = dbPages;
      return;
    }
  }
}
