/**
 * One unbroken look after another at a database's log: what SQLite says is committed is read from the `-wal` file, proved,
 * timed and put into segments; and the pin follows what was read, so that nothing disappears in between.
 *
 * Time: a transaction is committed when the wal-index counts its last frame. A look asks for that count; `lo` is read
 * before the question and `hi` after the answer. What a look finds was not counted when the look before it asked, so it
 * became visible after that look's `lo` (tLo) and before this one's `hi` (tHi).
 */
import { sameLife } from '../formats/walFormat.js';
import type { LogState } from '../formats/walIndex.js';
import type { MainFile } from '../source/mainFile.js';
import { BrokenLog, type WalFile } from '../source/walFile.js';
import type { WalPins } from '../source/walPins.js';
import type { BracketClock } from './bracketClock.js';
import type { AttachRequest, CaptureHost } from './captureTerms.js';
import type { SegmentWriter } from './segmentWriter.js';
import type { WalReading } from './walReading.js';

/** A look that is earlier than a time given before by more than this means that the clock was set back, µs. */
const setBackMicros = 1_000_000;

/** A database that is followed: its files, and what is kept of them. */
export interface FollowedDatabase {
  request: AttachRequest;
  host: CaptureHost;
  main: MainFile;
  pins: WalPins;
  wal: WalFile;
  writer: SegmentWriter;
  reading: WalReading;
}

export class LogWatch {
  /** The application's writers wait: what can be done afterwards is. */
  private hurries = false;

  constructor(
    private readonly followed: FollowedDatabase,
    /** The `lo` of the look before. */
    private seenLo: number,
    private readonly clock: BracketClock,
  ) {}

  /**
   * Reads what was committed since the last look; true where there was something.
   * @throws BrokenLog where part of the log was lost, so that the stretch ends here
   */
  async look(): Promise<boolean> {
    const { pins, reading, writer } = this.followed;
    const { lo } = this.clock.now();
    const state = await this.state();
    const { hi } = this.clock.now();
    // After `lo`: whatever was committed before it was counted where this look asks.
    this.checkIndex();
    if (state.frames === 0) {
      if (!pins.soft) throw new BrokenLog('the write-ahead log was emptied although a reader protected it');
    } else if (!reading.isOf(state)) await this.enterNewLife(state);
    // What an earlier look read and could not save: it is nowhere but in the log, which must not be let go of before.
    await writer.flush();
    const found = state.frames > 0 && state.frames !== reading.frames;
    if (found) {
      // All that is read below was committed before this, so it lies over the file that is checked here.
      await this.checkMain(state.copied);
      await reading.read(state.frames, writer.timesBetween(this.seenLo, hi));
    }
    this.nothingUnread(lo);
    await this.followWithPin(state);
    return found;
  }

  /** Whether all of the log is read and copied, so that the next writer may restart it. */
  async looksCopied(): Promise<boolean> {
    await this.look();
    return this.followed.pins.soft;
  }

  /** Everything that was committed before `lo` is read. */
  nothingUnread(lo: number): void {
    // A clock that was set back tells nothing until it has caught up with the times that were given, maybe by an earlier
    // generation. What was given a time is covered all the same: what comes later gets a greater one.
    const { axis } = this.followed.writer;
    this.followed.writer.covered(lo < axis - setBackMicros ? axis : lo);
    this.seenLo = Math.max(this.seenLo, lo);
  }

  /** Whether the database is still the one that is followed; answers with the state of its log before that. @throws BrokenLog */
  async checkFiles(): Promise<LogState> {
    const { pins, reading, wal } = this.followed;
    const state = await this.state();
    this.checkIndex();
    await this.checkMain(state.copied);
    if (!(await wal.sameFile())) throw new BrokenLog('the write-ahead log file was replaced by another one');
    // Under a soft pin it may have been restarted or emptied, and is not needed any more.
    if (pins.soft) return state;
    const header = await wal.header();
    if (!header || !reading.isOf(header))
      throw new BrokenLog('the write-ahead log was emptied or replaced by something that is not SQLite');
    return state;
  }

  /** Proves that only checkpoints wrote to the database file, see MainFile. @throws BrokenLog */
  async checkMain(copied: number): Promise<void> {
    const { main, pins } = this.followed;
    await main.check(copied, pins);
    if (!this.hurries) await main.note();
  }

  /** For `work` that the application's writers wait for: what is checked meanwhile is for the caller to note afterwards. */
  async hurried<T>(work: () => Promise<T>): Promise<T> {
    this.hurries = true;
    try {
      return await work();
    } finally {
      this.hurries = false;
    }
  }

  private async state(): Promise<LogState> {
    const state = await this.followed.pins.state();
    if (!state) throw new BrokenLog('the database is no longer in WAL mode');
    return state;
  }

  private checkIndex(): void {
    if (!this.followed.pins.bind()) throw new BrokenLog('the -shm file of the database was removed or replaced');
  }

  private async enterNewLife(state: LogState): Promise<void> {
    const { main, pins, reading, wal } = this.followed;
    if (!pins.soft) throw new BrokenLog('the write-ahead log was restarted although a reader protected it');
    // It is written before the first frame, and under a soft pin this life cannot have ended since.
    const header = await wal.header();
    if (!header || !sameLife(header, state))
      throw new BrokenLog('the header of the write-ahead log is not what SQLite says');
    reading.enterNewLife(header, state);
    main.newLife();
  }

  /** A soft pin becomes firm when there is log that is not copied, and a firm one soft when there is none. */
  private async followWithPin({ frames, copied }: LogState): Promise<void> {
    const { pins, reading } = this.followed;
    if (frames !== reading.frames) return;
    // Not only where something was found: a look that found it and could not save it may have ended before this.
    if (pins.soft && copied < frames) {
      // In the moment in which a writer restarts it, a log may be counted whole and nothing of it as copied.
      const now = await this.state();
      if (reading.isOf(now) && now.copied < frames) await pins.movePin();
    } else if (!pins.soft && copied === frames && (await pins.soften(frames))) {
      // What was copied until now explains the writes until now; from here on there must be none.
      await this.checkMain(frames);
    }
  }
}
