/**
 * The transactions of a piece of log, in the bytes in which segmentFormat.ts has them: an object for each would cost more
 * than all else that is done with small ones.
 */

const entryBytes = 24;

export interface SegmentTransaction {
  /** The transaction became visible later than this; 0 where nobody watched. Microseconds. */
  tLo: number;
  /** It was visible by then. */
  tHi: number;
  /** Size of the database after it, in pages. */
  dbPages: number;
  frames: number;
}

export class TransactionTable {
  readonly length: number;

  private constructor(readonly bytes: Buffer) {
    this.length = bytes.length / entryBytes;
  }

  /** Room for so many, which are to be set. */
  static withRoom(count: number): TransactionTable {
    return new TransactionTable(Buffer.alloc(count * entryBytes));
  }

  /** A copy of `count` of them that are encoded at `at`. */
  static encodedAt(bytes: Buffer, at: number, count: number): TransactionTable {
    return new TransactionTable(Buffer.from(bytes.subarray(at, at + count * entryBytes)));
  }

  static bytesFor(count: number): number {
    return count * entryBytes;
  }

  set(i: number, { tLo, tHi }: Pick<SegmentTransaction, 'tLo' | 'tHi'>, dbPages: number, frames: number): void {
    let at = this.bytes.writeDoubleLE(tLo, i * entryBytes);
    at = this.bytes.writeDoubleLE(tHi, at);
    at = this.bytes.writeUInt32LE(dbPages, at);
    this.bytes.writeUInt32LE(frames, at);
  }

  /** Null where there is none. */
  at(i: number): SegmentTransaction | null {
    if (i < 0 || i >= this.length) return null;
    return { tLo: this.tLo(i), tHi: this.tHi(i), dbPages: this.dbPages(i), frames: this.frames(i) };
  }

  get last(): SegmentTransaction | null {
    return this.at(this.length - 1);
  }

  *[Symbol.iterator](): Generator<SegmentTransaction> {
    for (let i = 0; i < this.length; i++) yield this.at(i) as SegmentTransaction;
  }

  /** @throws RangeError where there is none; as the others below */
  tLo(i: number): number {
    return this.bytes.readDoubleLE(i * entryBytes);
  }

  tHi(i: number): number {
    return this.bytes.readDoubleLE(i * entryBytes + 8);
  }

  dbPages(i: number): number {
    return this.bytes.readUInt32LE(i * entryBytes + 16);
  }

  frames(i: number): number {
    return this.bytes.readUInt32LE(i * entryBytes + 20);
  }

  allFrames(): number {
    let frames = 0;
    for (let i = 0; i < this.length; i++) frames += this.frames(i);
    return frames;
  }
}
