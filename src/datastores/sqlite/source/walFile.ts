/**
 * Reads a `-wal` file by plain file operations, which is safe: SQLite puts no locks on it. (Opening and closing the main
 * database file or `-shm` that way would drop this process's locks on them; nothing here ever does.)
 */
import { type FileHandle, open, stat } from 'node:fs/promises';
import { foreignFileFlags } from '../../foreignFile.js';
import { Spares } from '../../spareBuffers.js';
import { FrameProver } from '../formats/frameProver.js';
import {
  frameBytes,
  frameHasSaltOf,
  frameHeaderBytes,
  frameSum,
  parseWalHeader,
  type RunningSum,
  type WalHeader,
  type WalSum,
  walHeaderBytes,
} from '../formats/walFormat.js';
import { readAt } from './atOnce.js';

/** The log does not continue what was read of it before. */
export class BrokenLog extends Error {}

const chunkBytes = 1 << 20;

/** Shared by all logs: few are read at the same time. */
const provers = new Spares(() => new FrameProver(), 4);

export class WalFile {
  private handle: FileHandle | null = null;
  private inode = 0n;

  constructor(readonly path: string) {}

  /** The header of the log as it is now; null where there is no file, an empty one, or no valid header yet. */
  async header(): Promise<WalHeader | null> {
    if (!this.handle && !(await this.open())) return null;
    const bytes = Buffer.alloc(walHeaderBytes);
    return parseWalHeader(bytes.subarray(0, await this.read(bytes, 0)));
  }

  /** Whether the name still leads to the file that is open. */
  async sameFile(): Promise<boolean> {
    if (!this.handle) return true;
    const found = await stat(this.path, { bigint: true }).catch(() => null);
    return found?.ino === this.inode;
  }

  /**
   * Reads frames (from, to] of the log, proving each; `sum` is carried on. Hands over runs of `count` whole frames: `bytes`
   * is valid until the promise that `take` returns resolves.
   * @throws BrokenLog at the first frame that does not continue the log
   */
  async frames(
    log: WalHeader,
    range: { from: number; to: number },
    sum: RunningSum,
    take: (bytes: Buffer, count: number) => Promise<void>,
  ): Promise<void> {
    const size = frameBytes(log.pageSize);
    const perChunk = Math.max(1, Math.floor(chunkBytes / size));
    const prover = provers.take();
    try {
      for (let at = range.from; at < range.to; at += perChunk) {
        const count = Math.min(perChunk, range.to - at);
        const bytes = prover.frames.subarray(0, count * size);
        await this.readExactly(bytes, walHeaderBytes + at * size);
        const fitting = prover.fitting(count, log, sum);
        if (fitting < count)
          throw new BrokenLog(`frame ${at + fitting + 1} of the write-ahead log does not continue the one before it`);
        await take(bytes, count);
      }
    } finally {
      provers.give(prover);
    }
  }

  /** Whether anything was written of a frame after the first `frames`, committed or not. */
  async hasFrameAfter(log: WalHeader, frames: number): Promise<boolean> {
    const bytes = Buffer.alloc(frameHeaderBytes);
    const at = walHeaderBytes + frames * frameBytes(log.pageSize);
    if ((await this.read(bytes, at)) === 0) return false;
    return frameHasSaltOf(bytes, 0, log);
  }

  /** The checksum after frame number `frames`, as that frame says it. @throws BrokenLog where the log is shorter */
  async sumAfter(log: WalHeader, frames: number): Promise<WalSum> {
    if (frames === 0) return log.sum;
    const bytes = Buffer.alloc(frameHeaderBytes);
    await this.readExactly(bytes, walHeaderBytes + (frames - 1) * frameBytes(log.pageSize));
    return frameSum(bytes, 0);
  }

  /** Waits until what is written of the log is on disk. */
  async sync(): Promise<void> {
    await this.handle?.datasync();
  }

  async close(): Promise<void> {
    await this.handle?.close();
    this.handle = null;
  }

  private async open(): Promise<boolean> {
    const handle = await open(this.path, foreignFileFlags).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return null;
      throw error;
    });
    if (!handle) return false;
    this.handle = handle;
    this.inode = (await handle.stat({ bigint: true })).ino;
    return true;
  }

  private async readExactly(bytes: Buffer, position: number): Promise<void> {
    for (let done = 0; done < bytes.length; ) {
      const read = await this.read(bytes.subarray(done), position + done);
      if (read === 0) throw new BrokenLog('the write-ahead log is shorter than SQLite says');
      done += read;
    }
  }

  private async read(bytes: Buffer, position: number): Promise<number> {
    return this.handle ? readAt(this.handle, bytes, position) : 0;
  }
}
