/**
 * What a capture holds on to in SQLite so that no part of the log disappears unread: read transactions ("pins") and,
 * for moments, the write lock.
 *
 * A pin is *firm* when it reads at a place in the log: while it is held, no process can restart the log. A pin taken
 * when all of the log was already copied into the database reads the database alone and is *soft*: while it is held
 * no process can copy anything more out of the log, so a log that is restarted under it cannot be restarted again once
 * it has a frame. Both follow from SQLite's walTryBeginRead, walRestartLog and walCheckpoint.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { type LogState, WalIndex } from '../formats/walIndex.js';
import { Connection, isBusy, isOfDisk } from './connection.js';

/** A copy into the database ended early, because the disk is full or fails. The log is whole, and none of it counts as copied. */
export class DiskRefuses extends Error {}

/** What a connection that only holds on to the log needs to keep of the database. */
const cachedPages = 2;
/** Some two milliseconds of them. */
const triesAtOnce = 16;
/** Ten milliseconds apart. */
const stateAttempts = 100;

export class WalPins {
  /** Whether the log may be restarted once under the present pin. */
  soft = false;
  /** The pin reads at most at this frame of the log: what follows cannot have been copied. */
  readsUpTo = 0;
  private writer: Connection | null = null;
  private current = 0;
  private pinned = [false, false];
  private readonly index: WalIndex;

  private constructor(
    private readonly file: string,
    private checkpointer: Connection | null,
    /** One of them holds the pin; every other connection is opened when it is needed. */
    private readonly pins: [Connection | null, Connection | null],
  ) {
    this.index = new WalIndex(`${file}-shm`);
  }

  static async open(file: string): Promise<WalPins> {
    // The pins are read-only: the last connection that closes would copy and delete the log, a read-only one cannot.
    const pin = await openReading(file, 'read-only');
    try {
      return new WalPins(file, await openReading(file, 'read-write'), [pin, null]);
    } catch (error) {
      await pin.close();
      throw error;
    }
  }

  /** Without touching anything. Null where the database is not in WAL mode. */
  async state(): Promise<LogState | null> {
    for (let attempt = 1; ; attempt++) {
      const state = this.index.state();
      if (state) return state;
      // SQLite itself rebuilds the wal-index where it has to; `NOOP` takes no lock.
      const [answer] = await (await this.asking()).all('PRAGMA wal_checkpoint=NOOP');
      const busy = answer?.busy !== 0;
      if (!busy && Number(answer?.log) < 0) return null;
      if (attempt === stateAttempts) throw new Error('the state of the log could not be read for a second');
      // Busy means that a process is rebuilding it: a matter of milliseconds. Otherwise one was just writing to it.
      if (busy || attempt > 1) await delay(10);
    }
  }

  /**
   * Whether the pins bind those who open the database now. They do so through the `-shm` file; whoever finds another one
   * under that name, because somebody removed or replaced it, knows nothing of them and counts commits elsewhere.
   */
  bind(): boolean {
    return this.index.sameFile();
  }

  /**
   * Copies what it can into the database without waiting for anybody, synchronised as SQLite does it. False where another
   * program is about to do so.
   * @throws DiskRefuses
   */
  async checkpoint(): Promise<boolean> {
    const connection = await this.asking();
    try {
      const [answer] = await connection.all('PRAGMA wal_checkpoint=PASSIVE');
      return answer?.busy === 0;
    } catch (error) {
      if (isOfDisk(error)) throw new DiskRefuses((error as Error).message);
      throw error;
    }
  }

  /** See walIndex. */
  copyBegunBeyond(frames: number): boolean {
    return this.index.copyBegunBeyond(frames);
  }

  async settings(): Promise<{ journalMode: string; pageSize: number; dbPages: number }> {
    const connection = await this.asking();
    return {
      journalMode: String(await connection.value('PRAGMA journal_mode')),
      pageSize: Number(await connection.value('PRAGMA page_size')),
      dbPages: Number(await connection.value('PRAGMA page_count')),
    };
  }

  /**
   * Takes the write lock; false where others held it for all of `patienceMs` or it became `needless`, which is asked now and
   * then meanwhile. A program that does nothing but commit lets go of it for some microseconds at a time, which only many
   * tries right after each other meet.
   */
  async lockWrites(patienceMs: number, needless: () => Promise<boolean>): Promise<boolean> {
    const deadline = performance.now() + patienceMs;
    for (let wait = 1; ; wait = Math.min(wait * 2, 20)) {
      for (let tries = 0; tries < triesAtOnce; tries++) if (await this.tryLockWrites()) return true;
      if (performance.now() >= deadline) return false;
      await delay(wait);
      if (await needless()) return false;
    }
  }

  private async tryLockWrites(): Promise<boolean> {
    try {
      this.writer ??= await openReading(this.file, 'read-write');
      await this.writer.run('BEGIN IMMEDIATE');
      return true;
    } catch (error) {
      if (isBusy(error)) return false;
      throw error;
    }
  }

  async unlockWrites(): Promise<void> {
    await this.writer?.run('ROLLBACK');
  }

