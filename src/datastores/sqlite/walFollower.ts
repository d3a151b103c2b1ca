/**
 * One unbroken look after another at a database's log: what SQLite says is committed is read from the `-wal` file,
 * proved, timed and put into segments. Runs in the engine process, one call at a time.
 *
 * Time: a transaction is committed when the wal-index counts its last frame. A look asks for that count; `lo` is read
 * before the question and `hi` after the answer. What a look finds was not counted when the look before it asked, so it
 * became visible after that look's `lo` (tLo) and before this one's `hi` (tHi).
 */
import path from 'node:path';
import { type AttachFrom, type AttachPoint, attachPoint } from './attachPoint.js';
import { BracketClock } from './bracketClock.js';
import { refuseLinks } from './databasePaths.js';
import type { ArchiveEnd, AttachRequest, FenceReply, SessionEvent } from './engineProtocol.js';
import { type FileMark, isSettled, isStill, MainFile, markOf } from './mainFile.js';
import { saveRest } from './restMark.js';
import { SegmentWriter } from './segmentWriter.js';
import { BrokenLog, WalFile } from './walFile.js';
import { type FrameHeader, frameBytes, type WalHeader, type WalSum } from './walFormat.js';
import { type LogState, WalPins } from './walPins.js';

const attachPatienceMs = 5000;
/** How often a fence may look for its own result's times to have passed; a millisecond apart. */
const fenceLooks = 50;
/** A look that is earlier than a time given before by more than this means that the clock was set back, µs. */
const setBackMicros = 1_000_000;
/** How often the coverage of a database at rest is told, ms; a fence tells it at once. */
const idleTellMs = 10_000;

export class WalFollower {
  private readonly pageSize: number;
  private dbPages: number;
  /** The log's present life; null while there never was a frame. */
  private epoch: WalHeader | null;
  /** Frames of it that were read, and the checksum after them. */
  private frames: number;
  private sum: WalSum;
  /** See walPins: whether the log may be restarted once under the present pin. */
  private soft: boolean;
  /** The pin reads at most at this frame. */
  private pinnedUpTo: number;
  /** The last transaction that was committed before the present life of the log began. */
  private epochStart: number;
  /** The `lo` of the look before. */
  private seenLo: number;
  /** The log and the file as they were when everything written to the log was read. */
  private quiet: { wal: FileMark; main: FileMark } | null = null;
  private toldAt = 0;
  /** For which place there is a note of rest already. */
  private restNoted = '';

  private constructor(
    private readonly request: AttachRequest,
    private readonly main: MainFile,
    private readonly pins: WalPins,
    private readonly wal: WalFile,
    private readonly writer: SegmentWriter,
    point: AttachPoint,
    private readonly clock: BracketClock,
  ) {
    this.pageSize = point.pageSize;
    this.dbPages = point.dbPages;
    this.epoch = point.epoch;
    this.frames = point.frames;
    this.sum = point.sum;
    this.soft = point.soft;
    this.pinnedUpTo = point.logFrames;
    this.epochStart = point.epochStart;
    this.seenLo = point.seenLo;
  }

  /**
   * Attaches to a database and starts a new generation unless the log goes on where `from.known` ends.
   * @throws Error where the database cannot be opened, is not in WAL mode or others keep the write lock
   */
  static async attach(
    request: AttachRequest,
    from: AttachFrom,
    emit: (event: SessionEvent) => void,
    clock = new BracketClock(),
  ): Promise<WalFollower> {
    await refuseLinks(request.file, path.dirname(request.spool));
    const pins = await WalPins.open(request.file);
    const wal = new WalFile(`${request.file}-wal`);
    try {
      if (!(await pins.lockWrites(attachPatienceMs))) {
        throw new Error('another program has held the write lock of the database for seconds; capture waits for it');
      }
      let point: AttachPoint;
      try {
        point = await attachPoint(request, from, pins, wal);
      } finally {
        await pins.unlockWrites();
      }
      if (point.newStretch) emit({ type: 'stretch', ...point.newStretch });
      const { generation, ordinal, pageSize, axis, epoch, frames, sum } = point;
      const end = epoch && { version: 1 as const, pageSize, salt1: epoch.salt1, salt2: epoch.salt2, frames, sum, axis };
      const writer = new SegmentWriter(request, generation, ordinal, pageSize, point.seenLo, axis, end, emit);
      const main = new MainFile(request.file, request.spool, generation, point.file, point.copied);
      await main.note();
      return new WalFollower(request, main, pins, wal, writer, point, clock);
    } catch (error) {
      await wal.close();
      await pins.close();
      throw error;
    }
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
    let found = false;
    if (state.frames === 0) {
      if (!this.soft) throw new BrokenLog('the write-ahead log was emptied although a reader protected it');
    } else {
      const header = await this.wal.header();
      if (header && !(this.epoch && sameLog(header, this.epoch))) {
        // The answer may still have been about the log's former life; with this header on disk, the next one is not.
        state = await this.pins.state();
        hi = this.clock.now().hi;
        if (!state) throw new BrokenLog('the database is no longer in WAL mode');
        if (state.frames > 0) this.enterNewLife(header, state.copied);
      } else if (!header && !this.soft) {
        throw new BrokenLog('the write-ahead log disappeared although a reader protected it');
      }
      if (header && this.epoch && sameLog(header, this.epoch) && state.frames !== this.frames) {
        // All that is read below was committed before this, so it lies over the file that is checked here.
        await this.checkMain(state);
        await this.read(state.frames, this.writer.timesBetween(this.seenLo, hi));
        found = true;
      }
    }
    // A clock that was set back tells nothing until it has caught up with the times that were given, maybe by an earlier
    // generation. What was given a time is covered all the same: what comes later gets a greater one.
    const { axis } = this.writer;
    this.writer.covered(lo < axis - setBackMicros ? axis : lo);
    this.seenLo = Math.max(this.seenLo, lo);
    if (found && this.soft) {
      // Nothing beyond the former pin's place can have been copied, so the new pin reads at a place in the log.
      await this.pins.movePin();
      await this.notePin();
      this.soft = false;
    } else if (!this.soft && state.frames === this.frames && state.copied === this.frames) {
      await this.soften();
    }
    return found;
  }

