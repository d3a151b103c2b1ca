/** A large file that threads write side by side and that must be on disk in the end. */
import { closeSync, openSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { writeWhole, writeWholeSync } from '../../durable.js';
import { PatientWriter } from '../../patientWriter.js';
import { SpareBuffers } from '../../spareBuffers.js';
import { Turns } from '../../turns.js';

/** The disk is set to work on what is there whenever this much more was written, so that the end need not wait for all. */
const writeBackBytes = 32 << 20;
/** How often is looked whether it is, beside the end of each write-back. */
const lookMs = 20;
/** Pieces of which the system's cache takes one without another thread waiting for long. */
const pieceBytes = 128 << 10;
/** What a thread holds back rather than wait for another; more of it would leave the processor's second cache. */
const waitingAtMost = 4 * pieceBytes;
/** On each thread, which has a few files open at the most. */
const waitingSpaces = new SpareBuffers(waitingAtMost, 8);
/** Threads count what they wrote in these. */
const countedBytes = 1024;

/** What threads need that write into the file. */
export interface SharedFile {
  file: string;
  turns: SharedArrayBuffer;
  /** One Int32 of units of 1024 bytes written so far, which may wrap. */
  written: SharedArrayBuffer;
}

export class WrittenFile {
  readonly shared: SharedFile;
  private readonly written: Int32Array;
  private readonly looking: NodeJS.Timeout;
  private begun = 0;
  /** One at a time: each has a thread of the few that everything else waits for the disk on, too. */
  private writingBack: Promise<void> | null = null;
  private ending = false;
  private failure: { error: unknown } | null = null;

  private constructor(
    private readonly handle: FileHandle,
    file: string,
  ) {
    this.shared = { file, turns: Turns.shared(), written: new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT) };
    this.written = new Int32Array(this.shared.written);
    this.looking = setInterval(() => this.writeBack(), lookMs);
  }

  /** Empties the file where it is there. */
  static async open(file: string): Promise<WrittenFile> {
    return new WrittenFile(await open(file, 'w', 0o600), file);
  }

  async write(bytes: Uint8Array, at: number): Promise<void> {
    await writeWhole(this.handle, bytes, at);
    Atomics.add(this.written, 0, Math.ceil(bytes.length / countedBytes));
  }

  async truncate(bytes: number): Promise<void> {
    await this.handle.truncate(bytes);
  }

  /** Everything written is on disk when this resolves. */
  async sync(): Promise<void> {
    await this.endWriteBack();
    // The system tells of a failed write-back only once, and it may have told the one before.
    if (this.failure) throw this.failure.error;
    await this.handle.sync();
  }

  async close(): Promise<void> {
    await this.endWriteBack();
    await this.handle.close();
  }

  private async endWriteBack(): Promise<void> {
    this.ending = true;
    clearInterval(this.looking);
    await this.writingBack;
  }

  private writeBack(): void {
    const written = Atomics.load(this.written, 0);
    if (this.ending || this.writingBack || ((written - this.begun) | 0) < writeBackBytes / countedBytes) return;
    this.begun = written;
    this.writingBack = this.handle
      .datasync()
      .catch((error: unknown) => {
        this.failure ??= { error };
      })
      .finally(() => {
        this.writingBack = null;
        this.writeBack();
      });
  }
}

/** The same file on a thread, written from some place on. */
export class WrittenFileOnThread {
  private readonly descriptor: number;
  private readonly written: Int32Array;
  private readonly waiting = waitingSpaces.take();
  private readonly writer: PatientWriter;

  /** @param at where the first bytes go */
  constructor(
    { file, turns, written }: SharedFile,
    private at: number,
  ) {
    this.descriptor = openSync(file, 'r+');
    this.written = new Int32Array(written);
    const put = (waited: Uint8Array, came: Uint8Array) => {
      this.put(waited);
      this.put(came);
    };
    this.writer = new PatientWriter(new Turns(turns), this.waiting, put);
  }

  /** What comes next in the file; it may be used again. Not all of it is in the file before flush(). */
  write(bytes: Uint8Array): void {
    this.writer.write(bytes);
  }

  flush(): void {
    this.writer.flush();
  }

  /** What was not flushed is lost. */
  close(): void {
    waitingSpaces.give(this.waiting);
    closeSync(this.descriptor);
  }

  private put(bytes: Uint8Array): void {
    for (let from = 0; from < bytes.length; from += pieceBytes) {
      const piece = bytes.subarray(from, from + pieceBytes);
      writeWholeSync(this.descriptor, piece, this.at);
      this.at += piece.length;
      Atomics.add(this.written, 0, Math.ceil(piece.length / countedBytes));
    }
  }
}
