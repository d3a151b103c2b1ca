/**
 * What a log's `-shm` file says: SQLite's own count of what is committed, which a statement tells at some twenty times the
 * price of this read, and what no statement answers. The layout is the one published at
 * https://www.sqlite.org/walformat.html#the_wal_index_file_format; its numbers are in the machine's own byte order.
 *
 * POSIX drops all of a process's locks on a file when any descriptor of it is closed, and SQLite's locks are on this
 * file: it stays open from the first question on, until every connection of this process is closed.
 */
import { closeSync, fstatSync, lstatSync, openSync, readSync, type Stats } from 'node:fs';
import { foreignFileFlags } from '../../foreignFile.js';
import { addToSum, hostIsBigEndian, type LogLife, runningSum, sumSoFar } from './walFormat.js';

/** What SQLite says of the log. The salts mean nothing where it has no frame. */
export interface LogState extends LogLife {
  /** Frames of committed transactions in the log; a commit is visible to others exactly when it is counted here. */
  frames: number;
  /** How many of them are in the database file. */
  copied: number;
}

const formatVersion = 3_007_000;
/** Places in 32-bit numbers: the header stands there twice, then comes what is known of checkpoints. */
const headerNumbers = 12;
const frames = 4;
const sumOfHeader = 10;
const copied = 2 * headerNumbers;
const attempted = copied + 8;
const allNumbers = attempted + 2;
/** Of the first header, in bytes; the salts are as the log's own header has them. */
const initialized = 12;
const salt1 = 32;
const salt2 = 36;

export class WalIndex {
  private descriptor: number | null = null;
  /** Which file that is. */
  private opened: Stats | null = null;
  private readonly numbers = new Uint32Array(allNumbers);
  private readonly bytes = Buffer.from(this.numbers.buffer);

  constructor(private readonly file: string) {}

  /**
   * Null where only SQLite itself can answer: while a process is writing the header, or died while it did, and where the
   * file is none that this knows. As SQLite does it (walIndexTryHdr): writers change the second header before the first
   * one, so that two equal ones with a fitting checksum are what some commit left.
   */
  state(): LogState | null {
    const { numbers } = this;
    if (!this.read() || this.bytes[initialized] !== 1) return null;
    for (let i = 0; i < headerNumbers; i++) if (numbers[i] !== numbers[headerNumbers + i]) return null;
    const running = runningSum();
    addToSum(running, this.bytes, 0, 4 * sumOfHeader, hostIsBigEndian);
    const sum = sumSoFar(running);
    if (sum.a !== numbers[sumOfHeader] || sum.b !== numbers[sumOfHeader + 1]) return null;
    return {
      frames: numbers[frames] ?? 0,
      copied: numbers[copied] ?? 0,
      salt1: this.bytes.readUInt32BE(salt1),
      salt2: this.bytes.readUInt32BE(salt2),
    };
  }

  /**
   * Whether the last checkpoint of the log's present life set out to copy more than its first `frames` frames, which it says
   * before it copies the first one. So with the number of copied frames: one runs, or died in the middle.
   */
  copyBegunBeyond(frames: number): boolean {
    return this.read() && (this.numbers[attempted] ?? 0) > frames;
  }

  /** Whether programs that open the database now share this file; true also where it was not asked yet. */
  sameFile(): boolean {
    if (this.opened === null) return true;
    const found = lstatSync(this.file, { throwIfNoEntry: false });
    return found?.ino === this.opened.ino && found.dev === this.opened.dev;
  }

  /** Only after the last connection of this process. */
  close(): void {
    if (this.descriptor !== null) closeSync(this.descriptor);
    this.descriptor = null;
    this.opened = null;
  }

  /** False where there is no such file, or none that this knows. */
  private read(): boolean {
    try {
      this.descriptor ??= openSync(this.file, foreignFileFlags);
      this.opened ??= fstatSync(this.descriptor);
    } catch {
      return false;
    }
    if (!this.opened.isFile()) return false;
    const read = readSync(this.descriptor, this.numbers, 0, this.numbers.byteLength, 0);
    return read === this.numbers.byteLength && this.numbers[0] === formatVersion;
  }
}
