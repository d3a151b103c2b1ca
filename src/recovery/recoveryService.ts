/** Recoveries as callers see them: assessed, asked for, watched, cancelled. The work itself is the task manager's. */
import { createHash } from 'node:crypto';
import { uuidv7 } from 'uuidv7';
import type { Catalog, InstanceRecord, Page, RecoveryRecord, StepRecord } from '../catalog/records.js';
import type { DatastoreRegistry } from '../datastores/registry.js';
import { Fault } from '../errors.js';
import { recoveryEnded } from '../events/happenings.js';
import type { Outbox } from '../events/outbox.js';
import { type Clock, formatInstant } from '../instant.js';
import { type RecoveryPlan, type RecoveryState, type RecoveryTarget, recoverySteps } from '../model.js';
import { checkQuotas, limitsAny, type Quotas, type Usage } from '../quotas.js';
import { RequestScope } from '../requestScope.js';
import type { Assessment, Caller, ProgressEvent, RecoverInput, RecoveryOperations } from '../services.js';
import type { Telemetry } from '../telemetry/telemetry.js';
import { type PlanningOptions, planRecovery } from './planning.js';
import type { ProgressHub } from './progress.js';
import { isFinal } from './runState.js';
import { inOrder } from './steps.js';
import type { TaskManager } from './taskManager.js';

export interface RecoveryServiceOptions extends Omit<PlanningOptions, 'catalog'> {
  catalog: Catalog;
  datastores: DatastoreRegistry;
  tasks: TaskManager;
  hub: ProgressHub;
  quotas: Quotas;
  clock: Clock;
  outbox: Outbox;
  telemetry: Telemetry;
  /** The planner met a damaged object. Never rejects. */
  onFault(fault: Fault): Promise<void>;
}

/** Past recoveries whose pace an estimate stands on. */
const RATES_FROM = 20;

export class RecoveryService implements RecoveryOperations {
  constructor(private readonly options: RecoveryServiceOptions) {}

  async byIds(caller: Caller, ids: readonly string[]): Promise<RecoveryRecord[]> {
    const found = await this.options.catalog.read.recoveriesByIds(ids);
    return found.filter((recovery) => recovery.tenantId === caller.tenantId);
  }

  async list(
    caller: Caller,
    filter: { sourceId: string | null; states: readonly RecoveryState[] | null },
    page: Page,
  ): Promise<RecoveryRecord[]> {
    return this.options.catalog.read.recoveries({ tenantId: caller.tenantId, ...filter }, page);
  }

  async steps(caller: Caller, recoveryIds: readonly string[]): Promise<Map<string, StepRecord[]>> {
    const own = await this.byIds(caller, recoveryIds);
    const all = await this.options.catalog.read.steps(own.map(({ id }) => id));
    return new Map(
      own.map((recovery) => {
        const steps = all.filter(({ recoveryId }) => recoveryId === recovery.id);
        return [recovery.id, inOrder(steps, recovery.plan)];
      }),
    );
  }

  async assess(caller: Caller, instanceId: string, target: RecoveryTarget): Promise<Assessment> {
    const instance = await this.requireInstance(caller, instanceId);
    const { catalog, quotas } = this.options;
    try {
      const plan = await this.plan(instance, target);
      if (limitsAny(quotas)) checkQuotas(quotas, await catalog.read.usage(caller.tenantId), wantedBy(instance));
      return { plan, fault: null };
    } catch (error) {
      if (!(error instanceof Fault) || error.code === 'INTERNAL') throw error;
      return { plan: null, fault: error.toData() };
    }
  }

  async estimateSeconds(caller: Caller, plan: RecoveryPlan): Promise<number | null> {
    const { read } = this.options.catalog;
    const source = await this.requireInstance(caller, plan.instanceId);
    const done = await read.recoveries(
      { tenantId: caller.tenantId, sourceId: null, states: ['SUCCEEDED'] },
      { first: RATES_FROM, after: null },
    );
    const sources = await read.instancesByIds([...new Set(done.map(({ sourceId }) => sourceId))]);
    const datastoreOf = new Map(sources.map(({ id, datastore }) => [id, datastore]));
    let bytes = 0;
    let seconds = 0;
    for (const { sourceId, startedAt, finishedAt, plan: past } of done) {
      if (datastoreOf.get(sourceId) !== source.datastore || startedAt === null || finishedAt === null) continue;
      bytes += past.bytesToFetch;
      seconds += (finishedAt - startedAt) / 1_000_000;
    }
    return bytes > 0 && seconds > 0 ? (plan.bytesToFetch * seconds) / bytes : null;
  }

