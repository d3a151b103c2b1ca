/** What no recovery can be faster than: copying the result durably, and hashing what is stored with every core. */
import { once } from 'node:events';
import { readdir, rm } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { Worker } from 'node:worker_threads';
import { seconds } from './figures.js';
import { runProgram } from './program.js';

/** Seconds of `cp` and fsync of the copy, which is removed afterwards. */
export async function copyFloor(file: string, copy: string): Promise<number> {
  await rm(copy, { force: true });
  const taken = await seconds(async () => {
    await runProgram('cp', ['--reflink=never', file, copy]);
    await runProgram('sync', [copy]);
  });
  await rm(copy);
  return taken;
}

/** Hashes whole trees of files on all cores. The threads are started outside what is measured. */
export class HashFloor {
  private constructor(private readonly workers: Worker[]) {}

  static async start(): Promise<HashFloor> {
    const workers = Array.from(
      { length: availableParallelism() },
      () => new Worker(new URL('./hashWorker.js', import.meta.url)),
    );
    await Promise.all(workers.map((worker) => new Promise((resolve) => worker.once('online', resolve))));
    return new HashFloor(workers);
  }

  /** Seconds for every file below `directory`. */
  async measure(directory: string): Promise<number> {
    const entries = await readdir(directory, { recursive: true, withFileTypes: true });
    const files = entries.filter((entry) => entry.isFile()).map((entry) => path.join(entry.parentPath, entry.name));
    return seconds(() =>
      Promise.all(
        this.workers.map(async (worker) => {
          for (let file = files.pop(); file; file = files.pop()) {
            const done = once(worker, 'message');
            worker.postMessage(file);
            await done;
          }
        }),
      ),
    );
  }

  async close(): Promise<void> {
    await Promise.all(this.workers.map((worker) => worker.terminate()));
  }
}
