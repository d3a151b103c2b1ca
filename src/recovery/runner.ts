/**
 * Drives one recovery from its stored state to its end: step after step, each recorded before it acts and after; on a
 * fault or a cancel, the undos in reverse. Everything is written so that the process may die at any instruction and the
 * next one goes on from the catalog.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { RecoveryRecord, StepRecord } from '../catalog/records.js';
import { Fault } from '../errors.js';
import type { RecoveryState, RecoveryStepName } from '../model.js';
import { fileFault } from '../storage/fileFaults.js';
import { assertTransition } from './runState.js';
import { clearScratch, type RunContext, type Step, type StepResult } from './steps.js';

/** A fault that may pass is given this many tries in all, a little apart. */
const ATTEMPTS = 3;
const RETRY_AFTER_MS = [500, 2_000];
/** A step that was begun so often over all lives of the service takes the service down with it, or never ends. */
const ATTEMPTS_IN_ALL = 12;

/** The reason with which a run is interrupted; tells a cancel from the service's stop, which undoes nothing. */
export class Cancelled extends Error {}
export class ServiceStopping extends Error {}

export interface Runner {
  steps: readonly Step[];
  context: RunContext;
  logger: Logger;
  /** The bytes that are done when a step begins, so that one that runs again starts from there. */
  bytesBefore(step: RecoveryStepName): number;
  /** A step failed for good; told before that is recorded. Never rejects. */
  onFault(fault: Fault): Promise<void>;
}

/** Runs from wherever the record stands. Resolves when the recovery is final or the service is stopping. */
export async function drive(runner: Runner): Promise<void> {
  const { context } = runner;
  if (context.recovery.state === 'RUNNING') {
    const end = await runForwards(runner);
    if (end === 'done' || end === 'stopping') return;
    const error = end === 'cancelled' ? null : end.toData();
    await move(runner, 'RUNNING', 'UNWINDING', { error }, 'Taking back what was done');
  }
  await unwind(runner);
}

async function runForwards(runner: Runner): Promise<Fault | 'done' | 'stopping' | 'cancelled'> {
  const { context, logger } = runner;
  const { signal } = context;
  const records = await stepRecords(context);
  for (const step of runner.steps) {
    const record = records.get(step.name);
    if (!record) throw new Error(`recovery ${context.recovery.id} has no step ${step.name}`);
    if (record.state === 'SUCCEEDED' || record.state === 'SKIPPED') {
      if (record.output) context.outputs.set(step.name, record.output);
      continue;
    }
    const fault = await attempt(runner, step, record);
    if (!fault) continue;
    if (signal.reason instanceof ServiceStopping) return 'stopping';
    const cancelled = signal.reason instanceof Cancelled || fault.cause instanceof Cancelled;
    if (!cancelled) {
      logger.warn({ recoveryId: context.recovery.id, step: step.name, err: fault }, 'step failed');
      await runner.onFault(fault);
      if (fault.code === 'STORAGE_FULL') await makeRoom(runner);
    }
    const error = cancelled ? null : fault.toData();
    await recordStep(runner, step.name, { state: 'FAILED', finishedAt: context.clock(), error });
    return cancelled ? 'cancelled' : fault;
  }
  return 'done';
}

/**
 * On a full disk neither the fault nor the end of the recovery could be recorded: what is lost anyway goes first. A
 * process that dies in between finds no scratch when it goes on, fails, and unwinds.
 */
async function makeRoom({ context, logger }: Runner): Promise<void> {
  try {
    await clearScratch(context);
  } catch (error) {
    logger.warn({ recoveryId: context.recovery.id, err: error }, 'no room could be made'); // The undo comes again.
  }
}

/** Null when the step succeeded. */
async function attempt(runner: Runner, step: Step, record: StepRecord): Promise<Fault | null> {
  const { context } = runner;
  const { clock, signal, meter } = context;
  if (step.skipped?.(context.recovery)) {
    await recordStep(runner, step.name, { state: 'SKIPPED', finishedAt: clock() });
    return null;
  }
  let attempts = record.attempts;
  if (attempts >= ATTEMPTS_IN_ALL) {
    return new Fault('INTERNAL', `${step.name} was begun ${attempts} times and never came to an end`, {
      hint: 'Look into the service log for what ended it, and start a new recovery then.',
    });
  }
  for (let tried = 1; ; tried += 1) {
    attempts += 1;
    meter.rewindBytes(runner.bytesBefore(step.name));
    try {
      signal.throwIfAborted();
      await recordStep(
        runner,
        step.name,
        { state: 'RUNNING', attempts, startedAt: record.startedAt ?? clock() },
        `${step.name} begins`,
      );
      const result = await step.run(context);
      signal.throwIfAborted();
      await succeed(runner, step, result);
      return null;
    } catch (error) {
      const fault = stepFault(error, step.name, context.places.root);
      if (signal.aborted || !fault.retryable || tried >= ATTEMPTS) return fault;
      await delay(RETRY_AFTER_MS[tried - 1], undefined, { signal }).catch(() => {});
    }
  }
}

