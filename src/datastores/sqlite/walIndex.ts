/**
 * What a log's `-shm` file says and no statement of SQLite answers. The layout is the one published at
 * https://www.sqlite.org/walformat.html#the_wal_index_file_format; its numbers are in the machine's own byte order.
 *
 * POSIX drops all of a process's locks on a file when any descriptor of it is closed, and SQLite's locks are on this
 * file: it stays open from the first question on, until every connection of this process is closed.
 */
import { closeSync, openSync, readSync } from 'node:fs';

const formatVersion = 3_007_000;
const versionAt = 0;
const attemptedAt = 32;
/** Of 32-bit numbers: two headers of 48 bytes each, then 40 bytes about checkpoints. */
const headNumbers = 34;

export class WalIndex {
  private descriptor: number | null = null;
  private readonly head = new Uint32Array(headNumbers);

  constructor(private readonly file: string) {}

  /**
   * How many frames of the log's present life the last checkpoint set out to have copied, which it says before it copies
   * the first one. More than are copied while one runs, and after it died in the middle.
   */
  attempted(): number {
    this.descriptor ??= openSync(this.file, 'r');
    const { head } = this;
    const read = readSync(this.descriptor, head, 0, head.byteLength, 0);
    return read === head.byteLength && head[versionAt] === formatVersion ? (head[attemptedAt] ?? 0) : 0;
  }

  /** Only after the last connection of this process. */
  close(): void {
    if (this.descriptor !== null) closeSync(this.descriptor);
    this.descriptor = null;
  }
}
