/**
 * Hears of writes to a database's log, while that is worth what it costs: the system tells of each single write, and of a
 * busy database, which is looked at all the time anyway, that costs the application that writes more than the looks do.
 */
import { type FSWatcher, watch } from 'node:fs';
import path from 'node:path';

/** After so many looks in a row that found something nothing needs to be heard of any more. */
const busyLooks = 50;
/** When looks that find nothing are so far apart, it is to be heard again. */
const listenAgainMs = 32;

export class LogListener {
  private watcher: FSWatcher | null = null;
  /** How many of the last looks, without a break, found something. */
  private foundInRow = 0;

  constructor(
    /** The database's. */
    private readonly file: string,
    private readonly heard: () => void,
  ) {}

  get listens(): boolean {
    return this.watcher !== null;
  }

  /** @throws where the system has no watch left */
  listen(): void {
    const walName = `${path.basename(this.file)}-wal`;
    this.stop();
    // The directory, not the file: the log may be deleted and made again.
    this.watcher = watch(path.dirname(this.file), (_event, name) => {
      if (name === null || name === walName) this.heard();
    });
    this.watcher.on('error', () => this.stop());
  }

  stop(): void {
    this.watcher?.close();
    this.watcher = null;
  }

  /**
   * To be told of each look and how long it is to the next one, ms. True where it listens again: what was written before is
   * for another look to find.
   */
  looked(found: boolean, waitMs: number): boolean {
    this.foundInRow = found ? this.foundInRow + 1 : 0;
    if (this.foundInRow >= busyLooks) this.stop();
    if (this.listens || waitMs < listenAgainMs) return false;
    try {
      this.listen();
      return true;
    } catch {
      return false; // The next look tries again.
    }
  }
}
