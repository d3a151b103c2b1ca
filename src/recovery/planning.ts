/** Gathers what the planner needs, from the catalog and, for the exact cut, from the log itself; decides nothing. */
import { openSegment } from '../backup/archivedLog.js';
import { chainOf, type StartingPoint, startingPoints } from '../backup/chains.js';
import { readManifest } from '../backup/manifest.js';
import type { CatalogReader, InstanceRecord, SegmentRecord, StretchRecord } from '../catalog/records.js';
import type { Datastore, LocateTarget, SegmentsAround } from '../datastores/datastore.js';
import { Fault, invalidArgument } from '../errors.js';
import type { Clock, Instant } from '../instant.js';
import type { Cut, LogPosition, RecoveryPlan, RecoveryTarget } from '../model.js';
import type { ObjectPipeline } from '../storage/pipeline.js';
import {
  candidateStarts,
  cheapestStart,
  chooseWindow,
  composePlan,
  type LogToReplay,
  latestWindow,
  mayBecomeCovered,
  type PlanningFacts,
  refusal,
  refusalOfLatePosition,
  refusalOfPosition,
} from './planner.js';
import { computeWindows, type StretchWindow } from './windows.js';

export interface PlanningOptions {
  catalog: { read: CatalogReader };
  pipeline: ObjectPipeline;
  clock: Clock;
  /** Makes the archive cover an instant, or as late as possible for null. */
  cover(instanceId: string, at: Instant | null): Promise<boolean>;
}

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
  const { cut, stretch, before, facts } =
    target.position !== null
      ? await cutAtPosition(options, datastore, instance, target.position)
      : await cutAtInstant(options, datastore, instance, target.pointInTime);
  const candidates = candidateStarts({ cut: cut.position, stretchId: stretch.id, before }, facts);
  const starts = await Promise.all(candidates.map(async (from) => ({ from, log: await logFrom(from) })));
  const start = cheapestStart(starts);
  if (!start) throw before === null ? refusalOfPosition(facts) : refusal(before, facts);
  await requirePrograms(options, datastore, chainOf(start.from)[0]);
  return composePlan({ instanceId: instance.id, target, cut, ...start, order: datastore.recovery.order });

  function logFrom({ replayAfter }: StartingPoint): Promise<LogToReplay> {
    return options.catalog.read.segmentTotals(stretch.id, { after: replayAfter, last: cut.position.ordinal });
  }
}

/**
 * How the archive alone leads to the latest point that can be recovered, and an instant that leads there for ever. The
 * source is not asked for more. @throws Fault where nothing can be recovered
 */
export async function planToEnd(
  options: Omit<PlanningOptions, 'cover'>,
  datastore: Datastore,
  instance: InstanceRecord,
): Promise<{ plan: RecoveryPlan; at: Instant }> {
  const { to: at } = latestWindow(await gatherFacts(options, instance));
  const target = { pointInTime: at, position: null };
  return { at, plan: await planRecovery({ ...options, cover: async () => false }, datastore, instance, target) };
}

/** By instance id. The cost grows with stretches, gaps and backups, not with the log. */
export async function loadWindows(
  read: CatalogReader,
  instanceIds: readonly string[],
): Promise<Map<string, StretchWindow[]>> {
  const facts = await loadLogFacts(read, instanceIds);
  return new Map([...facts].map(([id, { windows }]) => [id, windows]));
}

interface LogFacts extends Omit<PlanningFacts, 'now'> {
  windows: StretchWindow[];
  stretches: StretchRecord[];
}

interface FoundCut {
  cut: Cut;
  stretch: StretchRecord;
  /** The base must have been consistent by then; null where a position decides. */
  before: Instant | null;
  facts: PlanningFacts;
}

async function loadLogFacts(read: CatalogReader, instanceIds: readonly string[]): Promise<Map<string, LogFacts>> {
  const [allStretches, allBackups] = await Promise.all([read.stretches(instanceIds), read.backupPoints(instanceIds)]);
  const allGaps = await read.gaps(allStretches.map((stretch) => stretch.id));
  const stretchesOf = grouped(allStretches, ({ instanceId }) => instanceId);
  const backupsOf = grouped(allBackups, ({ instanceId }) => instanceId);
  const gapsOf = grouped(allGaps, ({ stretchId }) => stretchId);
  return new Map(
    instanceIds.map((id) => {
      const stretches = stretchesOf.get(id) ?? [];
      const gaps = stretches.flatMap((stretch) => gapsOf.get(stretch.id) ?? []);
      const points = startingPoints(backupsOf.get(id) ?? []);
      return [id, { stretches, gaps, points, windows: computeWindows(stretches, gaps, points) }];
    }),
  );
}

