/** Notes, while tar archives are stored, what each part of them begins in the middle of, so that it can be unpacked alone. */
import { type TarPlace, TarReader, type TarTaker } from '../formats/tarReader.js';

/** What the archives are in the middle of at every multiple of `partBytes` of the content, from the first on. */
export interface PartStarts {
  partBytes: number;
  starts: TarPlace[];
}

const LEAST_PART_BYTES = 4 * 1024 * 1024;
const MOST_PART_BYTES = 64 * 1024 * 1024;
const ENOUGH_PARTS = 16;

const nobody: TarTaker = { directory() {}, fileBegins() {}, fileBytes() {}, fileEnds() {} };

export class PartMarks {
  private readonly starts: TarPlace[] = [];
  private tar = new TarReader(nobody);
  private total = 0;

  constructor(readonly partBytes: number) {}

  /** What follows is an archive of its own. */
  nextArchive(): void {
    this.tar = new TarReader(nobody);
  }

  /** @throws BadTar */
  push(bytes: Buffer): void {
    for (let at = 0; at < bytes.length; ) {
      const piece = bytes.subarray(at, at + this.partBytes - (this.total % this.partBytes));
      this.tar.push(piece);
      at += piece.length;
      this.total += piece.length;
      if (this.total % this.partBytes === 0) this.starts.push(this.tar.place);
    }
  }

  get noted(): PartStarts {
    return { partBytes: this.partBytes, starts: this.starts };
  }
}

/** Enough of them to be unpacked side by side, and never so many that listing them would matter. */
export function partBytesOf(estimate: number): number {
  let bytes = LEAST_PART_BYTES;
  while (bytes < MOST_PART_BYTES && bytes * ENOUGH_PARTS < estimate) bytes *= 2;
  return bytes;
}
