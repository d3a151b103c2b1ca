/** Gathers what the planner needs, from the catalog and, for the exact cut, from the log itself; decides nothing. */
import type { Tap } from '../backup/manifest.js';
import type { CatalogReader, InstanceRecord, SegmentRecord, StretchRecord } from '../catalog/records.js';
import type { Datastore, LocateTarget, SegmentsAround, StoredSegment } from '../datastores/datastore.js';
import { Fault, invalidArgument } from '../errors.js';
import { type Clock, formatInstant, type Instant } from '../instant.js';
import type { Cut, LogPosition, RecoveryPlan, RecoveryTarget } from '../model.js';
import type { ObjectPipeline } from '../storage/pipeline.js';
import {
  chooseBase,
  chooseWindow,
  composePlan,
  latestPoint,
  mayBecomeCovered,
  type PlanningFacts,
  refusal,
  refusalOfPosition,
} from './planner.js';
import { computeWindows, type StartingPoint, type StretchWindow } from './windows.js';

export interface PlanningOptions {
  catalog: { read: CatalogReader };
  pipeline: ObjectPipeline;
  clock: Clock;
  /** Makes the archive cover an instant, or as late as possible for null. */
  cover(instanceId: string, at: Instant | null): Promise<boolean>;
}

/** Completed backups looked at, newest first, before the search for a base gives up. */
const BASES_PER_LOOK = 50;

/** @throws Fault every refusal of the target */
export async function planRecovery(
  options: PlanningOptions,
  datastore: Datastore,
  instance: InstanceRecord,
  target: RecoveryTarget,
): Promise<RecoveryPlan> {
  if (target.pointInTime !== null && target.position !== null) {
    throw invalidArgument('position', 'Give either a point in time or a position, not both', 'Leave one of them out.');
  }
  const { cut, before } =
    target.position !== null
      ? { cut: await cutAtPosition(options, datastore, instance, target.position), before: null }
      : await cutAtInstant(options, datastore, instance, target.pointInTime);
  const stretch = await options.catalog.read.stretchByName(instance.id, cut.position.stretch);
  if (!stretch) throw new Fault('INTERNAL', `no stretch ${cut.position.stretch}`);
  const base = await findBase(options.catalog.read, instance.id, stretch.id, cut.position, before);
  if (!base) {
    const facts = await gatherFacts(options, instance);
    throw before === null ? refusalOfPosition(facts) : refusal(before, facts);
  }
  const backup = await options.catalog.read.backup(base.backupId);
  const log = await options.catalog.read.segmentTotals(stretch.id, {
    after: base.replayAfter,
    last: cut.position.ordinal,
  });
  return composePlan({
    instanceId: instance.id,
    target,
    cut,
    base,
    baseStoredBytes: backup?.storedBytes ?? 0,
    log,
  });
}

/** By instance id. The cost grows with stretches, gaps and, only for stretches with missing bytes, backups. */
export async function loadWindows(
  read: CatalogReader,
  instanceIds: readonly string[],
): Promise<Map<string, StretchWindow[]>> {
  const stretches = await read.stretches(instanceIds);
  const [gaps, points] = await Promise.all([
    read.gaps(stretches.map((stretch) => stretch.id)),
    read.fullBackupPoints(instanceIds),
  ]);
  return new Map(
    instanceIds.map((id) => [
      id,
      computeWindows(
        stretches.filter((stretch) => stretch.instanceId === id),
        gaps,
        points.filter((point) => point.instanceId === id),
      ),
    ]),
  );
}

export async function gatherFacts(
  options: Pick<PlanningOptions, 'catalog' | 'clock'>,
  instance: InstanceRecord,
): Promise<PlanningFacts> {
  const windows = (await loadWindows(options.catalog.read, [instance.id])).get(instance.id) ?? [];
  const backups = await options.catalog.read.startingPoints(
    { instanceId: instance.id, before: null },
    { first: 1, after: null },
  );
  return { windows, now: options.clock(), hasBackup: backups.length > 0 };
}

async function cutAtInstant(
  options: PlanningOptions,
  datastore: Datastore,
  instance: InstanceRecord,
  pointInTime: Instant | null,
): Promise<{ cut: Cut; before: Instant }> {
  let facts = await gatherFacts(options, instance);
  if (facts.hasBackup && mayBecomeCovered(pointInTime, facts)) {
    await options.cover(instance.id, pointInTime);
    facts = await gatherFacts(options, instance);
  }
  const at = pointInTime ?? latestPoint(facts);
  const { stretchId } = chooseWindow(at, facts);
  const { read } = options.catalog;
  const stretch = await read.stretch(stretchId);
  if (!stretch) throw new Fault('INTERNAL', `no stretch ${stretchId}`);
  const next = await read.firstSegmentCommittedAfter(stretchId, at);
  const last = await read.lastSegmentWithCommitUpTo(stretchId, next?.after ?? stretch.lastOrdinal);
  // What is known to be lost is not read: the catalog's own times decide where they can.
  const lost = await lostIn(read, stretchId);
  const boundary = next && !lost(next) ? next : null;
  const before = last && !lost(last) ? last : null;
  if (next && !boundary && (!last || next.firstCommitAt === null || at >= next.firstCommitAt)) throw lostLog(next);
  if (!boundary && !before) {
    const end = next && last ? { ordinal: last.last, text: last.lastText } : endOf(stretch);
    return { cut: bareCut({ stretch: stretch.name, ...end }), before: at };
  }
  const cut = await locate(options, datastore, { at }, { before, boundary, stretch: stretch.name });
  return { cut: { ...cut, firstDroppedAt: cut.firstDroppedAt ?? next?.firstCommitAt ?? null }, before: at };
}

