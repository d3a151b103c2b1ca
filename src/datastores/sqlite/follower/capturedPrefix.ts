/**
 * Proves that a log still holds what is captured of it, over the same file. All of it up to there is read for that, which
 * takes seconds where a long reader made it large; so it is done beside the application's writers, and under the write lock
 * it is only seen whether that still holds.
 */
import type { Continuation } from '../formats/continuation.js';
import {
  frameBytes,
  frameDbPages,
  runningSum,
  sameLife,
  sameSum,
  sumSoFar,
  type WalHeader,
} from '../formats/walFormat.js';
import type { LogState } from '../formats/walIndex.js';
import { type FileMark, isAsNoted, markOf } from '../source/mainFile.js';
import { BrokenLog, type WalFile } from '../source/walFile.js';
import type { WalPins } from '../source/walPins.js';
import type { AttachFrom } from './attachPoint.js';
import type { AttachRequest } from './captureTerms.js';
import { findRest } from './restMark.js';

/** A log that has frames, and the file under it, marked after the state was asked. */
interface FoundLog {
  epoch: WalHeader;
  state: LogState;
  file: FileMark;
}

export interface CapturedPrefix {
  /** Up to where it was looked for. */
  end: Continuation;
  /** How many transactions the log holds up to there; null where the log is not the one that `end` is about. */
  commits: number | null;
  /** The file before that, and whether it was as the capture had noted it. */
  file: FileMark;
  asNoted: boolean;
  /** Frames that were copied before the file was marked, at least. */
  copied: number;
}

/**
 * Takes a pin first, so that the log goes on meanwhile. A soft one does not keep it from being restarted once; then it
 * is another life, for which nothing is proved. Null where there is nothing to prove.
 */
export async function proveBeside(
  request: AttachRequest,
  { known, gap }: AttachFrom,
  pins: WalPins,
  wal: WalFile,
): Promise<CapturedPrefix | null> {
  if (!known || gap !== null) return null;
  const state = await pins.pinBeside();
  if (!state || state.frames === 0) return null;
  const epoch = await wal.header();
  const file = markOf(request.file);
  const end = known.continuation ?? (await findRest(request.spool, file, known))?.continuation;
  if (!epoch || !end || !sameLife(epoch, state) || !sameLife(epoch, end)) return null;
  return capturedPrefix(request.spool, known.generation, end, { epoch, state, file }, wal, null);
}

/** Of a log in the life that `end` is about; `earlier` is what was proved of it before, and is the answer if it still holds. */
export async function capturedPrefix(
  spool: string,
  generation: number,
  end: Continuation,
  log: FoundLog,
  wal: WalFile,
  earlier: CapturedPrefix | null,
): Promise<CapturedPrefix> {
  if (earlier && (await stillHolds(earlier, end, log, wal))) return earlier;
  const { file, state } = log;
  const asNoted = await isAsNoted(spool, generation, file);
  return { end, commits: await commitsBefore(end, log, wal), file, asNoted, copied: state.copied };
}

/** The log is in the same life as then, so its frames up to there are the same. */
async function stillHolds(
  { end: proved, commits }: CapturedPrefix,
  end: Continuation,
  { epoch, state }: FoundLog,
  wal: WalFile,
): Promise<boolean> {
  if (!sameLife(proved, end) || proved.frames !== end.frames || !sameSum(proved.sum, end.sum)) return false;
  if (commits === null) return true;
  return end.frames <= state.frames && sameSum(await wal.sumAfter(epoch, end.frames), end.sum);
}

async function commitsBefore(end: Continuation, { epoch, state }: FoundLog, wal: WalFile): Promise<number | null> {
  if (end.frames > state.frames || end.pageSize !== epoch.pageSize) return null;
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
  return sameSum(sumSoFar(running), end.sum) ? commits : null;
}
