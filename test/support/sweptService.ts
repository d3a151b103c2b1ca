/**
 * The service with steps that can be disturbed: before a step or its undo acts, disturb.json beside PITR_HOME is read, a
 * list of Disturbance. Everything else is the service's own wiring.
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { pino } from 'pino';
import { readConfig } from '../../src/config.js';
import { Fault, type FaultCode } from '../../src/errors.js';
import { startService } from '../../src/main.js';
import type { RecoveryStepName } from '../../src/model.js';
import { type RunContext, recoveryRun, type Step } from '../../src/recovery/steps.js';
import { requestFacts } from '../../src/requestScope.js';

export interface Disturbance {
  step: RecoveryStepName;
  act:
    | 'throw before'
    | 'throw after'
    | 'run twice'
    | 'undo twice'
    | 'throw in undo'
    | 'kill before'
    | 'kill after'
    | 'kill before undo'
    | 'kill after undo'
    /** At the step's start, until the list no longer says so or the run is interrupted. */
    | 'hold';
  /** Of what is thrown; a plain Error where it is left out. */
  code?: FaultCode;
}

const HOLD_LIMIT_MS = 60_000;
const file = path.join(process.env.PITR_HOME ?? '', '../disturb.json');

/** The tests put the file there and take it away while this looks. */
function disturbances(): Disturbance[] {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

function disturbed(step: Step): Step {
  const now = (act: Disturbance['act']): Disturbance | undefined => {
    return disturbances().find((each) => each.step === step.name && each.act === act);
  };
  const perhapsThrow = (act: Disturbance['act']): void => {
    const found = now(act);
    if (!found) return;
    const cause = new Error(`injected cause: ${act}`);
    if (!found.code) throw cause;
    throw new Fault(found.code, `injected: ${act}`, { hint: 'Take the disturbance away.', cause });
  };
  const perhapsDie = (act: Disturbance['act']): void => {
    if (now(act)) process.kill(process.pid, 'SIGKILL');
  };
  const perhapsHold = async (context: RunContext): Promise<void> => {
    for (const end = Date.now() + HOLD_LIMIT_MS; now('hold') && Date.now() < end; ) {
      context.signal.throwIfAborted();
      await delay(10);
    }
  };
  return {
    ...step,
    async run(context) {
      perhapsDie('kill before');
      perhapsThrow('throw before');
      await perhapsHold(context);
      if (now('run twice')) await step.run(context);
      const result = await step.run(context);
      perhapsThrow('throw after');
      perhapsDie('kill after');
      return result;
    },
    async undo(context) {
      perhapsDie('kill before undo');
      perhapsThrow('throw in undo');
      if (now('undo twice')) await step.undo(context);
      await step.undo(context);
      perhapsDie('kill after undo');
    },
  };
}

const started = startService(
  readConfig(process.env),
  pino({ level: process.env.LOG_LEVEL ?? 'info', mixin: requestFacts }),
  {
    steps: recoveryRun.map(disturbed),
  },
);
process.once('SIGTERM', () => void started.then((service) => service.stop()).then(() => process.exit(0)));
await started;