/** The rows of each key, in their order: one walk for all keys, where there may be thousands of them. */
function grouped<T>(rows: readonly T[], keyOf: (row: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const row of rows) {
    const key = keyOf(row);
    const group = groups.get(key);
    if (group) group.push(row);
    else groups.set(key, [row]);
  }
  return groups;
}

async function gatherFacts(
  { catalog, clock }: Pick<PlanningOptions, 'catalog' | 'clock'>,
  instance: InstanceRecord,
): Promise<LogFacts & PlanningFacts> {
  const facts = (await loadLogFacts(catalog.read, [instance.id])).get(instance.id);
  return { ...(facts ?? { stretches: [], gaps: [], points: [], windows: [] }), now: clock() };
}

async function cutAtInstant(
  options: PlanningOptions,
  datastore: Datastore,
  instance: InstanceRecord,
  pointInTime: Instant | null,
): Promise<FoundCut> {
  let facts = await gatherFacts(options, instance);
  if (facts.points.length > 0 && mayBecomeCovered(pointInTime, facts)) {
    await options.cover(instance.id, pointInTime);
    facts = await gatherFacts(options, instance);
  }
  const { stretchId, to } = pointInTime === null ? latestWindow(facts) : chooseWindow(pointInTime, facts);
  const at = pointInTime ?? to;
  const stretch = facts.stretches.find(({ id }) => id === stretchId);
  if (!stretch) throw new Fault('INTERNAL', `no stretch ${stretchId}`);
  const end: LogPosition = { stretch: stretch.name, ordinal: stretch.lastOrdinal, text: stretch.lastText };
  // The window's end as an instant may leave out what is archived: commits whose times a later one could still come before,
  // and everything behind a commit of a moment at which the source's clock was ahead.
  if (pointInTime === null && candidateStarts({ cut: end, stretchId, before: null }, facts).length > 0)
    return { cut: await cutIn(options, datastore, stretch, end, facts), stretch, before: null, facts };
  const { read } = options.catalog;
  const next = await read.firstSegmentCommittedAfter(stretchId, at);
  const last = await read.lastSegmentWithCommitUpTo(stretchId, next?.after ?? stretch.lastOrdinal);
  // What is known to be lost is not read: the catalog's own times decide where they can.
  const lost = lostIn(facts, stretchId);
  const boundary = next && !lost(next) ? next : null;
  const before = last && !lost(last) ? last : null;
  if (next && !boundary && (!last || next.firstCommitAt === null || at >= next.firstCommitAt)) throw lostLog(next);
  const alone = next && last ? { stretch: stretch.name, ordinal: last.last, text: last.lastText } : end;
  const cut = await locate(options, datastore, { at }, { before, boundary, stretch: stretch.name }, alone);
  const firstDroppedAt = cut.firstDroppedAt ?? next?.firstCommitAt ?? null;
  return { cut: { ...cut, firstDroppedAt }, stretch, before: at, facts };
}

async function cutAtPosition(
  options: PlanningOptions,
  datastore: Datastore,
  instance: InstanceRecord,
  text: string,
): Promise<FoundCut> {
  const asked = datastore.parsePosition(text);
  let facts = await gatherFacts(options, instance);
  let stretch = asked && stretchOfPosition(asked, facts);
  if (asked && stretch?.endsBecause === null && asked.ordinal > stretch.lastOrdinal) {
    await options.cover(instance.id, null);
    facts = await gatherFacts(options, instance);
    stretch = stretchOfPosition(asked, facts);
  }
  if (!asked || !stretch) {
    throw invalidArgument(
      'position',
      `${JSON.stringify(text.slice(0, 64))} is not a position of this instance's log`,
      'Copy one from a recovery plan, its cut, or a backup.',
    );
  }
  const position = { ...asked, stretch: stretch.name };
  if (position.ordinal > stretch.lastOrdinal) throw refusalOfLatePosition(stretch.lastText, facts);
  return { cut: await cutIn(options, datastore, stretch, position, facts), stretch, before: null, facts };
}