/** A full disk is told as what it is, however a driver put it: its scratch is a file like any other. */
function stepFault(thrown: unknown, doing: string, root: string): Fault {
  for (let cause = thrown; cause instanceof Error; cause = cause.cause) {
    if (cause instanceof Fault && cause.code === 'STORAGE_FULL') return cause;
    const fault = fileFault(cause, doing, root);
    if (fault instanceof Fault && fault.code === 'STORAGE_FULL') return fault;
  }
  return Fault.from(fileFault(thrown, doing, root));
}

async function succeed(runner: Runner, step: Step, result: StepResult): Promise<void> {
  const { context } = runner;
  const { recovery, catalog, clock, meter } = context;
  if (result.output) context.outputs.set(step.name, result.output);
  const { activated } = result;
  if (!activated) {
    await recordStep(
      runner,
      step.name,
      { state: 'SUCCEEDED', finishedAt: clock(), output: result.output ?? null },
      `${step.name} is done`,
      result.recoveredTo ? { recoveredTo: result.recoveredTo } : {},
    );
    return;
  }
  // One commit shows the instance and ends the recovery: there is no moment with one and without the other.
  assertTransition(recovery.state, 'SUCCEEDED');
  await meter.settle();
  const finishedAt = clock();
  const progress = meter.next({ percent: 100, bytesDone: recovery.plan.bytesToFetch, message: 'Recovered' });
  progress.etaSeconds = 0;
  await catalog.write(async (writer) => {
    // A cancel that was accepted must win, also when it came in this very moment.
    if ((await writer.recovery(recovery.id))?.cancelRequested) throw new Cancelled('cancelled');
    const moved = await writer.moveRecovery(recovery.id, 'RUNNING', { state: 'SUCCEEDED', finishedAt, progress });
    if (!moved) throw new Error(`recovery ${recovery.id} is not running any more`);
    await writer.updateInstance(recovery.targetId ?? '', activated);
    await writer.updateStep(recovery.id, step.name, { state: 'SUCCEEDED', finishedAt });
    for (const id of [recovery.plan.baseId, ...recovery.plan.incrementalIds]) {
      await writer.updateBackup(id, { verifiedAt: finishedAt });
    }
  });
  recovery.state = 'SUCCEEDED';
  meter.committed('SUCCEEDED', progress);
}

/** Undoes every step that was begun, the last one first. */
async function unwind(runner: Runner): Promise<void> {
  const { context, logger } = runner;
  const { recovery } = context;
  const records = await stepRecords(context);
  for (const step of [...runner.steps].reverse()) {
    const state = records.get(step.name)?.state;
    if (state === undefined || state === 'PENDING' || state === 'SKIPPED' || state === 'UNDONE') continue;
    try {
      await step.undo(context);
      await recordStep(runner, step.name, { state: 'UNDONE', finishedAt: context.clock() });
    } catch (error) {
      if (context.signal.reason instanceof ServiceStopping) return;
      logger.error({ recoveryId: recovery.id, step: step.name, err: error }, 'undo failed');
      const fault = Fault.from(error);
      await recordStep(runner, step.name, { state: 'UNDO_FAILED', error: fault.toData() });
      await move(
        runner,
        'UNWINDING',
        'STUCK',
        { error: fault.toData() },
        `${step.name} could not be taken back; a person has to look`,
      );
      return;
    }
  }
  const end: RecoveryState = recovery.cancelRequested ? 'CANCELLED' : 'FAILED';
  const message = recovery.cancelRequested ? 'Cancelled' : (recovery.error?.message ?? 'Failed');
  await move(runner, 'UNWINDING', end, { finishedAt: context.clock() }, message);
}

async function move(
  runner: Runner,
  from: RecoveryState,
  to: RecoveryState,
  change: Partial<RecoveryRecord>,
  message: string,
): Promise<void> {
  const { recovery, catalog, meter } = runner.context;
  assertTransition(from, to);
  await meter.settle();
  const progress = meter.next({ message });
  await catalog.write(async (writer) => {
    // A cancel may have been asked for since the record was read.
    const current = await writer.recovery(recovery.id);
    if (current) recovery.cancelRequested = current.cancelRequested;
    const moved = await writer.moveRecovery(recovery.id, from, { ...change, state: to, progress });
    if (!moved) throw new Error(`recovery ${recovery.id} is not ${from} any more`);
  });
  Object.assign(recovery, change, { state: to });
  meter.committed(to, progress);
}

async function recordStep(
  runner: Runner,
  name: RecoveryStepName,
  change: Partial<Omit<StepRecord, 'recoveryId' | 'name'>>,
  message?: string,
  alongside: { recoveredTo?: RecoveryRecord['recoveredTo'] } = {},
): Promise<void> {
  const { recovery, catalog, meter } = runner.context;
  await meter.settle();
  const progress = meter.next({ step: name, ...(message ? { message } : {}) });
  await catalog.write(async (writer) => {
    await writer.updateStep(recovery.id, name, change);
    await writer.updateRecovery(recovery.id, { progress, ...alongside });
  });
  Object.assign(recovery, alongside);
  meter.committed(recovery.state, progress);
}

async function stepRecords(context: RunContext): Promise<Map<RecoveryStepName, StepRecord>> {
  const records = await context.catalog.read.steps([context.recovery.id]);
  return new Map(records.map((record) => [record.name, record]));
}
