/**
 * The planner: decides how a recovery will be done, or why it can't. Pure: it is given facts and answers with a choice,
 * a plan or a Fault; planning.ts gathers the facts. A dry run and a real one take the same way through here.
 */
import { chainOf, type StartingPoint } from '../backup/chains.js';
import type { GapRecord } from '../catalog/records.js';
import { Fault, type JsonObject } from '../errors.js';
import { formatInstant, type Instant } from '../instant.js';
import type { Cut, LogPosition, RecoveryPlan, RecoveryStepName, RecoveryTarget } from '../model.js';
import type { StretchWindow } from './windows.js';
import { windowHolding } from './windows.js';

/** What is known of an instance before any log is looked at. */
export interface PlanningFacts {
  windows: readonly StretchWindow[];
  /** Of all stretches. */
  gaps: readonly GapRecord[];
  points: readonly StartingPoint[];
  now: Instant;
}

/** The stretch that an instant falls into, or the refusal. */
export function chooseWindow(at: Instant, facts: PlanningFacts): StretchWindow {
  const window = windowHolding(facts.windows, at);
  if (window) return window;
  throw refusal(at, facts);
}

/** The window whose end is the latest point; an instant that two windows share would lead into the one before. */
export function latestWindow(facts: PlanningFacts): StretchWindow {
  const latest = facts.windows.at(-1);
  if (!latest) throw refusal(null, facts);
  return latest;
}

/** True where a target is not covered yet but may be once the archive has caught up with the source. */
export function mayBecomeCovered(at: Instant | null, facts: PlanningFacts): boolean {
  if (at === null) return true;
  const last = facts.windows.at(-1);
  return at <= facts.now && (last === undefined || at > last.to);
}

/** Whatever is older than the newest full backup is not cheaper than it; of what is newer this many are weighed. */
const NEWEST_WEIGHED = 6;

/**
 * What a recovery may start from: backups of the cut's stretch that the cut does not come before, that were consistent by
 * the requested instant, and that no missing bytes part from the cut. Of those the newest full one and the newest that
 * stand on another; which of them costs least depends on the log. None where the cut can't be reached.
 */
export function candidateStarts(
  wanted: { cut: LogPosition; stretchId: string; before: Instant | null },
  facts: Pick<PlanningFacts, 'gaps' | 'points'>,
): StartingPoint[] {
  const { cut, stretchId, before } = wanted;
  let readableFrom = 0;
  for (const gap of facts.gaps) {
    if (gap.stretchId !== stretchId || gap.after === null || gap.last === null) continue;
    if (gap.after < cut.ordinal) readableFrom = Math.max(readableFrom, gap.last);
  }
  const fit = facts.points.filter(
    (point) =>
      point.stretchId === stretchId &&
      point.consistentOrdinal <= cut.ordinal &&
      (before === null || point.consistentAt <= before) &&
      point.replayAfter >= readableFrom,
  );
  const full = newestOf(fit.filter((point) => point.parent === null));
  const others = fit
    .filter((point) => point.parent !== null && (full === null || newer(point, full)))
    .sort((a, b) => (newer(a, b) ? -1 : 1));
  return [...(full ? [full] : []), ...others.slice(0, NEWEST_WEIGHED)];
}

/** The start with the fewest stored bytes to fetch, log included; the newer one of two that cost the same. */
export function cheapestStart<S extends { from: StartingPoint; log: LogToReplay }>(starts: readonly S[]): S | null {
  const cost = ({ from, log }: S) => from.storedBytes + log.storedBytes;
  return starts.reduce<S | null>((best, start) => {
    if (best === null || cost(start) < cost(best)) return start;
    return cost(start) === cost(best) && newer(start.from, best.from) ? start : best;
  }, null);
}

/** Sums over the log that a base needs up to the cut. */
export interface LogToReplay {
  segments: number;
  plainBytes: number;
  storedBytes: number;
  after: number | null;
  last: number | null;
  contiguous: boolean;
}

