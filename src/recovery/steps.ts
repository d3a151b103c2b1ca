/**
 * The steps of a recovery and how each is undone:
 *
 *   RESERVE            a row and an empty directory for the new instance   undo: both are gone
 *   RESTORE_BASE       the full backup, into scratch                       undo: scratch is gone
 *   APPLY_INCREMENTALS the backups that build on it                        undo: scratch is gone
 *   REPLAY_LOG         the log up to the cut                               undo: scratch is gone
 *   VERIFY             proof that scratch is the cut                       undo: nothing of its own
 *   ACTIVATE           into its place, started, shown; last and atomic     undo: stopped
 *
 * The plan says in which order they run: a driver may want the log before the base. Every step may run twice and every
 * undo too. Only these change a target instance; the source is never touched.
 */
import { mkdir, rm } from 'node:fs/promises';
import { uuidv7 } from 'uuidv7';
import { archivedLog, type Passed } from '../backup/archivedLog.js';
import { openBackup, readManifest } from '../backup/manifest.js';
import type { Catalog, InstanceRecord, RecoveryRecord } from '../catalog/records.js';
import type { DataStep, Datastore, RecoveryContext, StoredBackup } from '../datastores/datastore.js';
import { Fault, type JsonObject } from '../errors.js';
import type { Places } from '../instances/places.js';
import type { Clock } from '../instant.js';
import { type Cut, type RecoveryPlan, type RecoveryStepName, recoverySteps } from '../model.js';
import type { ObjectPipeline } from '../storage/pipeline.js';
import type { ProgressMeter } from './progress.js';

export interface RunContext {
  recovery: RecoveryRecord;
  source: InstanceRecord;
  datastore: Datastore;
  catalog: Catalog;
  pipeline: ObjectPipeline;
  places: Places;
  clock: Clock;
  meter: ProgressMeter;
  signal: AbortSignal;
  /** What the steps before this one produced. */
  outputs: Map<RecoveryStepName, JsonObject>;
}

/** What a step hands to the catalog when it succeeds. */
export interface StepResult {
  output?: JsonObject;
  /** Set by VERIFY: what was really found. */
  recoveredTo?: Cut;
  /** Set by ACTIVATE: the new instance, to be shown in the same transaction in which the recovery succeeds. */
  activated?: Partial<InstanceRecord>;
}

export interface Step {
  readonly name: RecoveryStepName;
  /** Nothing to do for this plan: the step is recorded as SKIPPED. */
  skipped?(recovery: RecoveryRecord): boolean;
  run(context: RunContext): Promise<StepResult>;
  undo(context: RunContext): Promise<void>;
}

const nothing = async (): Promise<void> => {};

export const recoveryRun: readonly Step[] = [
  { name: 'RESERVE', run: reserve, undo: unreserve },
  {
    name: 'RESTORE_BASE',
    async run(context) {
      await begin(context, 'RESTORE_BASE');
      await context.datastore.recovery.restoreBase(await forDriver(context, 'base'));
      return {};
    },
    undo: clearScratch,
  },
  {
    name: 'APPLY_INCREMENTALS',
    skipped: ({ plan }) => plan.incrementalIds.length === 0,
    async run(context) {
      await context.datastore.recovery.applyIncrementals(await forDriver(context, 'incrementals'));
      return {};
    },
    undo: clearScratch,
  },
  {
    name: 'REPLAY_LOG',
    async run(context) {
      await begin(context, 'REPLAY_LOG');
      const reached = await context.datastore.recovery.replayLog(await forDriver(context, 'log'));
      const wanted = context.recovery.plan.cut.position;
      if (reached.stretch !== wanted.stretch || reached.ordinal !== wanted.ordinal) {
        throw incomplete(wanted.text, reached.text);
      }
      return { output: { reached: reached.text } };
    },
    undo: clearScratch,
  },
  {
    name: 'VERIFY',
    async run(context) {
      const found = await context.datastore.recovery.verify(await forDriver(context));
      const wanted = context.recovery.plan.cut.position;
      if (found.position.ordinal !== wanted.ordinal) throw incomplete(wanted.text, found.position.text);
      return { recoveredTo: found };
    },
    undo: nothing,
  },
  {
    name: 'ACTIVATE',
    async run(context) {
      const facts = await context.datastore.recovery.activate(await forDriver(context));
      await rm(targetOf(context).scratch, { recursive: true, force: true });
      const { datastoreVersion, endpoint, connectionUri, identity, state } = facts;
      return {
        activated: { state: 'ACTIVE', datastoreVersion, endpoint, connectionUri, identity, driverState: state },
      };
    },
    async undo(context) {
      await context.datastore.recovery.discard(targetOf(context));
    },
  },
];

/** In the order in which the plan has them run. */
export function inOrder<S extends { name: RecoveryStepName }>(steps: readonly S[], plan: RecoveryPlan): S[] {
  const order: readonly RecoveryStepName[] = plan.steps ?? recoverySteps;
  return steps.toSorted((a, b) => order.indexOf(a.name) - order.indexOf(b.name));
}

