/**
 * Has the disk write what a recovery puts into its copy while the recovery goes on, so that the sync at its end has less
 * to wait for. It proves nothing: what counts is that sync, and that nothing failed here.
 */
import { open, readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { Fault } from '../../../errors.js';

/** Small files together are little, and there are many. */
const LEAST_BYTES = 1024 * 1024;
const PAUSE_MS = 500;
/** Looking for files costs something for each of them: after each look it is twice as long until the next one. */
const LONGEST_BETWEEN_LOOKS_MS = 8_000;

export class WriteBack {
  private readonly stopping = new AbortController();
  /** Large files, and when each one was changed before it was last written. */
  private readonly large = new Map<string, number | null>();
  private failure: { error: unknown } | null = null;
  private readonly running: Promise<void>;

  /** Begins with every file below the directory, those to come included. */
  constructor(
    private readonly directory: string,
    private readonly syncFile: (file: string) => Promise<void> = dataToDisk,
  ) {
    this.running = this.run();
  }

  /** Never rejects. */
  async stop(): Promise<void> {
    this.stopping.abort();
    await this.running;
  }

  /**
   * The system tells of a failed write only once, and here it may have told it to nobody else.
   * @throws Fault STORAGE_FULL, INTERNAL where a write failed
   */
  demandWritten(): void {
    if (!this.failure) return;
    const { code, message } = this.failure.error as NodeJS.ErrnoException;
    if (code !== 'ENOSPC' && code !== 'EDQUOT') {
      throw new Fault('INTERNAL', `The disk did not take the copy: ${message}`, { cause: this.failure.error });
    }
    throw new Fault('STORAGE_FULL', `There is no room for the copy: ${message}`, {
      hint: 'Make room where the service keeps its instances, and recover again.',
      cause: this.failure.error,
    });
  }

  private async run(): Promise<void> {
    const { signal } = this.stopping;
    let lookAt = 0;
    let between = PAUSE_MS;
    while (!signal.aborted) {
      if (performance.now() >= lookAt) {
        await this.look();
        lookAt = performance.now() + between;
        between = Math.min(2 * between, LONGEST_BETWEEN_LOOKS_MS);
      }
      for (const file of this.large.keys()) if (!signal.aborted) await this.write(file);
      await pause(PAUSE_MS, null, { signal }).catch(() => {});
    }
  }

  private async look(): Promise<void> {
    const entries = await readdir(this.directory, { recursive: true, withFileTypes: true }).catch(() => []);
    for (const entry of entries) {
      if (this.stopping.signal.aborted) return;
      const file = path.join(entry.parentPath, entry.name);
      if (!entry.isFile() || this.large.has(file)) continue;
      const size = await stat(file).then(
        (found) => found.size,
        () => 0,
      );
      if (size >= LEAST_BYTES) this.large.set(file, null);
    }
  }

  private async write(file: string): Promise<void> {
    try {
      const { mtimeMs } = await stat(file);
      if (this.large.get(file) === mtimeMs) return;
      await this.syncFile(file);
      this.large.set(file, mtimeMs);
    } catch (error) {
      // Databases and tables are dropped in the log.
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') this.large.delete(file);
      else this.failure ??= { error };
    }
  }
}

async function dataToDisk(file: string): Promise<void> {
  const handle = await open(file, 'r');
  try {
    await handle.datasync();
  } finally {
    await handle.close();
  }
}
