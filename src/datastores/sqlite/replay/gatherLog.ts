/** The newest version of every page that a range of the log wrote, read from its newest end. */
import { instant } from '../../../instant.js';
import type { RecoveryMeter, StoredSegment } from '../../datastore.js';
import { inParallel } from '../../inParallel.js';
import { type GatherArgument, type GatheredSegment, gatherSinkModule } from './gatherSink.js';
import { NewerPages } from './newerPages.js';
import { ContiguityCheck, incomplete, type ReplayScope } from './replayScope.js';
import { asFault } from './storedSegment.js';

/** Each of them is read, proved and kept on a thread. */
const segmentsAtOnce = 4;

/**
 * @param directory where the pages are kept; the caller removes it
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
  const newer = new NewerPages(directory, pageSize);
  try {
    // Each segment is gathered by itself; which versions are the newest of all is decided in order, newest first.
    await inParallel(newestFirst, segmentsAtOnce, async (segment, inTurn) => {
      signal.throwIfAborted();
      const { after, last } = segment;
      const argument: GatherArgument = { stretch, after, last, replayAfter, cut, pageSize, pages: newer.shared };
      const found = (await segment.pour({ module: gatherSinkModule, argument }).catch((error: unknown) => {
        throw asFault(segment, error);
      })) as GatheredSegment;
      await inTurn(() => {
        check.next(segment);
        if (found.pageSize !== pageSize) throw incomplete(cut, 'the page size changed');
        if (found.dbPages !== null) newer.limitTo(found.dbPages);
        newer.keep(found);
      });
      if (found.lastAt !== null) progress?.replayedTo(instant(found.lastAt));
    });
    check.end();
    newer.limitTo(scope.dbPages);
    newer.flush();
    return newer;
  } catch (error) {
    newer.close();
    throw error;
  }
}
