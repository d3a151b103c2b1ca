/**
 * Proves that a rebuilt file is the cut's, apart from the code that rebuilt it: SQLite opens it and counts its pages,
 * and the pages of the last kept and the first dropped transaction are compared with the log, one by one.
 */
import { type FileHandle, open, stat } from 'node:fs/promises';
import type { Cut } from '../../../model.js';
import type { RecoveryContext, StoredSegment } from '../../datastore.js';
import type { Engine } from '../engine/engine.js';
import type { SegmentHead } from '../formats/segmentFormat.js';
import { provenFrames } from '../formats/segmentFrames.js';
import { frameBytes, frameHeaderBytes } from '../formats/walFormat.js';
import { greatest, PageSet } from '../replay/pageSet.js';
import { framesInScope, incomplete, pagesAt, scopeOf } from '../replay/replayScope.js';
import { openSegment, refuse } from '../replay/storedSegment.js';
import { cutAt } from './locateCut.js';
import { copyFile } from './recovery.js';

/** @throws Fault RECOVERY_INCOMPLETE, LOG_CORRUPT */
export async function verifyCopy(context: RecoveryContext, engine: Engine): Promise<Cut> {
  const { stretch, replayAfter, cut, pageSize, dbPages: backedUp } = scopeOf(context);
  const file = copyFile(context);
  let newest: StoredSegment | null = null;
  for await (const segment of context.segments('newest-first')) {
    newest = segment;
    break;
  }
  let dbPages = backedUp;
  let found: Cut = { ...context.cut, lastKeptNotBefore: null, lastKeptAt: null };
  if (newest) {
    const { head, reader } = await openSegment(newest, stretch);
    const copy = await open(file, 'r');
    try {
      dbPages = pagesAt(head, cut);
      await comparePages(head, provenFrames(head, reader), copy, framesInScope(head, replayAfter, cut), cut);
      await reader.drain();
    } catch (error) {
      await refuse(newest, reader, error);
    } finally {
      await reader.close();
      await copy.close();
    }
    found = cutAt(Number(stretch), cut, [head]);
    found.firstDroppedAt ??= context.cut.firstDroppedAt;
  }
  const { size } = await stat(file);
  if (size !== dbPages * pageSize) throw incomplete(cut, `the file has ${size} bytes, not ${dbPages} pages`);
  const facts = await engine.call('examineCopy', { file });
  if (facts.pageSize !== pageSize || facts.dbPages !== dbPages) {
    throw incomplete(
      cut,
      `SQLite counts ${facts.dbPages} pages of ${facts.pageSize}, the log ${dbPages} of ${pageSize}`,
    );
  }
  return found;
}

/**
 * Every page of the last kept transaction must be in the file as the log has it last; so must, for the pages that the
 * first dropped transaction writes, the version before it where this segment has one.
 */
async function comparePages(
  head: SegmentHead,
  frames: ReturnType<typeof provenFrames>,
  copy: FileHandle,
  scope: { from: number; to: number },
  cut: number,
): Promise<void> {
  const lastFrames = head.transactions.at(cut - head.after - 1)?.frames ?? 0;
  const droppedFrames = head.transactions.at(cut - head.after)?.frames ?? 0;
  const written = head.pages.subarray(Math.max(scope.from, scope.to - lastFrames), scope.to + droppedFrames);
  // A transaction may have written all of a large database: a bit for each page and not an entry in a map.
  const ofInterest = new PageSet(greatest(written));
  for (const page of written) ofInterest.add(page);
  const found = new PageSet(pagesAt(head, cut));
  const isLast = new Uint8Array(head.pages.length);
  for (let i = scope.to - 1; i >= scope.from; i--) {
    const page = head.pages[i] ?? 0;
    if (ofInterest.has(page) && found.add(page)) isLast[i] = 1;
  }
  const size = frameBytes(head.pageSize);
  const there = Buffer.alloc(head.pageSize);
  for await (const { first, count, bytes } of frames) {
    for (let i = 0; i < count; i++) {
      const page = head.pages[first + i] ?? 0;
      if (isLast[first + i] !== 1) continue;
      await copy.read(there, 0, there.length, (page - 1) * head.pageSize);
      if (!there.equals(bytes.subarray(i * size + frameHeaderBytes, (i + 1) * size))) {
        throw incomplete(cut, `page ${page} of the rebuilt database is not the one that the log holds`);
      }
    }
  }
}
