/** An object's bytes from an open file, as a stream whose errors are Faults and which always closes the file. */
import type { FileHandle } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { giveSpace, SPACE_BYTES, takeSpace } from './blockSpace.js';

/** One read of the file. Two of them are kept ready, so that the disk works while the consumer does. */
const READ_BYTES = 512 * 1024;

export class FileReadable extends Readable {
  private reading: Promise<void> = Promise.resolve();

  /** @param asFault turns what the file system throws into what the consumer is told */
  constructor(
    private readonly file: FileHandle,
    private readonly asFault: (thrown: unknown) => unknown,
  ) {
    super({ highWaterMark: 2 * READ_BYTES });
  }

  override _read(): void {
    this.reading = this.readOnce();
  }

  private async readOnce(): Promise<void> {
    try {
      const { bytesRead, buffer } = await this.file.read(Buffer.allocUnsafeSlow(READ_BYTES), 0, READ_BYTES, null);
      this.push(bytesRead === 0 ? null : buffer.subarray(0, bytesRead));
    } catch (error) {
      this.destroy(this.asFault(error) as Error);
    }
  }

  /** The bytes without the stream's buffers, instead of reading the stream; see ObjectStream. */
  async *pieces(): AsyncGenerator<Buffer, void, undefined> {
    const spaces = [takeSpace(SPACE_BYTES), takeSpace(SPACE_BYTES)] as const;
    const fill = (space: Buffer) => {
      const reading = this.file.read(space, 0, space.length, null);
      this.reading = reading.then(
        () => {},
        () => {},
      );
      return reading;
    };
    try {
      let ready = fill(spaces[0]);
      for (let turn = 1; ; turn = 1 - turn) {
        const { bytesRead, buffer } = await ready;
        if (this.destroyed) throw this.errored ?? new Error('The reading was given up');
        if (bytesRead === 0) return;
        ready = fill(spaces[turn === 0 ? 0 : 1]);
        yield buffer.subarray(0, bytesRead);
      }
    } catch (error) {
      throw this.errored ?? this.asFault(error);
    } finally {
      // Not before the system has stopped writing into them.
      void this.reading.then(() => spaces.forEach(giveSpace));
    }
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.reading
      .then(() => this.file.close())
      .then(
        () => done(error),
        (closing: unknown) => done(error ?? (this.asFault(closing) as Error)),
      );
  }
}
