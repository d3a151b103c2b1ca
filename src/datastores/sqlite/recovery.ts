/**
 * Rebuilds a database up to a cut, newest first: the log gives the last version of every page that it wrote up to the
 * cut, the base all others. The cost does not grow with how often a page was written, and the new file is written from
 * its beginning to its end, each page once.
 */
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { Fault } from '../../errors.js';
import { instant } from '../../instant.js';
import type { LogPosition } from '../../model.js';
import type { RecoveryContext, StoredPart } from '../datastore.js';
import type { ByteReader } from './byteReader.js';
import { type FullBackupState, fullBackupState } from './fullBackup.js';
import { type MergeArgument, mergeSinkModule } from './mergeSink.js';
import { NewerPages, PagePatch } from './newerPages.js';
import { position } from './position.js';
import { ContiguityCheck, framesInScope, incomplete, lastVersions, scopeOf } from './replayScope.js';
import { BadSegment, type SegmentHead } from './segmentFormat.js';
import { provenFrames } from './segmentFrames.js';
import { asFault, openSegment } from './storedSegment.js';
import { frameBytes, frameHeaderBytes } from './walFormat.js';
import { WrittenFile } from './writtenFile.js';

/** Objects read at the same time: hashing and decompression of each run on threads of their own. */
const readAhead = 4;
const partsAtOnce = 4;
const tailBytes = 1 << 20;
/** SQLite locks bytes from here on and stores nothing in the page they are in, so no log ever has that page. */
const lockByte = 0x4000_0000;

export function copyFile(context: { scratch: string }): string {
  return path.join(context.scratch, 'database.db');
}

/** What the log has of a cut: the newest version of every page that it wrote. */
interface GatheredLog {
  newer: NewerPages;
  reached: LogPosition;
}

export class SqliteRecovery {
  /** By scratch directory; only for recoveries that this process gathered the log of. */
  private readonly gathered = new Map<string, GatheredLog>();

  /** Gathers the newest version of each page from the log; answers with the position reached. */
  async replayLog(context: RecoveryContext): Promise<LogPosition> {
    this.forget(context);
    const log = await gatherLog(context);
    this.gathered.set(context.scratch, log);
    return log.reached;
  }

  /** Writes the new file from its first page to its last, each page once, from the log or else from the base. */
  async restoreBase(context: RecoveryContext): Promise<void> {
    // The process that gathered the log may have died since.
    if (!this.gathered.has(context.scratch)) await this.replayLog(context);
    const log = this.gathered.get(context.scratch);
    if (log) await mergeBase(context, log.newer);
    this.forget(context);
  }

  forget({ scratch }: { scratch: string }): void {
    this.gathered.get(scratch)?.newer.remove();
    this.gathered.delete(scratch);
  }
}

async function gatherLog(context: RecoveryContext): Promise<GatheredLog> {
  const state = fullBackupState(context.base.facts);
  const { stretch, replayAfter, cut } = scopeOf(context);
  const check = new ContiguityCheck(replayAfter, cut);
  let newer: NewerPages | null = null;
  let reached = replayAfter;
  try {
    // Which frames count is decided in order, newest first; their bytes then come and are kept side by side.
    await inParallel(context.segments('newest-first'), readAhead, async (segment, inTurn) => {
      context.signal.throwIfAborted();
      const { head, reader } = await openSegment(segment, stretch);
      try {
        const { wanted, pages } = await inTurn(() => {
          check.next(segment);
          if (head.pageSize !== state.pageSize) throw incomplete(cut, 'the page size changed');
          if (!newer) {
            newer = new NewerPages(context.scratch, head.pageSize, pagesAt(head, cut));
            reached = Math.min(cut, head.after + head.transactions.length);
          }
          return { wanted: lastVersions(head, framesInScope(head, replayAfter, cut), newer), pages: newer };
        });
        await keepFrames(head, reader, wanted, pages);
        if ((await reader.drain()) > 0) throw new BadSegment('there is more than its index says');
        const last = head.transactions.at(-1);
        if (last) context.progress.replayedTo(instant(last.tHi));
      } catch (error) {
        throw asFault(segment, error);
      } finally {
        await reader.close();
      }
    });
    check.end();
    if (reached !== cut) throw incomplete(cut, `the log ends at transaction ${reached}`);
    const pages: NewerPages = newer ?? new NewerPages(context.scratch, state.pageSize, state.dbPages);
    pages.flush();
    return { newer: pages, reached: position(Number(stretch), reached) };
  } catch (error) {
    (newer as NewerPages | null)?.remove();
    throw error;
  }
}