  /** Nothing is left to do until something happens, and a glance tells whether it does. */
  atRest(idleRestartBytes: number): boolean {
    return this.quiet !== null && !this.writer.hasOpenSegment && !this.restartable(idleRestartBytes);
  }

  /**
   * A look that asks the filesystem alone, where everything written to the log was read before: while neither the log nor
   * the file changes, nothing can be committed. False where only a real look can tell.
   */
  glance(): boolean {
    if (!this.quiet) return false;
    const { lo } = this.clock.now();
    if (!isStill(this.wal.path, this.quiet.wal) || !isStill(this.request.file, this.quiet.main)) {
      this.quiet = null;
      return false;
    }
    this.seenLo = Math.max(this.seenLo, lo);
    this.writer.covered(lo);
    return true;
  }

  /** Says how far time is covered, of a database at rest less often. */
  tellCoverage(): void {
    const now = performance.now();
    // All databases tell in the same moments, so that the catalog is written to in these alone.
    if (this.quiet && Math.floor(now / idleTellMs) === Math.floor(this.toldAt / idleTellMs)) return;
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
    if (!this.soft || this.restNoted.startsWith(`${this.writer.ordinal} `)) return;
    await this.checkFiles();
    await this.noteRest();
  }

  /** What needs no haste: is it still the same file; tell how far time is covered. */
  async onSlowPoll(): Promise<void> {
    await this.checkFiles();
    this.tellCoverage();
    if (this.soft) await this.noteRest();
    await this.quieten();
  }

  /** Everything up to now in sealed segments; coveredTo has passed the times of all that was committed before the call. */
  async fence(): Promise<FenceReply> {
    await this.checkFiles();
    await this.look();
    const target = this.writer.axis;
    for (let i = 0; i < fenceLooks && this.writer.coveredTo < target; i++) {
      await new Promise((resolve) => setTimeout(resolve, 1));
      await this.look();
    }
    // By less than a second set back, the clock has not caught up by now.
    this.writer.covered(target);
    await this.writer.seal();
    this.writer.tellCoverage();
    const { generation, ordinal, coveredTo, axis } = this.writer;
    const state = await this.pins.state();
    const copiedUpTo = state && this.epoch && state.copied === this.frames ? ordinal : this.epochStart;
    return { generation, ordinal, coveredTo, axis, dbPages: this.dbPages, pageSize: this.pageSize, copiedUpTo };
  }

  restartable(fromBytes: number): boolean {
    return !this.soft && this.frames * frameBytes(this.pageSize) >= fromBytes;
  }

  /**
   * Lets the next writer restart the log: copies all of it into the database and leaves a soft pin. False where others
   * are in the way; nothing is lost then.
   */
  async restart(patienceMs: number): Promise<boolean> {
    await this.look();
    if (this.soft) return true;
    if (this.frames > this.pinnedUpTo) {
      // Most of the copying happens here, beside the writers. There are frames that no one could have copied under the
      // present pin, so the new pin reads at a place in the log too.
      await this.pins.movePin();
      await this.notePin();
      // What is copied here would explain a foreign write from before it.
      await this.checkFiles();
      await this.pins.checkpoint();
      await this.look();
      if (this.soft) return true;
    }
    // Others write all the time; only locking them out for a moment makes the copy complete.
    if (!(await this.pins.lockWrites(patienceMs))) return false;
    try {
      await this.look();
      await this.checkFiles();
      await this.pins.releasePins();
      try {
        await this.pins.checkpoint();
      } finally {
        // While the write lock is held nobody can have restarted the log.
        await this.pins.pin();
      }
      const state = await this.pins.state();
      if (state?.frames !== this.frames) throw new BrokenLog('the log changed although its writers were locked out');
      this.pinnedUpTo = state.frames;
      this.soft = state.copied === state.frames;
      await this.checkMain(state);
    } finally {
      await this.pins.unlockWrites();
    }
    return this.soft;
  }

