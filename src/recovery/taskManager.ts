/** Claims waiting recoveries, a bounded number at a time, takes up interrupted ones, and stops them all cleanly. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { Catalog, CatalogReader, RecoveryRecord } from '../catalog/records.js';
import type { DatastoreRegistry } from '../datastores/registry.js';
import { Fault } from '../errors.js';
import type { Outbox } from '../events/outbox.js';
import type { Places } from '../instances/places.js';
import type { Clock } from '../instant.js';
import type { RecoveryPlan, RecoveryStepName } from '../model.js';
import { RequestScope } from '../requestScope.js';
import type { ObjectPipeline } from '../storage/pipeline.js';
import type { Telemetry, WatchedRecovery } from '../telemetry/telemetry.js';
import { type ProgressHub, ProgressMeter } from './progress.js';
import { Cancelled, drive, ServiceStopping } from './runner.js';
import { assertTransition, isFinal } from './runState.js';
import { inOrder, type RunContext, recoveryRun, type Step } from './steps.js';

export interface TaskManagerOptions {
  catalog: Catalog;
  datastores: DatastoreRegistry;
  pipeline: ObjectPipeline;
  places: Places;
  hub: ProgressHub;
  clock: Clock;
  logger: Logger;
  outbox: Outbox;
  telemetry: Telemetry;
  /** Recoveries that run at the same time; at least 1. */
  concurrency: number;
  /** The declared steps; others only where a test makes them fail. */
  steps?: readonly Step[];
  /** The new instance is committed as ACTIVE: its own capture begins. */
  onActivated(instanceId: string): Promise<void>;
  /** A step failed for good; told before that is recorded. Never rejects. */
  onFault(fault: Fault): Promise<void>;
}

/** A recovery whose course cannot be recorded (a full disk, a broken catalog) is taken up again after this long. */
const AGAIN_FIRST_MS = 1_000;
const AGAIN_LAST_MS = 30_000;

interface Run {
  abort: AbortController;
  ended: Promise<void>;
}

export class TaskManager {
  private readonly running = new Map<string, Run>();
  private readonly stopping = new AbortController();
  private claiming: Promise<void> = Promise.resolve();

  constructor(private readonly options: TaskManagerOptions) {}

  /** Goes on with what an earlier life of the service was doing, then with what waits. */
  async start(): Promise<void> {
    for (const recovery of await this.options.catalog.read.recoveriesInStates(['RUNNING', 'UNWINDING'])) {
      this.launch(recovery);
    }
    this.wake();
  }

  /** Something may be waiting. */
  wake(): void {
    this.claiming = this.claiming
      .then(() => this.claim())
      .catch((error: unknown) => {
        this.options.logger.error({ err: error }, 'could not claim a recovery');
        if (!this.stopping.signal.aborted) setTimeout(() => this.wake(), AGAIN_FIRST_MS).unref();
      });
  }

  /** Interrupts a run in this process so that it unwinds; false where it does not run here. */
  interrupt(recoveryId: string): boolean {
    const run = this.running.get(recoveryId);
    run?.abort.abort(new Cancelled('cancelled'));
    return run !== undefined;
  }

  /** Tries the undo of a recovery again that was STUCK; it is already UNWINDING in the catalog. */
  resume(recoveryId: string): void {
    this.unwindAgain(recoveryId).catch((error: unknown) => {
      this.options.logger.error({ recoveryId, err: error }, 'could not take up a stuck recovery');
      if (!this.stopping.signal.aborted) setTimeout(() => this.resume(recoveryId), AGAIN_FIRST_MS).unref();
    });
  }

  /** Interrupts everything without undoing it: the next start goes on. */
  async stop(): Promise<void> {
    this.stopping.abort();
    await this.claiming;
    for (const { abort } of this.running.values()) abort.abort(new ServiceStopping('the service is stopping'));
    await Promise.all([...this.running.values()].map(({ ended }) => ended));
  }

  private async claim(): Promise<void> {
    const { catalog, clock, concurrency } = this.options;
    while (!this.stopping.signal.aborted && this.running.size < concurrency) {
      const [next] = await catalog.read.recoveriesInStates(['QUEUED'], 1);
      if (!next) return;
      assertTransition(next.state, 'RUNNING');
      const startedAt = clock();
      const claimed = await catalog.write((writer) =>
        writer.moveRecovery(next.id, 'QUEUED', { state: 'RUNNING', startedAt }),
      );
      if (claimed) this.launch({ ...next, state: 'RUNNING', startedAt });
    }
  }

  private async unwindAgain(recoveryId: string): Promise<void> {
    // The run that got stuck may not have left yet.
    await this.running.get(recoveryId)?.ended;
    const recovery = await this.options.catalog.read.recovery(recoveryId);
    // What it was when somebody asked is no more than a reason to look.
    if (recovery?.state !== 'UNWINDING' || this.running.has(recoveryId) || this.stopping.signal.aborted) return;
    this.launch(recovery);
  }

