/**
 * From a target to its cut. A cut is the end of the last commit record that is kept: stopping right there, and not just
 * before the first one left out, also leaves out what the next transaction did before it committed and PostgreSQL cannot
 * undo, such as the files that DROP DATABASE removes.
 */
import { Fault } from '../../../errors.js';
import type { Instant } from '../../../instant.js';
import type { Cut } from '../../../model.js';
import type { LocateTarget, SegmentsAround } from '../../datastore.js';
import { formatLsn, positionAt } from '../formats/lsn.js';
import { readRecords } from '../formats/segmentFormat.js';

/**
 * An instant keeps everything before the first commit in log order that is later than it; commit times are not ordered
 * along the log. A position keeps every transaction whose commit record ends at or before it, so any LSN that
 * PostgreSQL showed a user names a cut, and the cut says which.
 */
export async function locateCut(target: LocateTarget, around: SegmentsAround, signal?: AbortSignal): Promise<Cut> {
  let kept: { end: number; at: Instant } | null = null;
  let latestKept: Instant | null = null;
  let dropped: Instant | null = null;
  const { before, boundary } = around;
  // The same segment may be given twice.
  const segments = [before, boundary?.after === before?.after ? null : boundary];
  for (const segment of segments) {
    signal?.throwIfAborted();
    if (!segment || dropped !== null) continue;
    await readRecords(segment, ({ end, at }) => {
      if (dropped !== null) return;
      const keep = 'at' in target ? at <= target.at : end <= target.position.ordinal;
      if (!keep) {
        dropped = at;
        return;
      }
      kept = { end, at };
      if (latestKept === null || at > latestKept) latestKept = at;
    });
  }
  const { earlier } = around;
  if (kept === null && earlier) {
    // The position lies before the first commit of its segment.
    await readRecords(earlier, ({ end, at }) => {
      kept = { end, at };
      if (latestKept === null || at > latestKept) latestKept = at;
    });
  }
  const last = kept as { end: number; at: Instant } | null;
  if (last === null) {
    throw new Fault('LOG_CORRUPT', 'No commit was found in the archived log where the catalog says that there is one');
  }
  if ('at' in target && boundary && dropped === null) {
    throw new Fault(
      'LOG_CORRUPT',
      `No commit later than the target was found before ${formatLsn(boundary.last)}, where the catalog says that there is one`,
    );
  }
  return {
    position: positionAt(around.stretch, last.end),
    lastKeptNotBefore: last.at,
    // Of the kept commits around the cut the greatest time: as a target it leads to this same cut, the last one's may not.
    lastKeptAt: latestKept,
    firstDroppedAt: dropped,
  };
}
