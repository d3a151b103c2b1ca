/** Whatever an earlier process had captured goes to the archive first. */
import type { ArchiveEnd, AttachRequest, SessionEvent } from '../follower/captureTerms.js';
import { discardSegment } from '../spool/spool.js';
import { leftovers } from '../spool/spooledSegments.js';

/** Answers with where the log is known up to. */
export async function handOverLeftovers(
  { spool, archived }: AttachRequest,
  emit: (event: SessionEvent) => void,
): Promise<ArchiveEnd | null> {
  let known = archived;
  for (const sealed of await leftovers(spool)) {
    const { generation, after, last, coveredTo, continuation } = sealed;
    const continues = known?.generation === generation && known.ordinal === after;
    const beginsNext = generation === (known?.generation ?? 0) + 1 && after === 0;
    if (!continues && !beginsNext) {
      await discardSegment(sealed.file).catch(() => {});
      continue;
    }
    if (beginsNext) {
      const reason = 'The capture was interrupted just after it had started anew.';
      emit({ type: 'stretch', generation, first: known === null, reason, at: coveredTo });
    }
    emit({ type: 'sealed', sealed });
    known = { generation, ordinal: last, coveredTo: Math.max(coveredTo, known?.coveredTo ?? 0), continuation };
  }
  return known;
}
