/**
 * Rebuilds a database up to a cut: first the base as it is, then from the log the last version of every page up to the
 * cut, each written once. Newest segment first, so the cost does not grow with how often a page was written.
 */
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { Fault } from '../../errors.js';
import { instant } from '../../instant.js';
import type { LogPosition } from '../../model.js';
import type { RecoveryContext, StoredPart } from '../datastore.js';
import { ByteReader } from './byteReader.js';
import { type FullBackupState, fullBackupState } from './fullBackup.js';
import { PageSet } from './pageSet.js';
import { position } from './position.js';
import { ContiguityCheck, framesInScope, incomplete, lastVersions, scopeOf } from './replayScope.js';
import type { SegmentHead } from './segmentFormat.js';
import { provenFrames } from './segmentFrames.js';
import { asFault, openSegment } from './storedSegment.js';
import { frameBytes, frameHeaderBytes } from './walFormat.js';
import { WrittenFile } from './writtenFile.js';

/** Objects read at the same time: hashing and decompression of each run on threads of their own. */
const readAhead = 4;
/** SQLite locks bytes from here on and stores nothing in the page they are in, so no log ever has that page. */
const lockByte = 0x4000_0000;

export function copyFile(context: { scratch: string }): string {
  return path.join(context.scratch, 'database.db');
}

/** Writes the base as it was copied; what the log replaces or cuts off is replaced and cut off by replayLog. */
export async function restoreBase(context: RecoveryContext): Promise<void> {
  const state = fullBackupState(context.base.facts);
  scopeOf(context);
  proveContinuous(context.base.parts, state);
  const file = copyFile(context);
  for (const ending of ['', '-wal', '-shm', '-journal']) await rm(`${file}${ending}`, { force: true });
  const out = await WrittenFile.open(file, 'w');
  try {
    await inParallel(context.base.parts, readAhead, async (part) => {
      context.signal.throwIfAborted();
      let at = part.offset;
      // Once this ends without an error, the part is proved whole.
      for await (const bytes of part.read({ reuse: true })) {
        await out.write(bytes, at);
        at += bytes.length;
      }
      if (at !== part.offset + part.plainBytes) {
        throw new Fault('BACKUP_CORRUPT', `A part of the backup has ${at - part.offset} of ${part.plainBytes} bytes`);
      }
    });
    await out.sync();
  } finally {
    await out.close();
  }
}

/** Writes the last version of each page; answers with the position reached. */
export async function replayLog(context: RecoveryContext): Promise<LogPosition> {
  const state = fullBackupState(context.base.facts);
  const { pageSize } = state;
  const { stretch, replayAfter, cut } = scopeOf(context);
  const check = new ContiguityCheck(replayAfter, cut);
  const out = await WrittenFile.open(copyFile(context), 'r+');
  let done: PageSet | null = null;
  let dbPages = state.dbPages;
  let reached = replayAfter;
  try {
    // Which frames count is decided in order, newest first; their bytes then come and are written side by side.
    await inParallel(context.segments('newest-first'), readAhead, async (segment, inTurn) => {
      context.signal.throwIfAborted();
      const { head, reader } = await openSegment(segment, stretch);
      try {
        const wanted = await inTurn(() => {
          check.next(segment);
          if (head.pageSize !== pageSize) throw incomplete(cut, 'the page size changed');
          if (!done) {
            dbPages = pagesAt(head, cut);
            done = new PageSet(dbPages);
            reached = Math.min(cut, head.after + head.transactions.length);
          }
          return lastVersions(head, framesInScope(head, replayAfter, cut), done);
        });
        await writeFrames(head, reader, wanted, out);
        if ((await reader.drain()) > 0) throw new Error('there is more than its index says');
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
    proveEveryPageHasASource(state, dbPages, done ?? new PageSet(dbPages));
    await out.truncate(dbPages * pageSize);
    await out.sync();
  } finally {
    await out.close();
  }
  return position(Number(stretch), reached);
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
function proveEveryPageHasASource(state: FullBackupState, dbPages: number, log: PageSet): void {
  const lockPage = Math.floor(lockByte / state.pageSize) + 1;
  for (let page = Math.floor(state.bytes / state.pageSize) + 1; page <= dbPages; page++) {
    if (!log.has(page) && page !== lockPage) {
      throw new Fault('RECOVERY_INCOMPLETE', `Neither the backup nor the log holds page ${page}`);
    }
  }
}

async function writeFrames(head: SegmentHead, reader: ByteReader, wanted: Uint8Array, out: WrittenFile): Promise<void> {
  const size = frameBytes(head.pageSize);
  for await (const { first, count, bytes } of provenFrames(head, reader)) {
    for (let i = 0; i < count; i++) {
      if (!wanted[first + i]) continue;
      const from = i * size + frameHeaderBytes;
      out.writeNow(bytes.subarray(from, from + head.pageSize), ((head.pages[first + i] ?? 0) - 1) * head.pageSize);
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
