/** Which frames of the log make the cut: pure decisions on the heads of segments, shared by restoring and replaying. */
import { Fault } from '../../../errors.js';
import type { RecoveryContext, StoredSegment } from '../../datastore.js';
import { fullBackupState, pageBackupState } from '../formats/backupState.js';
import type { SegmentHead } from '../formats/segmentFormat.js';

/** The frames [from, to) of a segment that belong to transactions in (replayAfter, cut]. */
export function framesInScope(head: SegmentHead, replayAfter: number, cut: number): { from: number; to: number } {
  let from = 0;
  let to = 0;
  let frames = 0;
  for (let i = 0; i < head.transactions.length; i++) {
    const ordinal = head.after + i + 1;
    frames += head.transactions.frames(i);
    if (ordinal <= replayAfter) from = frames;
    if (ordinal <= cut) to = frames;
  }
  return { from, to: Math.max(from, to) };
}

/**
 * Claims the pages that a segment supplies and answers with its frames that are the last version of their page, as
 * flags by index in the segment. Segments come newest first: a page that can't be claimed has a later version.
 */
export function lastVersions(
  head: SegmentHead,
  scope: { from: number; to: number },
  newer: { claim(page: number): boolean },
): Uint8Array {
  const wanted = new Uint8Array(head.pages.length);
  for (let i = scope.to - 1; i >= scope.from; i--) if (newer.claim(head.pages[i] ?? 0)) wanted[i] = 1;
  return wanted;
}

/** Checks, newest first, that segments follow on one another from the cut down to the base. */
export class ContiguityCheck {
  private expected: number | null = null;

  constructor(
    private readonly replayAfter: number,
    private readonly cut: number,
  ) {}

  next(segment: StoredSegment): void {
    const fits =
      this.expected === null ? segment.after < this.cut && segment.last >= this.cut : segment.last === this.expected;
    if (!fits) throw incomplete(this.cut, `the segment ending at transaction ${segment.last} does not fit`);
    this.expected = segment.after;
  }

  /** @throws Fault RECOVERY_INCOMPLETE where the log does not reach down to the base */
  end(): void {
    if (this.cut > this.replayAfter && (this.expected === null || this.expected > this.replayAfter)) {
      throw incomplete(this.cut, `its log begins only after transaction ${this.expected ?? this.cut}`);
    }
  }
}

/** Size of the database after transaction `ordinal`, which is in this segment. */
export function pagesAt(head: SegmentHead, ordinal: number): number {
  const transaction = head.transactions.at(ordinal - head.after - 1);
  if (!transaction) throw incomplete(ordinal, 'the newest segment does not hold it');
  return transaction.dbPages;
}

export function incomplete(cut: number, why: string): Fault {
  return new Fault('RECOVERY_INCOMPLETE', `The recovery cannot reach transaction ${cut}: ${why}`, {
    hint: 'Choose another point in time, or report this: the archive does not hold what its catalog says.',
  });
}

/** The numbers that every step of a recovery needs. */
export interface ReplayScope {
  stretch: string;
  /** The backups make the database as it was after this transaction, give or take what the log from here on repeats. */
  replayAfter: number;
  cut: number;
  pageSize: number;
  /** Size of the database where no log is replayed. */
  dbPages: number;
}

/** @throws Fault RECOVERY_INCOMPLETE where the backups and the cut do not belong together */
export function scopeOf({ base, incrementals, cut }: RecoveryContext): ReplayScope {
  let { facts } = base;
  let state: { pageSize: number; dbPages: number } = fullBackupState(facts);
  for (const { facts: next } of incrementals) {
    const nextState = pageBackupState(next);
    const follows =
      next.replayAfter.stretch === facts.replayAfter.stretch && nextState.after === facts.replayAfter.ordinal;
    if (!follows || nextState.pageSize !== state.pageSize) {
      throw incomplete(cut.position.ordinal, 'its backups do not stand on each other');
    }
    facts = next;
    state = nextState;
  }
  const { replayAfter, consistent } = facts;
  if (replayAfter.stretch !== cut.position.stretch || consistent.ordinal > cut.position.ordinal) {
    throw incomplete(cut.position.ordinal, 'the backup does not lead to it');
  }
  const { pageSize, dbPages } = state;
  return {
    stretch: cut.position.stretch,
    replayAfter: replayAfter.ordinal,
    cut: cut.position.ordinal,
    pageSize,
    dbPages,
  };
}