/** The first of the steps that put data into scratch finds it there and empty. */
async function begin(context: RunContext, step: DataStep): Promise<void> {
  const [, first] = context.recovery.plan.steps ?? recoverySteps;
  if (step !== first) return;
  const { scratch } = targetOf(context);
  await rm(scratch, { recursive: true, force: true });
  await mkdir(scratch, { recursive: true, mode: 0o711 });
}

/** What any of the data steps did; may be done before the others are undone. */
export async function clearScratch(context: RunContext): Promise<void> {
  await context.datastore.recovery.discard(targetOf(context));
  await rm(targetOf(context).scratch, { recursive: true, force: true });
}

async function reserve(context: RunContext): Promise<StepResult> {
  const { recovery, source, catalog, places, clock } = context;
  const id = recovery.targetId ?? uuidv7();
  if (recovery.targetId === null) {
    await catalog.write(async (writer) => {
      await writer.insertInstance({
        id,
        tenantId: source.tenantId,
        name: recovery.targetName,
        origin: 'RECOVERED',
        datastore: source.datastore,
        datastoreVersion: source.datastoreVersion,
        flavor: source.flavor,
        volumeSizeGiB: source.volumeSizeGiB,
        state: 'PROVISIONING',
        endpoint: null,
        connectionUri: null,
        identity: null,
        driverState: {},
        notices: [],
        recoveredFromId: source.id,
        createdByRecoveryId: recovery.id,
        archiveHealthy: true,
        archiveMessage: null,
        createdAt: clock(),
        deletedAt: null,
      });
      await writer.updateRecovery(recovery.id, { targetId: id });
    });
    recovery.targetId = id;
  }
  await mkdir(places.instanceHome(id), { recursive: true, mode: 0o700 });
  return { output: { targetId: id } };
}

async function unreserve(context: RunContext): Promise<void> {
  const { recovery, catalog, places } = context;
  const { targetId } = recovery;
  if (targetId === null) return;
  await rm(places.instanceHome(targetId), { recursive: true, force: true });
  await catalog.write(async (writer) => {
    await writer.updateRecovery(recovery.id, { targetId: null });
    await writer.deleteInstance(targetId);
  });
  recovery.targetId = null;
}

function targetOf({ recovery, places }: RunContext): { id: string; home: string; scratch: string } {
  const id = recovery.targetId;
  // An empty id would name the directory of all instances.
  if (!id) throw new Error(`recovery ${recovery.id} has no new instance`);
  return { id, home: places.instanceHome(id), scratch: places.recoveryScratch(recovery.id) };
}

async function stored(context: RunContext, backupId: string, counted = false): Promise<StoredBackup> {
  const backup = await context.catalog.read.backup(backupId);
  // Found damaged by another recovery since this one was planned.
  if (backup?.state === 'FAILED' && backup.error) throw Fault.fromData(backup.error);
  if (!backup?.manifest || backup.state !== 'COMPLETED') {
    throw new Fault('BACKUP_NOT_FOUND', `Backup ${backupId} of this plan is gone`, {
      hint: 'Start the recovery again: a new plan uses the backups that are there.',
    });
  }
  const { pipeline, signal, meter } = context;
  const manifest = await readManifest(pipeline, backup.manifest, signal);
  return openBackup(pipeline, manifest, signal, counted ? countInto(meter) : undefined);
}

/** `counting` names whose bytes move the progress in this step; what is only looked at again does not. */
async function forDriver(context: RunContext, counting?: 'base' | 'incrementals' | 'log'): Promise<RecoveryContext> {
  const { recovery, source, catalog, pipeline, meter, signal } = context;
  const { plan } = recovery;
  const incrementals: StoredBackup[] = [];
  for (const id of plan.incrementalIds) incrementals.push(await stored(context, id, counting === 'incrementals'));
  const { id, home, scratch } = targetOf(context);
  return {
    source: {
      id: source.id,
      state: source.driverState,
      datastoreVersion: source.datastoreVersion,
      connectionUri: source.connectionUri,
    },
    target: { id, home },
    scratch,
    base: await stored(context, plan.baseId, counting === 'base'),
    incrementals,
    cut: plan.cut,
    segments: (order) =>
      archivedLog(
        { read: catalog.read, pipeline },
        plan.stretchId,
        { after: plan.replayAfter, last: plan.cut.position.ordinal },
        order,
        signal,
        counting === 'log' ? countInto(meter) : undefined,
      ),
    progress: { replayedTo: (at) => meter.replayedTo(at), message: (text) => meter.message(text) },
    signal,
  };
}

/** Stored bytes move the meter, in proportion to the plain ones that pass. */
function countInto(meter: ProgressMeter): Passed {
  return (passed, { plainBytes, storedBytes }) => meter.addBytes((passed * storedBytes) / Math.max(1, plainBytes));
}

function incomplete(wanted: string, reached: string): Fault {
  return new Fault('RECOVERY_INCOMPLETE', `The recovered data ends at ${reached}, not at ${wanted}`, {
    hint: 'Nothing was kept. Recover to an earlier instant, and have the log archive checked.',
    details: { wanted, reached },
  });
}
