/** A large file that is being written and must be on disk in the end. */
import { type FileHandle, open } from 'node:fs/promises';
import { writeWhole } from '../durable.js';

/** The disk is set to work on what is there whenever this much more was written, so that the end need not wait for all. */
const writeBackBytes = 64 << 20;

export class WrittenFile {
  private unsynced = 0;
  private writingBack: Promise<void> | null = null;
  private failure: { error: unknown } | null = null;

  private constructor(private readonly handle: FileHandle) {}

  /** Empties the file where it is there. */
  static async open(file: string): Promise<WrittenFile> {
    return new WrittenFile(await open(file, 'w', 0o600));
  }

  async write(bytes: Uint8Array, at: number): Promise<void> {
    await writeWhole(this.handle, bytes, at);
    this.wrote(bytes.length);
  }

  async truncate(bytes: number): Promise<void> {
    await this.handle.truncate(bytes);
  }

  /** Everything written is on disk when this resolves. */
  async sync(): Promise<void> {
    await this.writingBack;
    // The system tells of a failed write-back only once, and it may have told the one before.
    if (this.failure) throw this.failure.error;
    await this.handle.sync();
  }

  async close(): Promise<void> {
    await this.writingBack;
    await this.handle.close();
  }

  /** So many bytes were written, also by others who have the file open. */
  wrote(bytes: number): void {
    this.unsynced += bytes;
    if (this.unsynced < writeBackBytes || this.writingBack) return;
    this.unsynced = 0;
    this.writingBack = this.handle
      .datasync()
      .catch((error: unknown) => {
        this.failure ??= { error };
      })
      .finally(() => {
        this.writingBack = null;
      });
  }
}
