/**
 * Makes lasting what was copied into a database file, before its writers are locked out for the rest. SQLite itself does that
 * only where it has copied all of the log (walCheckpoint in its wal.c), which at a busy database is under that lock alone.
 * The engine process asks and the service does it: opening and closing the file would drop the locks that SQLite has
 * there, see engineProcess.
 */
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';

/** How long the engine waits, ms: whoever copies the rest of the log then has the more to wait for. */
const usualPatienceMs = 2000;
/** The name may lead to anything by now; a pipe would hold the thread that opens it. */
const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK | constants.O_NOCTTY;

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
      const handle = await open(file, flags);
      await handle.datasync().finally(() => handle.close());
    } catch {
      // Those who have the file open and copy the rest of the log meet the same, and tell.
    } finally {
      this.busy = false;
    }
  }
}