async function mergeBase(context: RecoveryContext, newer: NewerPages): Promise<void> {
  const state = fullBackupState(context.base.facts);
  const { pageSize, dbPages } = newer;
  const end = dbPages * pageSize;
  proveContinuous(context.base.parts, state);
  proveEveryPageHasASource(state, newer);
  const file = copyFile(context);
  for (const ending of ['', '-wal', '-shm', '-journal']) await rm(`${file}${ending}`, { force: true });
  const out = await WrittenFile.open(file);
  try {
    await inParallel(context.base.parts, partsAtOnce, async (part) => {
      context.signal.throwIfAborted();
      let bytes = 0;
      const argument: MergeArgument = { file, at: part.offset, end, newer: newer.files };
      // Once this ends without an error, the part is proved whole.
      await part.pour({ module: mergeSinkModule, argument }, (more) => {
        bytes += more;
        out.wrote(more);
      });
      if (bytes !== part.plainBytes) {
        throw new Fault('BACKUP_CORRUPT', `A part of the backup has ${bytes} of ${part.plainBytes} bytes`);
      }
    });
    await writeTail(context, newer, state, out);
    await out.truncate(end);
    await out.sync();
  } finally {
    await out.close();
  }
}

/** What lies behind the base's last whole page, and only the log has. */
async function writeTail(
  { signal }: RecoveryContext,
  newer: NewerPages,
  state: FullBackupState,
  out: WrittenFile,
): Promise<void> {
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
  } finally {
    patch.close();
  }
}

/** Size of the database after transaction `ordinal`, which is in this segment. */
export function pagesAt(head: SegmentHead, ordinal: number): number {
  const transaction = head.transactions[ordinal - head.after - 1];
  if (!transaction) throw incomplete(ordinal, 'the newest segment does not hold it');
  return transaction.dbPages;
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

async function keepFrames(head: SegmentHead, reader: ByteReader, wanted: Uint8Array, newer: NewerPages): Promise<void> {
  const size = frameBytes(head.pageSize);
  for await (const { first, count, bytes } of provenFrames(head, reader)) {
    for (let i = 0; i < count; i++) {
      if (!wanted[first + i]) continue;
      const from = i * size + frameHeaderBytes;
      newer.put(head.pages[first + i] ?? 0, bytes.subarray(from, from + head.pageSize));
    }
  }
}

/**
 * Runs `work` on every item, at most `width` at a time. `inTurn` runs a piece of work in the order of the items, each
 * after the one before it. The first error ends all.
 */
async function inParallel<T>(
  items: AsyncIterable<T> | Iterable<T>,
  width: number,
  work: (item: T, inTurn: <R>(step: () => R) => Promise<R>) => Promise<void>,
): Promise<void> {
  const running = new Set<Promise<void>>();
  let failure: { error: unknown } | null = null;
  let turn: Promise<void> = Promise.resolve();
  for await (const item of items) {
    const before = turn;
    let passOn: (failed?: unknown) => void = () => {};
    turn = new Promise((resolve) => {
      passOn = () => resolve();
    });
    const inTurn = async <R>(step: () => R): Promise<R> => {
      await before;
      if (failure) throw failure.error;
      try {
        return step();
      } finally {
        passOn();
      }
    };
    const task = work(item, inTurn)
      .catch((error) => {
        failure ??= { error };
      })
      .finally(() => {
        // Work that failed before its turn must not hold up the others.
        void before.then(passOn);
        running.delete(task);
      });
    running.add(task);
    if (running.size >= width) await Promise.race(running);
    if (failure) break;
  }
  await Promise.all(running);
  if (failure) throw (failure as { error: unknown }).error;
}
