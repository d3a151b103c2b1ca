/**
 * Follows one database's log, and answers what is asked of it. What a look is says logWatch.ts; how the log is kept from
 * growing, logRestart.ts; what is done while nothing happens, restWatch.ts. Runs in the engine process, one call at a time.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { AttachPoint } from './attachPoint.js';
import type { BracketClock } from './bracketClock.js';
import type { ArchiveEnd, FenceReply } from './captureTerms.js';
import { type RestartOutcome, restartLog } from './logRestart.js';
import { type FollowedDatabase, LogWatch } from './logWatch.js';
import { RestWatch } from './restWatch.js';

/** How often a fence may look for its own result's times to have passed; a millisecond apart. */
const fenceLooks = 50;
/** How often the coverage of a database at rest is told, ms; a fence tells it at once. */
const idleTellMs = 10_000;

export class WalFollower {
  private toldAt = 0;
  private readonly watch: LogWatch;
  private readonly rests: RestWatch;

  /** See attachFollower. */
  constructor(
    private readonly followed: FollowedDatabase,
    { seenLo }: AttachPoint,
    private readonly clock: BracketClock,
  ) {
    this.watch = new LogWatch(followed, seenLo, clock);
    this.rests = new RestWatch(followed);
  }

  /** See LogWatch. @throws BrokenLog */
  look(): Promise<boolean> {
    return this.watch.look();
  }

  /** Nothing is left to do until something happens, and a glance tells whether it does. */
  atRest(restartBytes: number): boolean {
    return this.rests.isQuiet && !this.followed.writer.hasOpenSegment && !this.restartable(restartBytes);
  }

  /**
   * A look that asks the filesystem alone, where everything written to the log was read before: while neither the log nor
   * the file changes, nothing can be committed. False where only a real look can tell.
   */
  glance(): boolean {
    const { lo } = this.clock.now();
    if (!this.rests.isStill()) return false;
    this.watch.nothingUnread(lo);
    return true;
  }

  /** Says how far time is covered, of a database at rest less often. */
  tellCoverage(): void {
    const now = performance.now();
    // All databases tell in the same moments, so that the catalog is written to in these alone.
    if (this.rests.isQuiet && Math.floor(now / idleTellMs) === Math.floor(this.toldAt / idleTellMs)) return;
    this.toldAt = now;
    this.followed.writer.tellCoverage();
  }

  /** Finishes the segment by size or age. */
  async finishIfDue(): Promise<void> {
    await this.followed.writer.sealIfDue();
  }

  /**
   * Notes that all is at rest as soon as the file's time of change can tell. Without the note, a process that is killed just
   * after the log was restarted could not prove that nothing was lost.
   */
  async noteIfAtRest(): Promise<void> {
    if (this.followed.pins.soft && !this.rests.isNoted) await this.noteRest();
  }

  /** What needs no haste: is it still the same file; tell how far time is covered. */
  async onSlowPoll(): Promise<void> {
    await this.watch.checkFiles();
    this.tellCoverage();
    if (this.followed.pins.soft) await this.noteRest();
    await this.rests.quieten();
  }

  /** Everything up to now in sealed segments; coveredTo has passed the times of all that was committed before the call. */
  async fence(): Promise<FenceReply> {
    await this.watch.checkFiles();
    await this.look();
    const target = this.followed.writer.axis;
    for (let i = 0; i < fenceLooks && this.followed.writer.coveredTo < target; i++) {
      await delay(1);
      await this.look();
    }
    // By less than a second set back, the clock has not caught up by now.
    this.followed.writer.covered(target);
    await this.followed.writer.seal();
    this.followed.writer.tellCoverage();
    const { generation, ordinal, coveredTo, axis } = this.followed.writer;
    const state = await this.followed.pins.state();
    const { dbPages, pageSize, epochStart } = this.followed.reading;
    const copiedUpTo = state && this.followed.reading.allCopied(state) ? ordinal : epochStart;
    return { generation, ordinal, coveredTo, axis, dbPages, pageSize, copiedUpTo };
  }

  restartable(fromBytes: number): boolean {
    return !this.followed.pins.soft && this.logBytes >= fromBytes;
  }

  get logBytes(): number {
    return this.followed.reading.bytes;
  }

  /** Of the log that was written and not read yet. */
  async unreadBytes(): Promise<number> {
    const state = await this.followed.pins.state();
    return state ? this.followed.reading.unreadBytes(state) : 0;
  }

  /** See logRestart. @throws BrokenLog */
  restart(patienceMs: number, isAwaited: () => boolean): Promise<RestartOutcome> {
    return restartLog(this.watch, this.followed, patienceMs, isAwaited);
  }

  /** Before letting go of the source: everything into segments, and a note that all is at rest where it is. */
  async rest(patienceMs: number): Promise<void> {
    await this.fence();
    await this.restart(patienceMs, () => true);
    await this.fence();
    for (let i = 0; this.followed.pins.soft && i < 10 && !(await this.noteRest()); i++) {
      await delay(10);
    }
  }

  /** Saves what was captured whole and lets go; answers with where it ends. */
  async abandon(): Promise<ArchiveEnd> {
    await this.followed.writer.sealOrForget();
    await this.close().catch(() => {});
    const { generation, ordinal, coveredTo, end } = this.followed.writer;
    return { generation, ordinal, coveredTo, continuation: end };
  }

  async close(): Promise<void> {
    try {
      await this.followed.writer.close();
    } finally {
      // A pin that stayed would keep the log from being restarted for good. The log's file is closed once it is on disk.
      await this.followed.pins.close();
      await this.followed.wal.close();
    }
  }

  /** Under a soft pin. False while it can't be told that everything captured is in the file. */
  private async noteRest(): Promise<boolean> {
    const { frames, copied } = await this.watch.checkFiles();
    return (
      (frames === 0 || (frames === this.followed.reading.frames && copied === frames)) && (await this.rests.note())
    );
  }
}
