/**
 * A note that lets a capture go on after an outage in which the log was restarted or deleted, without a gap: at some
 * moment everything captured was in the database file and nobody could write to that file. If the file has not been
 * touched since, nothing has been copied out of any log since, so the log found now is all there was. The file's inode
 * change time cannot be set by programs, so it tells, as long as the machine runs: after a loss of power it may be older
 * than the content, which fdatasync keeps without it.
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { readNote, writeNote } from '../../note.js';
import type { Continuation } from '../formats/continuation.js';
import { type FileMark, isSettled, sameContent } from '../source/mainFile.js';

/** Of the machine's present run, on Linux; null elsewhere. */
const bootId = readBootId();

export interface RestMark {
  /** The run of the machine in which it was noted; null where that cannot be told. */
  boot: string | null;
  generation: number;
  ordinal: number;
  continuation: Continuation | null;
  file: FileMark;
}

export async function saveRest(directory: string, mark: Omit<RestMark, 'boot'>): Promise<void> {
  await writeNote(noteIn(directory), { version: 1, boot: bootId, ...mark });
}

/** The note for exactly this place in the captured log, if the database file is certainly still as it was then. */
export async function findRest(
  directory: string,
  database: FileMark,
  place: { generation: number; ordinal: number },
): Promise<RestMark | null> {
  const mark = await readNote<RestMark & { version: number }>(noteIn(directory));
  if (!mark || mark.boot === null || mark.boot !== bootId) return null;
  if (mark.version !== 1 || mark.generation !== place.generation || mark.ordinal !== place.ordinal) return null;
  return isSettled(database) && sameContent(mark.file, database) ? mark : null;
}

function noteIn(directory: string): string {
  return path.join(directory, 'rest.json');
}

function readBootId(): string | null {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  } catch {
    return null;
  }
}
