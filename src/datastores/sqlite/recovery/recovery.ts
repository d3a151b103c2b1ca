/**
 * Rebuilds a database up to a cut, newest first: the log gives the last version of every page that it wrote up to the
 * cut, the base all others. The cost does not grow with how often a page was written, and the new file is written from
 * its beginning to its end, each page once.
 */
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { Fault } from '../../../errors.js';
import type { LogPosition } from '../../../model.js';
import type { RecoveryContext, StoredPart } from '../../datastore.js';
import { inParallel } from '../../inParallel.js';
import { addPages } from '../backup/pageBackup.js';
import { type FullBackupState, fullBackupState } from '../formats/backupState.js';
import { position } from '../formats/position.js';
import { gatherLog } from '../replay/gatherLog.js';
import type { NewerPages } from '../replay/newerPages.js';
import { incomplete, scopeOf } from '../replay/replayScope.js';
import { type MergeArgument, type MergedPart, mergeSinkModule } from './mergeSink.js';
import { PagePatch } from './pagePatch.js';
import { WrittenFile } from './writtenFile.js';

/** Parts read at the same time: hashing, decompression and writing of each run on threads of their own. */
const partsAtOnce = 4;
const tailBytes = 1 << 20;
/** SQLite locks bytes from here on and stores nothing in the page they are in, so no log ever has that page. */
const lockByte = 0x4000_0000;

export function copyFile(context: { scratch: string }): string {
  return path.join(context.scratch, 'database.db');
}

/** What is newer than the base: from the log, and from the incrementals once those were added. */
interface Gathered {
  newer: NewerPages;
  withIncrementals: boolean;
}

export class SqliteRecovery {
  /** By scratch directory; only for recoveries that this process gathered the log of. */
  private readonly gathered = new Map<string, Gathered>();

  /** Gathers the newest version of each page from the log; answers with the position reached. */
  async replayLog(context: RecoveryContext): Promise<LogPosition> {
    this.forget(context);
    const { scratch, signal, progress } = context;
    const scope = scopeOf(context);
    const newer = await gatherLog(scratch, scope, context.segments('newest-first'), signal, progress);
    this.gathered.set(scratch, { newer, withIncrementals: context.incrementals.length === 0 });
    return position(Number(scope.stretch), scope.cut);
  }

  /** Adds the pages that no log wrote later, from the newest backup to the oldest. */
  async applyIncrementals(context: RecoveryContext): Promise<void> {
    const gathered = await this.gatheredLog(context);
    try {
      for (const backup of context.incrementals.toReversed()) {
        await addPages(backup, gathered.newer, context.signal);
      }
      gathered.newer.flush();
      gathered.withIncrementals = true;
    } catch (error) {
      // A page may be claimed and not there.
      this.forget(context);
      throw error;
    }
  }

  /** Writes the new file from its first page to its last, each page once, from what is newer or else from the base. */
  async restoreBase(context: RecoveryContext): Promise<void> {
    const gathered = await this.gatheredLog(context);
    if (!gathered.withIncrementals) await this.applyIncrementals(context);
    const out = await emptyCopy(context);
    try {
      await mergeBase(context, gathered.newer, out);
      // Nobody needs them any more, and while the disk finishes the processor has nothing to do.
      this.gathered.delete(context.scratch);
      await Promise.all([out.sync(), gathered.newer.remove()]);
    } finally {
      await out.close();
    }
  }

  forget({ scratch }: { scratch: string }): void {
    this.gathered.get(scratch)?.newer.close();
    this.gathered.delete(scratch);
  }

  /** The process that gathered the log may have died since. */
  private async gatheredLog(context: RecoveryContext): Promise<Gathered> {
    if (!this.gathered.has(context.scratch)) await this.replayLog(context);
    const gathered = this.gathered.get(context.scratch);
    if (!gathered) throw new Fault('INTERNAL', 'The log was gathered and is gone');
    return gathered;
  }
}

async function emptyCopy(context: RecoveryContext): Promise<WrittenFile> {
  const file = copyFile(context);
  for (const ending of ['', '-wal', '-shm', '-journal']) await rm(`${file}${ending}`, { force: true });
  return await WrittenFile.open(file);
}

async function mergeBase(context: RecoveryContext, newer: NewerPages, out: WrittenFile): Promise<void> {
  const state = fullBackupState(context.base.facts);
  const { pageSize, dbPages } = newer;
  const end = dbPages * pageSize;
  const baseEnd = Math.min(end, wholePages(state) * pageSize);
  proveContinuous(context.base.parts, state);
  proveEveryPageHasASource(state, newer);
  let applied = 0;
  await inParallel(context.base.parts, partsAtOnce, async (part) => {
    context.signal.throwIfAborted();
    let bytes = 0;
    const argument: MergeArgument = { out: out.shared, at: part.offset, end: baseEnd, newer: newer.files };
    // Once this ends without an error, the part is proved whole.
    const merged = await part.pour({ module: mergeSinkModule, argument }, (more) => {
      bytes += more;
    });
    applied += (merged as MergedPart).applied;
    if (bytes !== part.plainBytes) {
      throw new Fault('BACKUP_CORRUPT', `A part of the backup has ${bytes} of ${part.plainBytes} bytes`);
    }
  });
  applied += await writeTail(context, newer, state, out);
  // Whatever the log or an incremental has of a page must be in the file now.
  if (applied !== newer.size) {
    throw incomplete(context.cut.position.ordinal, `${applied} of ${newer.size} newer pages are in the file`);
  }
  await out.truncate(end);
}

/** What lies behind the base's last whole page, and only the log has. Answers with the pages that it put there. */
async function writeTail(
  { signal }: RecoveryContext,
  newer: NewerPages,
  state: FullBackupState,
  out: WrittenFile,
): Promise<number> {
  const end = newer.dbPages * newer.pageSize;
  const patch = new PagePatch(newer.files);
  const piece = Buffer.alloc(tailBytes);
  try {
    for (let at = wholePages(state) * state.pageSize; at < end; at += tailBytes) {
      signal.throwIfAborted();
      const bytes = piece.subarray(0, Math.min(tailBytes, end - at)).fill(0);
      patch.apply(bytes, at);
      await out.write(bytes, at);
    }
    return patch.applied;
  } finally {
    patch.close();
  }
}

/** The backup's parts must be its content from the first byte to the last. */
function proveContinuous(parts: StoredPart[], state: FullBackupState): void {
  let offset = 0;
  for (const part of [...parts].sort((a, b) => a.offset - b.offset)) {
    if (part.offset !== offset) break;
    offset += part.plainBytes;
  }
  if (offset !== state.bytes) {
    throw new Fault('BACKUP_CORRUPT', `The backup's parts hold ${offset} of its ${state.bytes} bytes`);
  }
}

/** Each page of the result must come from the base or from the log; a hole would silently be zeros. */
function proveEveryPageHasASource(state: FullBackupState, newer: NewerPages): void {
  const lockPage = Math.floor(lockByte / state.pageSize) + 1;
  for (let page = wholePages(state) + 1; page <= newer.dbPages; page++) {
    if (!newer.has(page) && page !== lockPage) {
      throw new Fault('RECOVERY_INCOMPLETE', `Neither the backup nor the log holds page ${page}`);
    }
  }
}

/** The copying may have ended in the middle of a page that was just being written. */
function wholePages({ bytes, pageSize }: FullBackupState): number {
  return Math.floor(bytes / pageSize);
}
