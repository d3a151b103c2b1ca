/**
 * Decides, under the write lock, where a capture starts reading: exactly where the captured log ends if the log found
 * goes on there, otherwise at the beginning of a new generation.
 */
import { Fault } from '../../../errors.js';
import type { Continuation } from '../formats/continuation.js';
import {
  frameBytes,
  frameDbPages,
  runningSum,
  sameLife,
  sumSoFar,
  type WalHeader,
  type WalSum,
} from '../formats/walFormat.js';
import { type FileMark, isAsNoted, markOf } from '../source/mainFile.js';
import { BrokenLog, type WalFile } from '../source/walFile.js';
import type { WalPins } from '../source/walPins.js';
import type { ArchiveEnd, AttachRequest } from './captureTerms.js';
import { findRest } from './restMark.js';

/** Where an attachment starts from: the end of what is captured, and why it cannot be continued if that is known. */
export interface AttachFrom {
  known: ArchiveEnd | null;
  gap: string | null;
  /** Why nobody watched, for the case that the log does not go on. */
  unwatched: string | null;
}

export interface AttachPoint {
  generation: number;
  /** The last captured transaction. */
  ordinal: number;
  pageSize: number;
  dbPages: number;
  /** The log's present life; null where it has no frame. */
  epoch: WalHeader | null;
  /** Frames of it that are captured or need not be, and the checksum after them. */
  frames: number;
  sum: WalSum;
  /** Frames of the log that were copied before the file was marked, at least. */
  copied: number;
  file: FileMark;
  /** The last transaction committed before the present life of the log, or 0. */
  epochStart: number;
  /** Everything up to this instant is captured; 0 where a new generation begins. */
  seenLo: number;
  axis: number;
  newStretch: { generation: number; first: boolean; reason: string; at: number } | null;
}

const lostLog = 'The write-ahead log was restarted or replaced while nobody watched, so what it held may be lost.';
const otherFile =
  'The database file was written to while nobody watched, so it may no longer be what the log continues.';

/** Takes the first pin and looks around. The write lock is held by the caller. */
export async function attachPoint(
  request: AttachRequest,
  { known, gap, unwatched }: AttachFrom,
  pins: WalPins,
  wal: WalFile,
): Promise<AttachPoint> {
  const state = await pins.pin();
  const { journalMode, pageSize, dbPages } = await pins.settings();
  if (journalMode !== 'wal' || !state) {
    throw new Fault('DATASTORE_UNAVAILABLE', `The database is in journal mode ${journalMode}, not in WAL mode`, {
      hint: 'Run PRAGMA journal_mode=WAL on it; capture goes on by itself.',
    });
  }
  // Also where it is empty: from now on it must be this file.
  const header = await wal.header();
  const epoch = state.frames > 0 ? header : null;
  if (state.frames > 0 && !(epoch && sameLife(epoch, state)))
    throw new Error('the header of the write-ahead log is damaged');
  const file = markOf(request.file);
  const { copied } = state;
  const found = { pageSize, dbPages, epoch, copied, file };
  let reason = gap ?? (known ? (unwatched ?? lostLog) : 'The capture of this database began.');

  if (known && gap === null) {
    const { generation, ordinal, coveredTo } = known;
    const rest = await findRest(request.spool, file, { generation, ordinal });
    const continuation = known.continuation ?? rest?.continuation ?? null;
    const place = { generation, ordinal, seenLo: coveredTo, newStretch: null };
    const axis = Math.max(coveredTo, continuation?.axis ?? 0);
    if (epoch && continuation && sameLife(epoch, continuation)) {
      const commits = await commitsBefore(wal, epoch, continuation, state.frames);
      // The log goes on, but it must also still lie over the same file.
      if (commits !== null && !(await isAsNoted(request.spool, generation, file))) reason = otherFile;
      else if (commits !== null) {
        const { frames, sum } = continuation;
        if (frames < state.frames) pins.missesSome();
        return { ...found, ...place, axis, frames, sum, epochStart: Math.max(0, ordinal - commits) };
      }
    } else if (rest && (epoch === null || copied === 0)) {
      // Nothing was copied out of any log since all that is captured was in the file: this life is the first since.
      return { ...found, ...place, axis, frames: 0, sum: epoch?.sum ?? { a: 0, b: 0 }, epochStart: ordinal };
    }
  }
  const generation = (known?.generation ?? 0) + 1;
  // No instant may belong to two generations, not even where the clock was set back before the times given.
  const axis = known ? Math.max(known.coveredTo, known.continuation?.axis ?? 0) + 1 : 0;
  const newStretch = { generation, first: known === null, reason, at: Date.now() * 1000 };
  const start = { ...found, generation, ordinal: 0, epochStart: 0, seenLo: 0, axis, newStretch };
  // What the database file holds already needs no log; anything else is read from the log's first frame on, so that
  // a copy of the file and the log fit together.
  if (!pins.soft || !epoch) return { ...start, frames: 0, sum: epoch?.sum ?? { a: 0, b: 0 } };
  return { ...start, frames: state.frames, sum: await wal.sumAfter(epoch, state.frames) };
}

/** How many transactions the log holds up to where `end` says; null where the log is not the one that `end` is about. */
async function commitsBefore(
  wal: WalFile,
  epoch: WalHeader,
  end: Continuation,
  frames: number,
): Promise<number | null> {
  if (end.frames > frames || end.pageSize !== epoch.pageSize) return null;
  const running = runningSum(epoch.sum);
  const size = frameBytes(epoch.pageSize);
  let commits = 0;
  try {
    await wal.frames(epoch, { from: 0, to: end.frames }, running, async (bytes, count) => {
      for (let i = 0; i < count; i++) if (frameDbPages(bytes, i * size) > 0) commits += 1;
    });
  } catch (error) {
    if (error instanceof BrokenLog) return null;
    throw error;
  }
  const sum = sumSoFar(running);
  return sum.a === end.sum.a && sum.b === end.sum.b ? commits : null;
}
