/**
 * Makes lasting what was copied into a database file, before its writers are locked out for the rest. SQLite itself does that
 * only where it has copied all of the log (walCheckpoint in its wal.c), which at a busy database is under that lock alone.
 * The engine process asks and the service does it: opening and closing the file would drop the locks that SQLite has
 * there, see engineProcess.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { syncToDisk } from '../../durable.js';
import { foreignFileFlags } from '../../foreignFile.js';

/** How long the engine waits, ms: whoever copies the rest of the log then has the more to wait for. */
const usualPatienceMs = 2000;

/** The engine's side. */
export class FileSyncRequests {
  private readonly asked = new Map<number, () => void>();
  private nextRequest = 1;

  constructor(
    private readonly ask: (request: number, file: string) => void,
    private readonly patienceMs = usualPatienceMs,
  ) {}

  /** Resolves also where it was not done. */
  async sync(file: string): Promise<void> {
    const request = this.nextRequest++;
    const ended = new Promise<void>((resolve) => this.asked.set(request, resolve));
    this.ask(request, file);
    await Promise.race([ended, delay(this.patienceMs)]);
    this.asked.delete(request);
  }

  /** The service is through with it. */
  done(request: number): void {
    this.asked.get(request)?.();
  }
}

/** The service's side. */
export class FileSyncer {
  private busy = false;

  /** Resolves also where it was not done: one at a time is, whatever the file, lest a disk that hangs take all threads there are. */
  async sync(file: string): Promise<void> {
    if (this.busy) return;
    this.busy = true;
    try {
      await syncToDisk(file, foreignFileFlags);
    } catch {
      // Those who have the file open and copy the rest of the log meet the same, and tell.
    } finally {
      this.busy = false;
    }
  }
}
