/**
 * Has the disk write what a recovery puts into its copy while the recovery goes on, so that the sync at its end has less
 * to wait for. It proves nothing: what counts is that sync, and that nothing failed here.
 */
import { open, readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { Fault } from '../../errors.js';

/** Small files together are little, and there are many. */
const LEAST_BYTES = 1024 * 1024;
const PAUSE_MS = 500;

export class WriteBack {
  private readonly stopping = new AbortController();
  private readonly synced = new Map<string, number>();
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
    while (!signal.aborted) {
      await this.round();
      await pause(PAUSE_MS, null, { signal }).catch(() => {});
    }
  }

  private async round(): Promise<void> {
    const entries = await readdir(this.directory, { recursive: true, withFileTypes: true }).catch(() => []);
    for (const entry of entries) {
      if (this.stopping.signal.aborted) return;
      if (!entry.isFile()) continue;
      const file = path.join(entry.parentPath, entry.name);
      try {
        const { size, mtimeMs } = await stat(file);
        if (size < LEAST_BYTES || this.synced.get(file) === mtimeMs) continue;
        await this.syncFile(file);
        this.synced.set(file, mtimeMs);
      } catch (error) {
        // Databases and tables are dropped in the log.
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT') this.failure ??= { error };
      }
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
