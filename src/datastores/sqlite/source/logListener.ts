/**
 * Hears of writes to a database's log, while that is worth what it costs: the system tells of each single write, and of a
 * busy database, which is looked at all the time anyway, that costs the application that writes more than the looks do.
 * The file itself is watched: a watch on its directory would make every write to its neighbours as dear. SQLite keeps the
 * file as long as a connection is open; where somebody else puts another one there, the next slow look finds it.
 */
import { type FSWatcher, watch } from 'node:fs';

/** So many writes are heard of between two looks without the database becoming busier … */
const calmWrites = 4;
/** … and with so many more, at once or little by little, it counts as busy. */
const busyWrites = 12;
/** When looks that find nothing are so far apart, it is to be heard again. */
const listenAgainMs = 32;

export class LogListener {
  private watcher: FSWatcher | null = null;
  /** Since the last look. */
  private writes = 0;
  /** Writes beyond the calm ones. */
  private busyness = 0;

  constructor(
    /** The log's. */
    private readonly file: string,
    private readonly heard: () => void,
  ) {}

  get listens(): boolean {
    return this.watcher !== null;
  }

  /** False where there is no such file, or the system has no watch left: then looks have to do. */
  listen(): boolean {
    this.stop();
    try {
      this.watcher = watch(this.file, (event) => {
        // It has another name or none: what is written under this one is to be heard of through a new watch.
        if (event === 'rename') this.stop();
        this.writes++;
        this.heard();
      });
      this.watcher.on('error', () => this.stop());
    } catch {
      return false;
    }
    return true;
  }

  stop(): void {
    this.watcher?.close();
    this.watcher = null;
    this.busyness = 0;
  }

  /**
   * To be told after each look how long it is to the next one, ms. True where it listens again: what was written before is
   * for another look to find.
   */
  looked(waitMs: number): boolean {
    this.busyness = Math.max(0, this.busyness + this.writes - calmWrites);
    this.writes = 0;
    if (this.busyness >= busyWrites) this.stop();
    if (this.listens || waitMs < listenAgainMs) return false;
    return this.listen();
  }
}