/** Composes the plan. @throws Fault LOG_CORRUPT where the catalog's log does not reach from the base to the cut */
export function composePlan(input: {
  instanceId: string;
  target: RecoveryTarget;
  cut: Cut;
  from: StartingPoint;
  log: LogToReplay;
  /** Of the steps that move data, the driver's. */
  order: readonly RecoveryStepName[];
}): RecoveryPlan {
  const { from: base, log } = input;
  const [baseId, ...incrementalIds] = chainOf(base);
  const end = input.cut.position.ordinal;
  if (end > base.replayAfter) {
    const reaches = log.after !== null && log.last !== null && log.after <= base.replayAfter && log.last >= end;
    if (!reaches || !log.contiguous) {
      throw new Fault('LOG_CORRUPT', 'The archived log does not reach from the backup to the requested point', {
        hint: 'Choose an instant in one of recoveryWindows, or take a new backup to open the next window.',
        details: { base: base.backupId, position: input.cut.position.text },
      });
    }
  }
  // What was committed before the base is consistent is part of the base, not of the log after it.
  const nothingAfterBase = end <= base.consistentOrdinal;
  const cut = nothingAfterBase ? { ...input.cut, lastKeptNotBefore: null, lastKeptAt: null } : input.cut;
  return {
    version: 1,
    steps: ['RESERVE', ...input.order, 'VERIFY', 'ACTIVATE'],
    instanceId: input.instanceId,
    target: input.target,
    cut,
    closestPointInTime: cut.lastKeptAt ?? base.consistentAt,
    stretchId: base.stretchId,
    baseId,
    incrementalIds,
    replayAfter: base.replayAfter,
    logSegments: log.segments,
    logBytes: log.plainBytes,
    bytesToFetch: base.storedBytes + log.storedBytes,
  };
}

/** Why an instant can't be recovered to, with the nearest ones that can. `at` is null for "the latest". */
export function refusal(at: Instant | null, facts: PlanningFacts): Fault {
  const { windows } = facts;
  const first = windows[0];
  const last = windows.at(-1);
  if (!first || !last) {
    return facts.points.length > 0
      ? new Fault('NO_BACKUP', 'No backup of this instance is joined by archived log', {
          hint: 'Take a new backup; if this repeats, logArchive tells what is wrong with the log.',
        })
      : new Fault('NO_BACKUP', 'This instance has no completed backup', {
          hint: 'Take one with takeBackup; any instant after its end can then be recovered to.',
        });
  }
  const bounds: JsonObject = { earliest: formatInstant(first.from), latest: formatInstant(last.to) };
  if (at === null || at > last.to) {
    const future = at !== null && at > facts.now;
    return new Fault(
      'TARGET_TOO_LATE',
      future ? 'The requested instant lies in the future' : 'The requested instant is later than the archived log',
      {
        hint: `Ask for ${formatInstant(last.to)} or earlier${future ? '' : ', or try again in a moment'}.`,
        details: { ...bounds, nearestBefore: formatInstant(last.to) },
      },
    );
  }
  if (at < first.from) {
    return new Fault('TARGET_TOO_EARLY', 'The requested instant is earlier than the first recoverable point', {
      hint: `Ask for ${formatInstant(first.from)} or later.`,
      details: { ...bounds, nearestAfter: formatInstant(first.from) },
    });
  }
  const before = windows.filter((window) => window.to < at).at(-1) ?? first;
  const after = windows.find((window) => window.from > at) ?? last;
  return new Fault('TARGET_IN_LOG_GAP', 'The requested instant lies in a gap of the archived log', {
    hint: `The nearest recoverable instants are ${formatInstant(before.to)} and ${formatInstant(after.from)}.`,
    details: { ...bounds, nearestBefore: formatInstant(before.to), nearestAfter: formatInstant(after.from) },
  });
}

/** A position that the log does not have yet. `end` is where it ends. */
export function refusalOfLatePosition(end: string, facts: PlanningFacts): Fault {
  const last = facts.windows.at(-1);
  return new Fault('TARGET_TOO_LATE', 'The requested position is later than the archived log', {
    hint: `The archived log ends at ${end}.`,
    details: { latestPosition: end, ...(last ? { latest: formatInstant(last.to) } : {}) },
  });
}

/** A position that the log has, and no backup comes before. */
export function refusalOfPosition(facts: PlanningFacts): Fault {
  const first = facts.windows[0];
  if (!first) return refusal(null, facts);
  return new Fault('TARGET_TOO_EARLY', 'No backup comes before the requested position', {
    hint: `Ask for a position that was reached after ${formatInstant(first.from)}.`,
    details: { earliest: formatInstant(first.from) },
  });
}

function newestOf(points: readonly StartingPoint[]): StartingPoint | null {
  return points.reduce<StartingPoint | null>((best, point) => (best && !newer(point, best) ? best : point), null);
}

function newer(a: StartingPoint, b: StartingPoint): boolean {
  if (a.replayAfter !== b.replayAfter) return a.replayAfter > b.replayAfter;
  if (a.consistentAt !== b.consistentAt) return a.consistentAt > b.consistentAt;
  return a.backupId > b.backupId;
}
