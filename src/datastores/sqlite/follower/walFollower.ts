/**
 * One unbroken look after another at a database's log: what SQLite says is committed is read from the `-wal` file,
 * proved, timed and put into segments. Runs in the engine process, one call at a time.
 *
 * Time: a transaction is committed when the wal-index counts its last frame. A look asks for that count; `lo` is read
 * before the question and `hi` after the answer. What a look finds was not counted when the look before it asked, so it
 * became visible after that look's `lo` (tLo) and before this one's `hi` (tHi).
 */

import { setTimeout as delay } from 'node:timers/promises';
import type { WalHeader } from '../formats/walFormat.js';
import type { LogState } from '../formats/walIndex.js';
import type { MainFile } from '../source/mainFile.js';
import { BrokenLog, type WalFile } from '../source/walFile.js';
import type { WalPins } from '../source/walPins.js';
import type { AttachPoint } from './attachPoint.js';
import type { BracketClock } from './bracketClock.js';
import type { ArchiveEnd, AttachRequest, FenceReply } from './captureTerms.js';
import { RestWatch } from './restWatch.js';
import type { SegmentWriter } from './segmentWriter.js';
import type { WalReading } from './walReading.js';

/** How often a fence may look for its own result's times to have passed; a millisecond apart. */
const fenceLooks = 50;
/** A look that is earlier than a time given before by more than this means that the clock was set back, µs. */
const setBackMicros = 1_000_000;
/** How long a restart waits for another program to copy the log into the file, for one to begin, and between two questions, ms. */
const copyPatienceMs = 2000;
const copyBeginMs = 20;
const copyAskMs = 4;
/** How often the coverage of a database at rest is told, ms; a fence tells it at once. */
const idleTellMs = 10_000;

export type RestartOutcome = 'restarted' | 'held by a reader' | 'others are busy';

export interface FollowerParts {
  request: AttachRequest;
  main: MainFile;
  pins: WalPins;
  wal: WalFile;
  writer: SegmentWriter;
  reading: WalReading;
}

export class WalFollower {
  /** See walPins: whether the log may be restarted once under the present pin. */
  private soft: boolean;
  /** The pin reads at most at this frame. */
  private pinnedUpTo: number;
  /** The `lo` of the look before. */
  private seenLo: number;
  private toldAt = 0;
  /** The application's writers wait for this: what can be done afterwards is. */
  private locksOut = false;
  private readonly main: MainFile;
  private readonly pins: WalPins;
  private readonly wal: WalFile;
  private readonly writer: SegmentWriter;
  private readonly reading: WalReading;
  private readonly rests: RestWatch;

  /** See attachFollower. */
  constructor(
    parts: FollowerParts,
    point: AttachPoint,
    private readonly clock: BracketClock,
  ) {
    this.main = parts.main;
    this.pins = parts.pins;
    this.wal = parts.wal;
    this.writer = parts.writer;
    this.reading = parts.reading;
    this.rests = new RestWatch(parts);
    this.soft = point.soft;
    this.pinnedUpTo = point.logFrames;
    this.seenLo = point.seenLo;
  }

  /**
   * Reads what was committed since the last look; true where there was something.
   * @throws BrokenLog where part of the log was lost, so that the stretch ends here
   */
  async look(): Promise<boolean> {
    const { lo } = this.clock.now();
    let state = await this.pins.state();
    let { hi } = this.clock.now();
    if (!state) throw new BrokenLog('the database is no longer in WAL mode');
    // After `lo`: whatever was committed before it was counted where this look asks.
    this.checkIndex();
    let found = false;
    if (state.frames === 0) {
      if (!this.soft) throw new BrokenLog('the write-ahead log was emptied although a reader protected it');
    } else {
      const header = await this.wal.header();
      if (header && !this.reading.isOf(header)) {
        // The answer may still have been about the log's former life; with this header on disk, the next one is not.
        state = await this.pins.state();
        hi = this.clock.now().hi;
        if (!state) throw new BrokenLog('the database is no longer in WAL mode');
        if (state.frames > 0) this.enterNewLife(header, state);
      } else if (!header && !this.soft) {
        throw new BrokenLog('the write-ahead log disappeared although a reader protected it');
      }
      if (header && this.reading.isOf(header) && state.frames !== this.reading.frames) {
        // All that is read below was committed before this, so it lies over the file that is checked here.
        await this.checkMain(state);
        await this.reading.read(state.frames, this.writer.timesBetween(this.seenLo, hi));
        found = true;
      }
    }
    // A clock that was set back tells nothing until it has caught up with the times that were given, maybe by an earlier
    // generation. What was given a time is covered all the same: what comes later gets a greater one.
    const { axis } = this.writer;
    this.writer.covered(lo < axis - setBackMicros ? axis : lo);
    this.seenLo = Math.max(this.seenLo, lo);
    const { frames } = this.reading;
    // Not only where something was found: a look that found it and could not save it may have ended before this.
    if (this.soft && state.frames > 0 && state.frames === frames && state.copied < frames) {
      // Nothing beyond the former pin's place can have been copied, so the new pin reads at a place in the log.
      await this.pins.movePin();
      await this.notePin();
      this.soft = false;
    } else if (!this.soft && state.frames === frames && state.copied === frames) {
      await this.soften();
    }
    return found;
  }