  async recover(caller: Caller, input: RecoverInput): Promise<RecoveryRecord> {
    const { catalog, clock, tasks, quotas } = this.options;
    const argumentsHash = hashArguments(input);
    const earlier = await this.byKey(caller, input.idempotencyKey, argumentsHash);
    if (earlier) return earlier;
    const source = await this.requireInstance(caller, input.instanceId);
    const plan = await this.plan(source, input.target);
    const now = clock();
    const recovery: RecoveryRecord = {
      id: uuidv7(),
      tenantId: caller.tenantId,
      sourceId: source.id,
      targetId: null,
      targetName: input.name ?? recoveredName(source.name, plan),
      state: 'QUEUED',
      plan,
      recoveredTo: null,
      idempotencyKey: input.idempotencyKey,
      argumentsHash,
      cancelRequested: false,
      error: null,
      progress: {
        sequence: 1,
        step: null,
        percent: 0,
        bytesDone: 0,
        bytesTotal: plan.bytesToFetch,
        replayedTo: null,
        etaSeconds: null,
        message: 'Waiting',
        at: now,
      },
      createdAt: now,
      startedAt: null,
      finishedAt: null,
    };
    const stored = await catalog.write(async (writer) => {
      if (input.idempotencyKey !== null) {
        const twin = await writer.recoveryByIdempotencyKey(caller.tenantId, input.idempotencyKey);
        if (twin) return checkSame(twin, argumentsHash);
      }
      checkQuotas(quotas, await writer.usage(caller.tenantId), wantedBy(source));
      // The plan's lease on its objects begins with this commit; a backup deleted since then is noticed here.
      for (const id of [plan.baseId, ...plan.incrementalIds]) {
        if ((await writer.backup(id))?.state === 'COMPLETED') continue;
        throw new Fault('BACKUP_NOT_FOUND', 'A backup that the plan stands on was deleted meanwhile', {
          hint: 'Ask again: a new plan uses the backups that are there.',
        });
      }
      await writer.insertRecovery(
        recovery,
        recoverySteps.map((name) => ({
          recoveryId: recovery.id,
          name,
          state: 'PENDING',
          attempts: 0,
          startedAt: null,
          finishedAt: null,
          error: null,
          output: null,
        })),
      );
      const asked = RequestScope.current;
      if (asked) {
        const { requestId, traceparent } = asked;
        await writer.insertRecoveryOrigin({ recoveryId: recovery.id, requestId, traceparent });
      }
      return recovery;
    });
    tasks.wake();
    return stored;
  }

  async cancel(caller: Caller, id: string): Promise<RecoveryRecord> {
    const { catalog, tasks, clock, hub, outbox, telemetry } = this.options;
    let endedHere = false;
    let unstuckHere = false;
    await this.requireRecovery(caller, id);
    const after = await catalog.write(async (writer) => {
      const recovery = await writer.recovery(id);
      if (!recovery) throw notFound(id);
      const { state, progress } = recovery;
      if (state === 'CANCELLED' || (state === 'UNWINDING' && recovery.cancelRequested)) return recovery;
      const step = (await writer.steps([id])).find((each) => each.name === 'ACTIVATE');
      if ((isFinal(state) && state !== 'STUCK') || state === 'UNWINDING' || step?.state === 'RUNNING') {
        throw new Fault('NOT_CANCELLABLE', `The recovery can't be cancelled any more: it is ${state}`, {
          hint: state === 'SUCCEEDED' ? 'Delete the new instance if it is not wanted.' : 'Wait for its end.',
        });
      }
      if (state === 'QUEUED') {
        const at = clock();
        const cancelled = { ...progress, sequence: progress.sequence + 1, message: 'Cancelled', at };
        await writer.moveRecovery(id, 'QUEUED', {
          state: 'CANCELLED',
          cancelRequested: true,
          finishedAt: at,
          progress: cancelled,
        });
        await outbox.note(writer, recoveryEnded(recovery, 'CANCELLED', null, at));
        endedHere = true;
      } else if (state === 'STUCK') {
        unstuckHere = await writer.moveRecovery(id, 'STUCK', { state: 'UNWINDING', cancelRequested: true });
      } else {
        await writer.updateRecovery(id, { cancelRequested: true });
      }
      return (await writer.recovery(id)) ?? recovery;
    });
    if (endedHere) telemetry.recoveryEnded('CANCELLED');
    if (after.state === 'CANCELLED') hub.publish({ recoveryId: id, state: after.state, progress: after.progress });
    else if (unstuckHere) tasks.resume(id);
    // An undo that runs already is what the caller wants.
    else if (after.state !== 'UNWINDING') tasks.interrupt(id);
    return after;
  }

