/**
 * Decides, under the write lock, where a capture starts reading: exactly where the captured log ends if the log found
 * goes on there, otherwise at the beginning of a new generation.
 */
import { Fault } from '../../../errors.js';
import { sameLife, type WalHeader, type WalSum } from '../formats/walFormat.js';
import { type FileMark, markOf } from '../source/mainFile.js';
import type { WalFile } from '../source/walFile.js';
import type { WalPins } from '../source/walPins.js';
import { type CapturedPrefix, capturedPrefix } from './capturedPrefix.js';
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

/** Takes the pin and looks around. The write lock is held by the caller; `proved` is what was proved before it was taken. */
export async function attachPoint(
  request: AttachRequest,
  { known, gap, unwatched }: AttachFrom,
  pins: WalPins,
  wal: WalFile,
  proved: CapturedPrefix | null,
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
      const log = { epoch, state, file };
      const prefix = await capturedPrefix(request.spool, generation, continuation, log, wal, proved);
      // The log goes on, but it must also still lie over the same file.
      if (prefix.commits !== null && !prefix.asNoted) reason = otherFile;
      else if (prefix.commits !== null) {
        const { frames, sum } = continuation;
        if (frames < state.frames) pins.missesSome();
        // The mark from before the proof: what wrote to the file since must be a checkpoint, and that is still to be seen.
        const seen = { file: prefix.file, copied: prefix.copied };
        return { ...found, ...seen, ...place, axis, frames, sum, epochStart: Math.max(0, ordinal - prefix.commits) };
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