  /**
   * Takes a first pin without the write lock, and answers with the log as it is found then. Whether that pin is firm cannot
   * be told: between it and the answer others may have written and copied. `pin` takes it anew.
   */
  async pinBeside(): Promise<LogState | null> {
    await this.begin(this.current);
    return this.state();
  }

  /** Takes the pin, under the write lock, and answers with the log that it reads. Nobody can restart the log meanwhile. */
  async pin(): Promise<LogState | null> {
    await this.end(this.current);
    await this.begin(this.current);
    const state = await this.state();
    this.readsUpTo = state?.frames ?? 0;
    this.soft = state !== null && state.copied === state.frames;
    return state;
  }

  /**
   * Some of the log was not read when its pin was taken, which may be soft: it has to be taken for a firm one, since a
   * restart would lose what was not read.
   */
  missesSome(): void {
    this.soft = false;
  }

  /**
   * Takes a new pin at the newest commit and lets the old one go afterwards, so that there is always one. To be called where
   * the log has frames that no one can have copied under the present pin: then the new one reads at a place in the log too,
   * and is firm.
   */
  async movePin(): Promise<void> {
    const next = 1 - this.current;
    await this.begin(next);
    await this.end(this.current);
    this.current = next;
    this.soft = false;
    this.readsUpTo = (await this.state())?.frames ?? 0;
  }

  /**
   * Exchanges the firm pin for a soft one if all of the log is read, which is so of its first `framesRead` frames, and copied:
   * then the next writer may restart the log. No lock is needed. The firm pin keeps this life of the log going until the
   * new pin is there; if all is still read and copied then, the new pin reads the file alone and nothing beyond it has
   * been or can be copied. What a writer adds in between continues this life, and is not copied, so it cannot be
   * overwritten.
   */
  async soften(framesRead: number): Promise<boolean> {
    const next = 1 - this.current;
    await this.begin(next);
    const state = await this.state();
    const all = state?.frames === framesRead && state.copied === framesRead;
    await this.end(all ? this.current : next);
    if (!all) return false;
    this.current = next;
    this.soft = true;
    this.readsUpTo = framesRead;
    return true;
  }

  /**
   * Copies all of the log that other readers allow to, and takes the pin anew. Under the write lock nobody can restart the
   * log in between.
   * @throws DiskRefuses
   */
  async copyAndPin(): Promise<{ state: LogState | null; othersCopy: boolean }> {
    await this.end(0);
    await this.end(1);
    let othersCopy = true;
    let state: LogState | null;
    try {
      othersCopy = !(await this.checkpoint());
    } finally {
      state = await this.pin();
    }
    return { state, othersCopy };
  }

  /** The pins go last, see open; and whatever fails, all of them do: one that stayed would keep the log for good. */
  async close(): Promise<void> {
    const failures: unknown[] = [];
    for (const connection of [this.writer, this.checkpointer, ...this.pins])
      await connection?.close().catch((error) => failures.push(error));
    this.index.close();
    if (failures.length > 0) throw failures[0];
  }

  /** Closes what a database at rest does not need; it is opened again when it is. */
  async closeSpares(): Promise<void> {
    const spare = this.pins[1 - this.current];
    if (this.pinned[1 - this.current]) return;
    this.pins[1 - this.current] = null;
    await spare?.close();
    const { writer, checkpointer } = this;
    this.writer = null;
    this.checkpointer = null;
    await writer?.close();
    await checkpointer?.close();
  }

  private async asking(): Promise<Connection> {
    this.checkpointer ??= await openReading(this.file, 'read-write');
    return this.checkpointer;
  }

  private async begin(index: number): Promise<void> {
    const connection = this.pins[index] ?? (await openReading(this.file, 'read-only'));
    this.pins[index] = connection;
    for (let attempt = 1; !this.pinned[index]; attempt++) {
      await connection.run('BEGIN');
      try {
        await connection.all('SELECT 1 FROM sqlite_schema LIMIT 1');
        this.pinned[index] = true;
      } catch (error) {
        await connection.run('ROLLBACK');
        // Busy here means that a process is rebuilding the wal-index: a matter of milliseconds.
        if (!isBusy(error) || attempt === 50) throw error;
        await delay(10);
      }
    }
  }

  private async end(index: number): Promise<void> {
    if (!this.pinned[index]) return;
    this.pinned[index] = false;
    await this.pins[index]?.run('ROLLBACK');
  }
}

/** Reading once makes the connection open the log; before that SQLite could not say anything about it. */
async function openReading(file: string, mode: 'read-only' | 'read-write'): Promise<Connection> {
  const connection = await Connection.open(file, mode);
  try {
    await connection.all('SELECT 1 FROM sqlite_schema LIMIT 1');
    // SQLite sets twenty pages aside per connection; none of these ever reads more than the first. Those set aside
    // already are given back only while no transaction uses one.
    await connection.run(`PRAGMA cache_size=${cachedPages}; PRAGMA shrink_memory`);
    return connection;
  } catch (error) {
    await connection.close();
    throw error;
  }
}