async function cutIn(
  options: PlanningOptions,
  datastore: Datastore,
  stretch: StretchRecord,
  position: LogPosition,
  facts: PlanningFacts,
): Promise<Cut> {
  const { read } = options.catalog;
  const lost = lostIn(facts, stretch.id);
  let [before, boundary] = await Promise.all([
    read.segmentHolding(stretch.id, position.ordinal),
    read.segmentHolding(stretch.id, position.ordinal + 1),
  ]);
  if (before && lost(before)) {
    if (position.ordinal !== before.last) throw lostLog(before);
    before = null; // Its end is known without it.
  }
  if (boundary && lost(boundary)) boundary = null;
  // Without its own segment's commits, a commit before them is not the last one kept.
  const commits = before && (await read.lastSegmentWithCommitUpTo(stretch.id, before.after));
  const earlier = commits && !lost(commits) ? commits : null;
  const around = { before, boundary, earlier, stretch: stretch.name };
  return locate(options, datastore, { position }, around, position);
}

/**
 * The stretch that a position names. One that names none, such as PostgreSQL's own spelling of an LSN, means the only
 * stretch that holds it; one behind all of them means the newest, which may still come to hold it.
 * @throws Fault INVALID_ARGUMENT (position) where several hold it, TARGET_TOO_EARLY where the archive begins later
 */
function stretchOfPosition(position: LogPosition, facts: LogFacts & PlanningFacts): StretchRecord | null {
  const { stretches } = facts;
  if (position.stretch !== '') return stretches.find(({ name }) => name === position.stretch) ?? null;
  const { ordinal, text } = position;
  const holding = stretches.filter(({ startOrdinal, lastOrdinal }) => startOrdinal < ordinal && ordinal <= lastOrdinal);
  if (holding.length > 1) {
    const names = holding.map(({ name }) => name);
    throw invalidArgument(
      'position',
      `${text} is a position in ${names.length} stretches of this instance's log`,
      `Say which one is meant: ${names.map((name) => `${text}@${name}`).join(' or ')}.`,
    );
  }
  if (holding[0]) return holding[0];
  if (stretches.length > 0 && stretches.every(({ startOrdinal }) => ordinal <= startOrdinal)) {
    throw refusalOfPosition(facts);
  }
  const newest = stretches.reduce<StretchRecord | null>((a, b) => (a && a.number > b.number ? a : b), null);
  return newest && ordinal > newest.lastOrdinal ? newest : null;
}

/** Tells the segments of a stretch that are known to be lost. */
function lostIn({ gaps }: PlanningFacts, stretchId: string): (segment: SegmentRecord) => boolean {
  const own = gaps.filter((gap) => gap.stretchId === stretchId);
  return (segment) =>
    own.some(({ after, last }) => after !== null && last !== null && after < segment.last && segment.after < last);
}

function lostLog({ object }: SegmentRecord): Fault {
  return new Fault('LOG_CORRUPT', 'The requested point lies in a piece of log that is damaged', {
    hint: 'Choose an instant in one of recoveryWindows.',
    details: { object: object.key },
  });
}

/** @throws Fault VERSION_MISMATCH where what restores the base is not installed; better now than in the first step */
async function requirePrograms(
  { catalog, pipeline }: PlanningOptions,
  { recovery }: Datastore,
  baseId: string,
): Promise<void> {
  if (!recovery.requireFor) return;
  const object = (await catalog.read.backup(baseId))?.manifest;
  // One that can't be read is told by whoever restores from it.
  const manifest = object && (await readManifest(pipeline, object).catch(() => null));
  if (manifest) await recovery.requireFor(manifest.facts);
}

/** `alone` is the cut where no segment is near: nothing was ever committed, or the position is the stretch's start. */
async function locate(
  options: PlanningOptions,
  datastore: Datastore,
  target: LocateTarget,
  around: {
    before: SegmentRecord | null;
    boundary: SegmentRecord | null;
    earlier?: SegmentRecord | null;
    stretch: string;
  },
  alone: LogPosition,
): Promise<Cut> {
  const { before, boundary, earlier, stretch } = around;
  if (!before && !boundary) {
    return { position: alone, lastKeptNotBefore: null, lastKeptAt: null, firstDroppedAt: null };
  }
  const segments: SegmentsAround = {
    before: before && openSegment(options.pipeline, before),
    boundary: boundary && openSegment(options.pipeline, boundary),
    earlier: earlier ? openSegment(options.pipeline, earlier) : null,
    stretch,
  };
  return datastore.locate(target, segments);
}