  /** Before letting go of the source: everything into segments, and a note that all is at rest where it is. */
  async rest(patienceMs: number): Promise<void> {
    await this.fence();
    await this.restart(patienceMs);
    await this.fence();
    for (let i = 0; this.soft && i < 10 && !(await this.noteRest()); i++) {
      await new Promise((resolve) => setTimeout(resolve, 10));
      await this.checkFiles();
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
    await this.writer.close();
    await this.wal.close();
    await this.pins.close();
  }

  /**
   * All of the log is read and copied: exchanges the firm pin for a soft one, so that the next writer may restart the
   * log. No lock is needed. The firm pin keeps this life of the log going until the new pin is there; if all is still
   * read and copied then, the new pin reads the file alone and nothing beyond it has been or can be copied. What a
   * writer adds in between continues this life, and is not copied, so it cannot be overwritten.
   */
  private async soften(): Promise<void> {
    this.soft = await this.pins.tryPin((state) => state?.frames === this.frames && state.copied === this.frames);
    // What was copied until now explains the writes until now; from here on there must be none.
    if (this.soft) await this.checkMain({ frames: this.frames, copied: this.frames });
  }

  private async checkFiles(): Promise<void> {
    const state = await this.pins.state();
    if (!state) throw new BrokenLog('the database is no longer in WAL mode');
    await this.checkMain(state);
    if (!(await this.wal.sameFile())) throw new BrokenLog('the write-ahead log file was replaced by another one');
  }

  /** Notes that nothing unread was written to the log. The order matters: what is written after the mark changes it. */
  private async quieten(): Promise<void> {
    const main = this.main.settledMark();
    const wal = await markOf(this.wal.path).catch(() => null);
    if (!main || !wal || !isSettled(wal)) return;
    if (wal.size !== '0') {
      const header = await this.wal.header();
      if (!header || !this.epoch || !sameLog(header, this.epoch)) return;
      if (await this.wal.hasFrameAfter(header, this.frames)) return;
    }
    const state = await this.pins.state();
    if (state?.frames !== this.frames && !(state?.frames === 0 && this.soft)) return;
    this.quiet = { wal, main };
    await this.pins.closeSpares();
  }

  private async checkMain(before: LogState): Promise<void> {
    await this.main.check(before, this.soft, {
      state: () => this.pins.state(),
      idle: () => this.pins.checkpoint(),
    });
  }

  /** The log was restarted. @throws BrokenLog unless that is known to have lost nothing */
  private enterNewLife(header: WalHeader, copied: number): void {
    if (!this.soft) throw new BrokenLog('the write-ahead log was restarted although a reader protected it');
    // Under a soft pin no life of the log that had a frame can have ended, so this one is the first with any since
    // everything was read. Its salts prove nothing more: a restart raises the first by one, but an empty log may be
    // emptied again any number of times, and a connection that finds it empty draws new ones at random.
    if (copied > 0) throw new BrokenLog('the write-ahead log was copied although a reader protected it');
    if (header.pageSize !== this.pageSize) throw new BrokenLog('the page size of the database changed');
    this.epoch = header;
    this.frames = 0;
    this.sum = { ...header.sum };
    this.epochStart = this.writer.ordinal;
    this.main.newLife();
  }

  private async read(upTo: number, times: { tLo: number; tHi: number }): Promise<void> {
    const epoch = this.epoch;
    if (!epoch || upTo < this.frames) throw new BrokenLog('the write-ahead log lost frames that were committed');
    const sum = { ...this.sum };
    await this.wal.frames(epoch, { from: this.frames, to: upTo }, sum, async (bytes, headers) => {
      try {
        await this.writer.take(epoch, this.frames, this.sum, bytes, headers, times);
      } finally {
        // Where the disk had no room for all of it, reading goes on after what it took.
        this.advance(headers.slice(0, this.writer.taken));
      }
    });
    await this.writer.flush();
    if (!this.writer.atCommit) throw new BrokenLog('the last frame that SQLite counts does not end a transaction');
  }

  private advance(headers: FrameHeader[]): void {
    const last = headers.at(-1);
    if (!last) return;
    this.frames += headers.length;
    this.sum = last.sum;
    for (const header of headers) if (header.dbPages > 0) this.dbPages = header.dbPages;
  }

  private async notePin(): Promise<void> {
    this.pinnedUpTo = (await this.pins.state())?.frames ?? 0;
  }

  private async noteRest(): Promise<boolean> {
    const file = this.main.settledMark();
    if (!file) return false;
    const { generation, ordinal, end } = this.writer;
    const place = `${ordinal} ${file.changedNanos}`;
    if (place === this.restNoted) return true;
    await saveRest(this.request.spool, { generation, ordinal, continuation: end, file });
    this.restNoted = place;
    return true;
  }
}

function sameLog(a: WalHeader, b: WalHeader): boolean {
  return a.salt1 === b.salt1 && a.salt2 === b.salt2;
}