async function cutAtPosition(
  options: PlanningOptions,
  datastore: Datastore,
  instance: InstanceRecord,
  text: string,
): Promise<Cut> {
  const { read } = options.catalog;
  const position = datastore.parsePosition(text);
  const malformed = () =>
    invalidArgument(
      'position',
      `${JSON.stringify(text.slice(0, 64))} is not a position of this instance's log`,
      'Copy one from a recovery plan, its cut, or a backup.',
    );
  if (!position) throw malformed();
  let stretch = await read.stretchByName(instance.id, position.stretch);
  if (stretch && stretch.endsBecause === null && position.ordinal > stretch.lastOrdinal) {
    await options.cover(instance.id, null);
    stretch = await read.stretchByName(instance.id, position.stretch);
  }
  if (!stretch) throw malformed();
  if (position.ordinal > stretch.lastOrdinal) {
    const facts = await gatherFacts(options, instance);
    const latest = facts.windows.at(-1);
    throw new Fault('TARGET_TOO_LATE', 'The requested position is later than the archived log', {
      hint: `The log of this stretch ends at ${stretch.lastText}.`,
      details: latest ? { latest: formatInstant(latest.to), latestPosition: stretch.lastText } : {},
    });
  }
  const lost = await lostIn(read, stretch.id);
  let before = await read.segmentHolding(stretch.id, position.ordinal);
  let boundary = await read.segmentHolding(stretch.id, position.ordinal + 1);
  if (before && lost(before)) {
    if (position.ordinal !== before.last) throw lostLog(before);
    before = null; // Its end is known without it.
  }
  if (boundary && lost(boundary)) boundary = null;
  if (!before && !boundary) return bareCut(position);
  return locate(options, datastore, { position }, { before, boundary, stretch: stretch.name });
}

/** Tells the segments of a stretch that are known to be lost. */
async function lostIn(read: CatalogReader, stretchId: string): Promise<(segment: SegmentRecord) => boolean> {
  const gaps = await read.gaps([stretchId]);
  return (segment) =>
    gaps.some(({ after, last }) => after !== null && last !== null && after < segment.last && segment.after < last);
}

function lostLog({ object }: SegmentRecord): Fault {
  return new Fault('LOG_CORRUPT', 'The requested point lies in a piece of log that is damaged', {
    hint: 'Choose an instant in one of recoveryWindows.',
    details: { object: object.key },
  });
}

function endOf({ lastOrdinal, lastText }: StretchRecord): Pick<LogPosition, 'ordinal' | 'text'> {
  return { ordinal: lastOrdinal, text: lastText };
}

/** A cut of which no log says more than where it is. */
function bareCut(position: LogPosition): Cut {
  return { position, lastKeptNotBefore: null, lastKeptAt: null, firstDroppedAt: null };
}

async function locate(
  options: PlanningOptions,
  datastore: Datastore,
  target: LocateTarget,
  around: { before: SegmentRecord | null; boundary: SegmentRecord | null; stretch: string },
): Promise<Cut> {
  const segments: SegmentsAround = {
    before: around.before && openSegment(options.pipeline, around.before),
    boundary: around.boundary && openSegment(options.pipeline, around.boundary),
    stretch: around.stretch,
  };
  return datastore.locate(target, segments);
}

export function openSegment(
  pipeline: ObjectPipeline,
  record: SegmentRecord,
  signal?: AbortSignal,
  tap: Tap = (bytes) => bytes,
): StoredSegment {
  return {
    after: record.after,
    last: record.last,
    transactions: record.transactions,
    plainBytes: record.object.plainBytes,
    read: () => tap(pipeline.read(record.object, 'LOG_CORRUPT', signal), record.object),
  };
}

/** The newest fitting full backup of the cut's stretch, looked for backwards from the target. */
async function findBase(
  read: CatalogReader,
  instanceId: string,
  stretchId: string,
  cut: LogPosition,
  before: Instant | null,
): Promise<StartingPoint | null> {
  const gaps = (await read.gaps([stretchId])).filter((gap) => gap.last !== null && gap.last <= cut.ordinal);
  const usableFrom = gaps.reduce((end, gap) => Math.max(end, gap.last ?? 0), 0);
  for (let after: string | null = null; ; ) {
    const page = await read.startingPoints({ instanceId, before }, { first: BASES_PER_LOOK, after });
    const candidates = page.flatMap((backup) => {
      const { consistentAt, consistentOrdinal, replayAfterOrdinal } = backup;
      if (backup.type !== 'FULL' || backup.stretchId !== stretchId) return [];
      if (consistentAt === null || consistentOrdinal === null || replayAfterOrdinal === null) return [];
      if (replayAfterOrdinal < usableFrom) return [];
      return [{ backupId: backup.id, stretchId, consistentAt, consistentOrdinal, replayAfter: replayAfterOrdinal }];
    });
    const base = chooseBase(cut, candidates);
    if (base) return base;
    const last = page.at(-1);
    if (!last || page.length < BASES_PER_LOOK) return null;
    after = last.id;
  }
}