  async *watch(caller: Caller, id: string, signal: AbortSignal): AsyncGenerator<ProgressEvent> {
    await this.requireRecovery(caller, id);
    const present = async (): Promise<ProgressEvent> => {
      const { state, progress } = await this.requireRecovery(caller, id);
      return { recoveryId: id, state, progress };
    };
    yield* this.options.hub.watch(id, present, signal);
  }

  private async plan(instance: InstanceRecord, target: RecoveryTarget): Promise<RecoveryPlan> {
    const datastore = this.options.datastores.get(instance.datastore);
    try {
      return await planRecovery(this.options, datastore, instance, target);
    } catch (error) {
      if (error instanceof Fault) await this.options.onFault(error);
      throw error;
    }
  }

  private async byKey(caller: Caller, key: string | null, argumentsHash: string): Promise<RecoveryRecord | null> {
    if (key === null) return null;
    const earlier = await this.options.catalog.read.recoveryByIdempotencyKey(caller.tenantId, key);
    return earlier && checkSame(earlier, argumentsHash);
  }

  private async requireInstance(caller: Caller, id: string): Promise<InstanceRecord> {
    const instance = await this.options.catalog.read.instance(id);
    if (instance?.tenantId === caller.tenantId) return instance;
    throw new Fault('INSTANCE_NOT_FOUND', `There is no instance ${JSON.stringify(id)}`, {
      hint: 'The query instances lists those that you can see.',
    });
  }

  private async requireRecovery(caller: Caller, id: string): Promise<RecoveryRecord> {
    const recovery = await this.options.catalog.read.recovery(id);
    if (recovery?.tenantId === caller.tenantId) return recovery;
    throw notFound(id);
  }
}

/** Counted from the moment of acceptance: the instance itself is only made when the recovery's turn has come. */
function wantedBy(source: InstanceRecord): Partial<Usage> {
  return { recoveries: 1, instances: 1, volumeSizeGiB: source.volumeSizeGiB ?? 0 };
}

/** The same call, whatever the spelling of its instant. */
function hashArguments({ instanceId, target, name }: RecoverInput): string {
  const canonical = JSON.stringify([instanceId, target.pointInTime, target.position, name]);
  return createHash('sha256').update(canonical).digest('hex');
}

function checkSame(earlier: RecoveryRecord, argumentsHash: string): RecoveryRecord {
  if (earlier.argumentsHash === argumentsHash) return earlier;
  throw new Fault('IDEMPOTENCY_CONFLICT', 'This idempotency key was used for a call with other arguments', {
    hint: 'Use a new key for a new recovery.',
    details: { recoveryId: earlier.id },
  });
}

/** `orders` recovered to 14:03:06.9 is called `orders-recovered-20261122T140306Z` unless a name is given. */
function recoveredName(name: string, plan: RecoveryPlan): string {
  const at = plan.target.pointInTime ?? plan.closestPointInTime;
  const suffix = `-recovered-${formatInstant(at).slice(0, 19).replaceAll(/[-:]/g, '')}Z`;
  return `${[...name].slice(0, 255 - suffix.length).join('')}${suffix}`;
}

function notFound(id: string): Fault {
  return new Fault('RECOVERY_NOT_FOUND', `There is no recovery ${JSON.stringify(id)}`, {
    hint: 'The query recoveries lists those that you can see.',
  });
}
