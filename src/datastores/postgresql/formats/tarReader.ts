/**
 * Reads a tar archive as PostgreSQL's BASE_BACKUP sends it, in whatever pieces it comes: headers of 512 bytes, each
 * before its file's content, which is filled up to a multiple of 512; zeros at the end. POSIX calls the format ustar
 * (pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html). There are files and directories and nothing else: what
 * would lead out of the directory that it is unpacked into is refused, and so is whatever PostgreSQL does not send.
 */

export const TAR_BLOCK = 512;
const NAME = { at: 0, bytes: 100 };
const MODE = { at: 100, bytes: 8 };
const SIZE = { at: 124, bytes: 12 };
const CHECKSUM = { at: 148, bytes: 8 };
const KIND_AT = 156;
const MAGIC = { at: 257, bytes: 6 };
const PREFIX = { at: 345, bytes: 155 };
const OWNER_EXECUTES = 0o100;

/** How errors of this kind are told from others after they have changed threads. */
export const BAD_TAR = 'BAD_TAR';

/** The bytes are no such archive. */
export class BadTar extends Error {
  readonly code = BAD_TAR;
}

/** What a tar archive is in the middle of at a multiple of 512 bytes: null between two entries, or a file. */
export type TarPlace = {
  /** As in `TarTaker`. */
  path: string;
  /** Which of the file's bytes comes next, and how many of them do. */
  at: number;
  left: number;
} | null;

/** Paths are relative, one character for each byte of theirs, and name nothing outside. */
export interface TarTaker {
  directory(path: string): void;
  /** A file begins. Its bytes follow, then `fileEnds`. */
  fileBegins(path: string, size: number, executable: boolean): void;
  /** Bytes of the file that began last, or of the one that reading began in the middle of. */
  fileBytes(bytes: Buffer): void;
  fileEnds(): void;
}

export class TarReader {
  private readonly header = Buffer.alloc(TAR_BLOCK);
  /** Bytes of the next header that are there. */
  private headed = 0;
  private file: { path: string; at: number; left: number } | null;
  /** Bytes that fill the file up. */
  private padding = 0;
  /** A block of zeros ends an archive; only zeros may follow. */
  private over = false;

  /** @param place where in the archive reading begins */
  constructor(
    private readonly taker: TarTaker,
    place: TarPlace = null,
  ) {
    this.file = place && checkedPlace(place);
    if (this.file) this.padding = paddingOf(this.file.left);
  }

  /** @throws BadTar in the middle of a block */
  get place(): TarPlace {
    const within = this.file ? this.file.at % TAR_BLOCK : this.headed + this.padding;
    if (within > 0) throw new BadTar('it is cut within a block');
    return this.file && { ...this.file };
  }

  /** @throws BadTar and what the taker throws */
  push(bytes: Buffer): void {
    for (let at = 0; at < bytes.length; ) {
      if (this.file) {
        const piece = bytes.subarray(at, at + this.file.left);
        this.taker.fileBytes(piece);
        this.file.at += piece.length;
        this.file.left -= piece.length;
        at += piece.length;
        if (this.file.left === 0) this.endFile();
      } else if (this.padding > 0) {
        const passed = Math.min(this.padding, bytes.length - at);
        this.padding -= passed;
        at += passed;
      } else {
        const taken = bytes.copy(this.header, this.headed, at);
        this.headed += taken;
        at += taken;
        if (this.headed === TAR_BLOCK) this.readHeader();
      }
    }
  }

  private endFile(): void {
    this.file = null;
    this.taker.fileEnds();
  }

  private readHeader(): void {
    const { header } = this;
    this.headed = 0;
    if (header.every((byte) => byte === 0)) {
      this.over = true;
      return;
    }
    if (this.over) throw new BadTar('it goes on behind its end');
    if (number(header, CHECKSUM) !== checksum(header)) throw new BadTar('a header is damaged');
    const magic = text(header, MAGIC);
    if (magic !== 'ustar' && magic !== 'ustar ') throw new BadTar('it has a header of another format');
    // Only ustar has the first part of a long name there.
    const prefix = magic === 'ustar' ? text(header, PREFIX) : '';
    const path = safePath(prefix === '' ? text(header, NAME) : `${prefix}/${text(header, NAME)}`);
    const kind = String.fromCharCode(header[KIND_AT] ?? 0);
    if (kind === '5') {
      if (path !== '') this.taker.directory(path);
    } else if (kind === '0' || kind === '\0') {
      const left = number(header, SIZE);
      if (path === '') throw new BadTar('a file has no name');
      this.taker.fileBegins(path, left, (number(header, MODE) & OWNER_EXECUTES) !== 0);
      this.file = { path, at: 0, left };
      this.padding = paddingOf(left);
      if (left === 0) this.endFile();
    } else {
      throw new BadTar(`${JSON.stringify(path)} is neither a file nor a directory`);
    }
  }
}

function checkedPlace({ path, at, left }: NonNullable<TarPlace>): NonNullable<TarPlace> {
  const safe = safePath(path);
  if (safe === '' || !Number.isSafeInteger(at + left) || at < 0 || left < 1 || at % TAR_BLOCK !== 0) {
    throw new BadTar('it cannot be in the middle of that');
  }
  return { path: safe, at, left };
}

/** Without "./" in front and a slash behind it; the empty text for the archive's own directory. @throws BadTar */
function safePath(path: string): string {
  // Bytes are all that a path consists of; another character would become one on the way to the system.
  if (!Buffer.from(path, 'latin1').every((byte, i) => byte !== 0 && byte === path.charCodeAt(i)))
    throw new BadTar('a path is no bytes');
  const relative = path.replace(/^(?:\.\/+)+/, '').replace(/\/+$/, '');
  if (relative === '' || relative === '.') return '';
  if (relative.split('/').some((name) => name === '' || name === '.' || name === '..')) {
    throw new BadTar(`${JSON.stringify(path)} leads out of the backup`);
  }
  return relative;
}

function paddingOf(size: number): number {
  return (TAR_BLOCK - (size % TAR_BLOCK)) % TAR_BLOCK;
}

interface Field {
  at: number;
  bytes: number;
}

function text(header: Buffer, { at, bytes }: Field): string {
  const end = header.indexOf(0, at);
  return header.toString('latin1', at, end < 0 ? at + bytes : Math.min(end, at + bytes));
}

/** Octal digits, or, where the first bit is set, a big-endian number. @throws BadTar */
function number(header: Buffer, { at, bytes }: Field): number {
  const first = header[at] ?? 0;
  if (first >= 0x80) {
    let value = first & 0x7f;
    for (let i = at + 1; i < at + bytes; i++) value = value * 256 + (header[i] ?? 0);
    if (Number.isSafeInteger(value)) return value;
  } else {
    const digits = text(header, { at, bytes }).trim();
    if (/^[0-7]+$/.test(digits)) return Number.parseInt(digits, 8);
  }
  throw new BadTar('a header holds no number where one has to be');
}

/** The sum of the header's bytes, those of the sum itself taken for spaces. */
function checksum(header: Buffer): number {
  let sum = 0;
  for (let i = 0; i < TAR_BLOCK; i++) {
    sum += i >= CHECKSUM.at && i < CHECKSUM.at + CHECKSUM.bytes ? 0x20 : (header[i] ?? 0);
  }
  return sum;
}
