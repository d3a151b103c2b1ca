/** The exact cut for a target, from the heads of the segments around it: a transaction is kept if and only if tHi <= T. */
import { Fault, invalidArgument } from '../../../errors.js';
import { type Instant, instant } from '../../../instant.js';
import type { Cut } from '../../../model.js';
import type { LocateTarget, SegmentsAround, StoredSegment } from '../../datastore.js';
import { position } from '../formats/position.js';
import type { SegmentHead } from '../formats/segmentFormat.js';
import type { SegmentTransaction } from '../formats/transactionTable.js';
import { segmentHead } from '../replay/storedSegment.js';

export async function locateCut(target: LocateTarget, around: SegmentsAround): Promise<Cut> {
  const { stretch } = around;
  if ('position' in target && target.position.stretch !== stretch) {
    throw invalidArgument('position', `Position ${target.position.text} is not in generation ${stretch}`);
  }
  const heads: SegmentHead[] = [];
  const segments = new Set([around.before, around.boundary].filter((each): each is StoredSegment => each !== null));
  for (const segment of segments) heads.push(await segmentHead(segment, stretch));
  if (heads.length === 0) throw new Fault('INTERNAL', 'There is no log around the target');

  const ordinal = 'at' in target ? lastKeptBy(target.at, heads) : target.position.ordinal;
  const first = heads[0]?.after ?? 0;
  const end = heads.at(-1);
  if (ordinal < first || (end && ordinal > end.after + end.transactions.length)) {
    throw invalidArgument('position', `${stretch}/${ordinal} is not the end of a transaction in the archived log`);
  }
  return cutAt(Number(stretch), ordinal, heads);
}

/** The cut after transaction `ordinal`, as closely as these heads tell. */
export function cutAt(generation: number, ordinal: number, heads: readonly SegmentHead[]): Cut {
  const kept = transactionIn(heads, ordinal);
  const dropped = transactionIn(heads, ordinal + 1);
  return {
    position: position(generation, ordinal),
    lastKeptNotBefore: kept ? known(kept.tLo) : null,
    lastKeptAt: kept ? instant(kept.tHi) : null,
    firstDroppedAt: dropped ? instant(dropped.tHi) : null,
  };
}

function lastKeptBy(at: Instant, heads: readonly SegmentHead[]): number {
  let kept = heads[0]?.after ?? 0;
  for (const head of heads) {
    // A hole between the two segments holds no transaction that decides: the catalog chose them as the neighbours.
    for (let i = 0; i < head.transactions.length; i++) {
      if (head.transactions.tHi(i) > at) return Math.max(kept, head.after + i);
      kept = head.after + i + 1;
    }
  }
  return kept;
}

function transactionIn(heads: readonly SegmentHead[], ordinal: number): SegmentTransaction | undefined {
  for (const head of heads) {
    const found = head.transactions.at(ordinal - head.after - 1);
    if (found) return found;
  }
  return undefined;
}

/** Null for transactions that were already in the log when its capture began. */
function known(at: number): Instant | null {
  return at === 0 ? null : instant(at);
}