  private launch(recovery: RecoveryRecord): void {
    const abort = new AbortController();
    const ended = this.untilEnded(recovery, abort.signal).finally(() => {
      this.running.delete(recovery.id);
      this.wake();
    });
    this.running.set(recovery.id, { abort, ended });
    if (recovery.cancelRequested && recovery.state === 'RUNNING') abort.abort(new Cancelled('cancelled'));
  }

  /** Never rejects: what can't be recorded now is tried again until the service stops. */
  private async untilEnded(recovery: RecoveryRecord, signal: AbortSignal): Promise<void> {
    const { catalog, logger } = this.options;
    let current: RecoveryRecord | null = recovery;
    for (let wait = AGAIN_FIRST_MS; current; wait = Math.min(wait * 2, AGAIN_LAST_MS)) {
      try {
        await this.followed(current, signal);
        return;
      } catch (error) {
        const { aborted } = this.stopping.signal;
        logger.error(
          { recoveryId: recovery.id, err: error, wait: aborted ? null : wait },
          `recovery interrupted; it goes on ${aborted ? 'at the next start' : 'in a moment'}`,
        );
      }
      await delay(wait, undefined, { signal: this.stopping.signal }).catch(() => {});
      if (this.stopping.signal.aborted) return;
      current = await catalog.read.recovery(recovery.id).catch(() => current);
      if (current && isFinal(current.state)) return;
    }
  }

  /** Under the id, and in the trace, of the request that asked for it, in whichever life of the service that was. */
  private async followed(recovery: RecoveryRecord, signal: AbortSignal): Promise<void> {
    const { catalog, telemetry } = this.options;
    const origin = await catalog.read.recoveryOrigin(recovery.id);
    const watched = telemetry.recovery(recovery, origin);
    // Without an origin it has a scope all the same: its own work is not that of the request that happened to wake it.
    const scope = new RequestScope(origin?.requestId ?? recovery.id, watched.traceparent);
    try {
      await scope.run(() => this.execute(recovery, signal, watched));
    } finally {
      watched.end(recovery.state, recovery.error?.code ?? null);
      scope.end();
    }
  }

  private async execute(recovery: RecoveryRecord, signal: AbortSignal, watched: WatchedRecovery): Promise<void> {
    const { catalog, datastores, pipeline, places, hub, clock, logger, outbox, onActivated, onFault } = this.options;
    const source = await catalog.read.instance(recovery.sourceId);
    if (!source) throw new Fault('INTERNAL', `recovery ${recovery.id} has no source`);
    const meter = new ProgressMeter({
      recoveryId: recovery.id,
      from: recovery.progress,
      bytesTotal: recovery.plan.bytesToFetch,
      clock,
      hub,
      store: (progress) => catalog.write((writer) => writer.updateRecovery(recovery.id, { progress })),
    });
    const context: RunContext = {
      recovery,
      source,
      datastore: datastores.get(source.datastore),
      catalog,
      pipeline,
      places,
      clock,
      meter,
      signal,
      outputs: new Map(),
    };
    const steps = inOrder(this.options.steps ?? recoveryRun, recovery.plan);
    const bytes = await bytesOfSteps(catalog.read, recovery.plan);
    const before = (step: RecoveryStepName) =>
      steps.slice(
        0,
        steps.findIndex(({ name }) => name === step),
      );
    await drive({
      steps,
      context,
      logger,
      outbox,
      watched,
      onFault,
      bytesBefore: (step) => before(step).reduce((sum, { name }) => sum + (bytes.get(name) ?? 0), 0),
    });
    logger.info({ recoveryId: recovery.id, state: recovery.state }, 'recovery ended');
    const { state, targetId } = recovery;
    if (state !== 'SUCCEEDED' || targetId === null) return;
    await onActivated(targetId).catch((error: unknown) => {
      logger.error({ instanceId: targetId, err: error }, 'capture of the new instance did not start');
    });
  }
}

/** The stored bytes that each step reads. */
async function bytesOfSteps(read: CatalogReader, plan: RecoveryPlan): Promise<Map<RecoveryStepName, number>> {
  const backups = await read.backupsByIds([plan.baseId, ...plan.incrementalIds]);
  const stored = (wanted: (id: string) => boolean) =>
    backups.reduce((sum, { id, storedBytes }) => sum + (wanted(id) ? (storedBytes ?? 0) : 0), 0);
  const base = stored((id) => id === plan.baseId);
  const incrementals = stored((id) => id !== plan.baseId);
  return new Map([
    ['RESTORE_BASE', base],
    ['APPLY_INCREMENTALS', incrementals],
    ['REPLAY_LOG', plan.bytesToFetch - base - incrementals],
  ]);
}