  /** Nothing is left to do until something happens, and a glance tells whether it does. */
  atRest(idleRestartBytes: number): boolean {
    return this.rests.isQuiet && !this.writer.hasOpenSegment && !this.restartable(idleRestartBytes);
  }

  /**
   * A look that asks the filesystem alone, where everything written to the log was read before: while neither the log nor
   * the file changes, nothing can be committed. False where only a real look can tell.
   */
  glance(): boolean {
    const { lo } = this.clock.now();
    if (!this.rests.isStill()) return false;
    this.seenLo = Math.max(this.seenLo, lo);
    this.writer.covered(lo);
    return true;
  }

  /** Says how far time is covered, of a database at rest less often. */
  tellCoverage(): void {
    const now = performance.now();
    // All databases tell in the same moments, so that the catalog is written to in these alone.
    if (this.rests.isQuiet && Math.floor(now / idleTellMs) === Math.floor(this.toldAt / idleTellMs)) return;
    this.toldAt = now;
    this.writer.tellCoverage();
  }

  /** Finishes the segment by size or age. */
  async finishIfDue(): Promise<void> {
    await this.writer.sealIfDue();
  }

  /**
   * Notes that all is at rest as soon as the file's time of change can tell. Without the note, a process that is killed just
   * after the log was restarted could not prove that nothing was lost.
   */
  async noteIfAtRest(): Promise<void> {
    if (this.soft && !this.rests.isNoted) await this.noteRest();
  }

  /** What needs no haste: is it still the same file; tell how far time is covered. */
  async onSlowPoll(): Promise<void> {
    await this.checkFiles();
    this.tellCoverage();
    if (this.soft) await this.noteRest();
    await this.rests.quieten(this.soft);
  }

  /** Everything up to now in sealed segments; coveredTo has passed the times of all that was committed before the call. */
  async fence(): Promise<FenceReply> {
    await this.checkFiles();
    await this.look();
    const target = this.writer.axis;
    for (let i = 0; i < fenceLooks && this.writer.coveredTo < target; i++) {
      await delay(1);
      await this.look();
    }
    // By less than a second set back, the clock has not caught up by now.
    this.writer.covered(target);
    await this.writer.seal();
    this.writer.tellCoverage();
    const { generation, ordinal, coveredTo, axis } = this.writer;
    const state = await this.pins.state();
    const { dbPages, pageSize, epochStart } = this.reading;
    const copiedUpTo = state && this.reading.allCopied(state) ? ordinal : epochStart;
    return { generation, ordinal, coveredTo, axis, dbPages, pageSize, copiedUpTo };
  }

  restartable(fromBytes: number): boolean {
    return !this.soft && this.logBytes >= fromBytes;
  }

  get logBytes(): number {
    return this.reading.bytes;
  }

  /** Of the log that was written and not read yet. */
  async unreadBytes(): Promise<number> {
    return this.reading.bytesAfter((await this.pins.state())?.frames ?? 0);
  }

