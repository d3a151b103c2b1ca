/**
 * Runs beside the codec: writes what a part of a backup holds of its tar archives into the directories that they are
 * unpacked into. Parts come in any order and side by side, so a file may be begun by the part with its end.
 */
import {
  chmodSync,
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  ftruncateSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  openSync,
} from 'node:fs';
import type { OpenSink } from '../../../model.js';
import { writeWholeSync } from '../../durable.js';
import { Turns } from '../../turns.js';
import { BadTar, type TarPlace, TarReader, type TarTaker } from '../formats/tarReader.js';
import type { RunAs } from '../server/processes.js';

export const unpackSinkModule = import.meta.url;

/** Pieces that stay in the processor's cache between being decoded and written. */
const PIECE_BYTES = 128 * 1024;

/** One of the archives that make up a backup's content. */
export interface ArchivePlace {
  /** Where it begins and ends in the content. */
  from: number;
  to: number;
  /** Exists, and nobody but the service can enter it. */
  into: string;
}

export interface UnpackArgument {
  archives: ArchivePlace[];
  /** Where the part begins in the content, and what of an archive that is in the middle of. */
  offset: number;
  place: TarPlace;
  /** Whose the files are to be; null for the service's own user. */
  owner: RunAs | null;
  /** Shared by all parts. */
  turns: SharedArrayBuffer;
}

/** Answers with where the part ends, for the next one to go on from. */
export const open: OpenSink = (argument) => {
  const unpacking = new Unpacking(argument as UnpackArgument);
  return {
    take: (bytes) => unpacking.push(bytes),
    end: (): TarPlace => unpacking.place,
    close: () => unpacking.close(),
  };
};

/** Deals a part out to the archives that it holds pieces of. */
class Unpacking {
  private readonly turn: Turns;
  private index: number;
  private at: number;
  /** The archive at hand; null behind the last one. */
  private current: { to: number; reader: TarReader; files: Unpacker } | null;

  constructor(private readonly given: UnpackArgument) {
    const { archives, offset, place, turns } = given;
    this.turn = new Turns(turns);
    this.at = offset;
    this.index = archives.findIndex(({ to }) => offset < to);
    this.current = this.begin(archives[this.index], place);
  }

  get place(): TarPlace {
    return this.current?.reader.place ?? null;
  }

  push(bytes: Buffer): void {
    for (let taken = 0; taken < bytes.length; ) {
      if (!this.current) throw new BadTar('it goes on behind its last archive');
      const piece = bytes.subarray(taken, taken + this.current.to - this.at);
      this.current.reader.push(piece);
      taken += piece.length;
      this.at += piece.length;
      if (this.at < this.current.to) continue;
      if (this.current.reader.place !== null) throw new BadTar('an archive ends within a file');
      this.index += 1;
      this.current = this.begin(this.given.archives[this.index], null);
    }
  }

  close(): void {
    this.current?.files.close();
  }

  private begin(archive: ArchivePlace | undefined, place: TarPlace) {
    if (!archive) return null;
    const files = new Unpacker(archive.into, this.given.owner, this.turn);
    const reader = new TarReader(files, place);
    const within = reader.place;
    if (within) files.fileGoesOn(within.path, within.at);
    return { to: archive.to, reader, files };
  }
}

class Unpacker implements TarTaker {
  private file: number | null = null;
  private at = 0;

  constructor(
    private readonly into: string,
    private readonly owner: RunAs | null,
    private readonly turn: Turns,
  ) {}

  directory(path: string): void {
    const directory = this.placeOf(path);
    this.inParents(path, () => make(directory));
    chmodSync(directory, 0o700);
    if (this.owner) lchownSync(directory, this.owner.uid, this.owner.gid);
  }

  fileBegins(path: string, size: number, executable: boolean): void {
    const file = this.openFile(path);
    if (executable) fchmodSync(file, 0o700);
    // Nothing is left of one that came before under the same name.
    if (fstatSync(file).size > size) ftruncateSync(file, size);
    this.at = 0;
  }

  fileGoesOn(path: string, at: number): void {
    this.openFile(path);
    this.at = at;
  }

  fileBytes(bytes: Buffer): void {
    const { file } = this;
    if (file === null) throw new BadTar('bytes of no file');
    for (let from = 0; from < bytes.length; from += PIECE_BYTES) {
      const piece = bytes.subarray(from, from + PIECE_BYTES);
      this.turn.take(() => writeWholeSync(file, piece, this.at));
      this.at += piece.length;
    }
  }

  fileEnds(): void {
    this.close();
  }

  close(): void {
    if (this.file !== null) closeSync(this.file);
    this.file = null;
  }

  private openFile(path: string): number {
    const file = this.placeOf(path);
    const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_NOFOLLOW;
    const opened = this.inParents(path, () => openSync(file, flags, 0o600));
    this.file = opened;
    if (this.owner) fchownSync(opened, this.owner.uid, this.owner.gid);
    return opened;
  }

  /** The directories above may be in another part. */
  private inParents<T>(path: string, work: () => T): T {
    try {
      return work();
    } catch (error) {
      if (codeOf(error) !== 'ENOENT') throw misplaced(path, error);
    }
    const parent = path.slice(0, Math.max(0, path.lastIndexOf('/')));
    if (parent === '') throw new BadTar('the directory that it is unpacked into is gone');
    this.directory(parent);
    try {
      return work();
    } catch (error) {
      throw misplaced(path, error);
    }
  }

  private placeOf(path: string): Buffer {
    return Buffer.concat([Buffer.from(`${this.into}/`), Buffer.from(path, 'latin1')]);
  }
}

function make(directory: Buffer): void {
  try {
    mkdirSync(directory, 0o700);
  } catch (error) {
    if (codeOf(error) !== 'EEXIST' || !lstatSync(directory).isDirectory()) throw error;
  }
}

/** What only a backup can be to blame for. */
function misplaced(path: string, error: unknown): unknown {
  const code = codeOf(error);
  const itsOwn = code && ['EEXIST', 'ENOTDIR', 'EISDIR', 'ELOOP', 'ENAMETOOLONG'].includes(code);
  return itsOwn ? new BadTar(`${JSON.stringify(path)} cannot be made (${code})`) : error;
}

function codeOf(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException).code;
}
