/** The newest version of every page that a range of the log wrote, read from its newest end. */
import { instant } from '../../instant.js';
import type { RecoveryMeter, StoredSegment } from '../datastore.js';
import type { ByteReader } from './byteReader.js';
import { inParallel } from './inParallel.js';
import { NewerPages } from './newerPages.js';
import { ContiguityCheck, framesInScope, incomplete, lastVersions, pagesAt, type ReplayScope } from './replayScope.js';
import { BadSegment, type SegmentHead } from './segmentFormat.js';
import { provenFrames } from './segmentFrames.js';
import { asFault, openSegment } from './storedSegment.js';
import { frameBytes, frameHeaderBytes } from './walFormat.js';

/** Segments read at the same time: hashing and decompression of each run on threads of their own. */
const readAhead = 4;

/**
 * @param directory where the pages are kept; the caller removes them
 * @param newestFirst the segments with transactions in (replayAfter, cut]
 * @throws Fault RECOVERY_INCOMPLETE where they do not reach from one end to the other, LOG_CORRUPT, and as they are read
 */
export async function gatherLog(
  directory: string,
  scope: ReplayScope,
  newestFirst: AsyncIterable<StoredSegment>,
  signal: AbortSignal,
  progress?: RecoveryMeter,
): Promise<NewerPages> {
  const { stretch, replayAfter, cut, pageSize } = scope;
  const check = new ContiguityCheck(replayAfter, cut);
  let gathered: NewerPages | null = null;
  try {
    // Which frames count is decided in order, newest first; their bytes then come and are kept side by side.
    await inParallel(newestFirst, readAhead, async (segment, inTurn) => {
      signal.throwIfAborted();
      const { head, reader } = await openSegment(segment, stretch);
      try {
        const { wanted, newer } = await inTurn(() => {
          check.next(segment);
          if (head.pageSize !== pageSize) throw incomplete(cut, 'the page size changed');
          const newer = gathered ?? new NewerPages(directory, pageSize, pagesAt(head, cut));
          gathered = newer;
          return { wanted: lastVersions(head, framesInScope(head, replayAfter, cut), newer), newer };
        });
        await keepFrames(head, reader, wanted, newer);
        if ((await reader.drain()) > 0) throw new BadSegment('there is more than its index says');
        const last = head.transactions.at(-1);
        if (last) progress?.replayedTo(instant(last.tHi));
      } catch (error) {
        throw asFault(segment, error);
      } finally {
        await reader.close();
      }
    });
    check.end();
    gathered ??= new NewerPages(directory, pageSize, scope.dbPages);
    gathered.flush();
    return gathered;
  } catch (error) {
    (gathered as NewerPages | null)?.remove();
    throw error;
  }
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
