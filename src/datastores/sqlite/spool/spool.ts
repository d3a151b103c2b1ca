/**
 * Captured log on its way to the archive, in a directory of the instance. A piece is up to four files: its frames are made
 * into blocks in `.blocks` as soon as there are enough for one, the newest ones lie in `.frames` as they were captured,
 * `.index` tells of them (pieceIndex.ts), and `.json`, which appears by a rename, seals the piece. Nothing is synchronised to
 * disk: a killed process loses nothing, and after a crash of the machine the checksums decide how much of a piece is left.
 */
import { rm } from 'node:fs/promises';
import { writeNote } from '../../note.js';
import type { Continuation } from '../formats/continuation.js';

/** A finished piece; plain data, for it crosses from one process to the other. */
export interface SealedSegment {
  /** Path of its files without their endings. */
  file: string;
  generation: number;
  /** Ordinals: it holds the transactions in (after, last]. */
  after: number;
  last: number;
  /** What it takes on disk. */
  bytes: number;
  coveredTo: number;
  continuation: Continuation;
}

/** The seal goes last: without its frames it would be a lie, without the seal the rest is only rubbish. */
export const pieceEndings = ['.index', '.blocks', '.frames', '.json.part', '.json'];

export async function discardSegment(file: string): Promise<void> {
  for (const ending of pieceEndings) await rm(`${file}${ending}`, { force: true });
}

/** Nothing is added to it any more. */
export async function writeSeal(sealed: SealedSegment): Promise<SealedSegment> {
  await writeNote(`${sealed.file}.json`, { ...sealed, file: undefined });
  return sealed;
}