  /**
   * Lets the next writer restart the log: copies all of it into the database and leaves a soft pin. Where others are in
   * the way, writers or a reader of an older state, nothing is lost.
   */
  async restart(patienceMs: number): Promise<RestartOutcome> {
    await this.look();
    if (this.soft) return 'restarted';
    if (this.reading.frames > this.pinnedUpTo) {
      // Most of the copying happens here, beside the writers. There are frames that no one could have copied under the
      // present pin, so the new pin reads at a place in the log too.
      await this.pins.movePin();
      await this.notePin();
      // What is copied here would explain a foreign write from before it.
      await this.checkFiles();
      await this.copyBeside();
      if (this.soft) return 'restarted';
    }
    // Others write all the time; only locking them out for a moment makes the copy complete. What they write is read while
    // this waits for that, because they wait for what is read afterwards.
    const copied = async () => {
      await this.look();
      return this.soft;
    };
    if (!(await this.pins.lockWrites(patienceMs, copied))) return this.soft ? 'restarted' : 'others are busy';
    let copying = false;
    this.locksOut = true;
    try {
      await this.look();
      await this.checkFiles();
      await this.pins.releasePins();
      try {
        copying = await this.pins.checkpoint();
      } finally {
        // While the write lock is held nobody can have restarted the log.
        await this.pins.pin();
      }
      const state = await this.pins.state();
      if (state?.frames !== this.reading.frames)
        throw new BrokenLog('the log changed although its writers were locked out');
      this.pinnedUpTo = state.frames;
      this.soft = state.copied === state.frames;
      await this.checkMain(state);
    } finally {
      this.locksOut = false;
      await this.pins.unlockWrites();
    }
    await this.main.note();
    if (this.soft) return 'restarted';
    // It copied as far as it might, and no program can have written since: what kept it is a reader.
    return copying ? 'held by a reader' : 'others are busy';
  }

  /**
   * Copies up to the pin, or waits for a program that does: one that commits tries it after each commit, and is likely to be
   * the first where there are many.
   */
  private async copyBeside(): Promise<void> {
    const began = performance.now();
    while (!(await this.pins.checkpoint())) {
      const copied = (await this.pins.state())?.copied ?? 0;
      const patienceMs = this.pins.attempted() > copied ? copyPatienceMs : copyBeginMs;
      if (performance.now() - began >= patienceMs) break;
      await delay(copyAskMs);
      await this.look();
      if (this.soft) return;
    }
    await this.look();
  }

  /** Before letting go of the source: everything into segments, and a note that all is at rest where it is. */
  async rest(patienceMs: number): Promise<void> {
    await this.fence();
    await this.restart(patienceMs);
    await this.fence();
    for (let i = 0; this.soft && i < 10 && !(await this.noteRest()); i++) {
      await delay(10);
    }
  }

  /** Saves what was captured whole and lets go; answers with where it ends. */
  async abandon(): Promise<ArchiveEnd> {
    await this.writer.sealOrForget();
    await this.close().catch(() => {});
    const { generation, ordinal, coveredTo, end } = this.writer;
    return { generation, ordinal, coveredTo, continuation: end };
  }

  async close(): Promise<void> {
    try {
      await this.writer.close();
      await this.wal.close();
    } finally {
      // A pin that stayed would keep the log from being restarted for good.
      await this.pins.close();
    }
  }

  /**
   * All of the log is read and copied: exchanges the firm pin for a soft one, so that the next writer may restart the
   * log. No lock is needed. The firm pin keeps this life of the log going until the new pin is there; if all is still
   * read and copied then, the new pin reads the file alone and nothing beyond it has been or can be copied. What a
   * writer adds in between continues this life, and is not copied, so it cannot be overwritten.
   */
  private async soften(): Promise<void> {
    this.soft = await this.pins.tryPin(
      (state) => state?.frames === this.reading.frames && state.copied === this.reading.frames,
    );
    // What was copied until now explains the writes until now; from here on there must be none.
    if (this.soft) await this.checkMain({ frames: this.reading.frames, copied: this.reading.frames });
  }

  /** Under a soft pin. False while it can't be told that everything captured is in the file. */
  private async noteRest(): Promise<boolean> {
    const { frames, copied } = await this.checkFiles();
    return (frames === 0 || (frames === this.reading.frames && copied === frames)) && (await this.rests.note());
  }

  private async checkFiles(): Promise<LogState> {
    const state = await this.pins.state();
    if (!state) throw new BrokenLog('the database is no longer in WAL mode');
    this.checkIndex();
    await this.checkMain(state);
    if (!(await this.wal.sameFile())) throw new BrokenLog('the write-ahead log file was replaced by another one');
    return state;
  }

  private checkIndex(): void {
    if (!this.pins.bind()) throw new BrokenLog('the -shm file of the database was removed or replaced');
  }

  private async checkMain(before: LogState): Promise<void> {
    await this.main.check(before, this.soft, {
      state: () => this.pins.state(),
      attempted: () => this.pins.attempted(),
      idle: () => this.pins.checkpoint(),
    });
    if (!this.locksOut) await this.main.note();
  }

  private enterNewLife(header: WalHeader, state: LogState): void {
    if (!this.soft) throw new BrokenLog('the write-ahead log was restarted although a reader protected it');
    this.reading.enterNewLife(header, state);
    this.main.newLife();
  }

  private async notePin(): Promise<void> {
    this.pinnedUpTo = (await this.pins.state())?.frames ?? 0;
  }
}
