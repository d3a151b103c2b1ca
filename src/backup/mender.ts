/**
 * Sees to it that the growing log of an instance has a full backup to start from: after a gap, after a base or a piece
 * of log was found damaged, and after an end of the service in between, for it looks at what is there, not at what
 * happened.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { CatalogReader, InstanceRecord } from '../catalog/records.js';
import { startingPoints } from './chains.js';

export interface MenderOptions {
  read: CatalogReader;
  logger: Logger;
  /** Ends all waiting. */
  signal: AbortSignal;
  /** Resolves when the backups of an instance that are in line now have ended. */
  queued(instanceId: string): Promise<void>;
  /** Takes a full backup to its end; false where there is none then. */
  take(instance: InstanceRecord): Promise<boolean>;
  /** Waits between two attempts; otherwise only in tests. */
  pause?(milliseconds: number, signal: AbortSignal): Promise<unknown>;
}

/** Twice as long after every attempt, and then always the longest: the new backup may itself meet trouble for hours. */
const RETRY_FIRST_MS = 2_000;
const RETRY_LAST_MS = 10 * 60_000;
/** After so many attempts, some two minutes, a person should look. */
const TOLD_AFTER = 6;

interface Run {
  /** Asked for again since it last looked. */
  again: boolean;
  /** Ends its pause. */
  wake(): void;
  done: Promise<void>;
}

export class Mender {
  private readonly runs = new Map<string, Run>();

  constructor(private readonly options: MenderOptions) {}

  /** Never rejects; calls for one instance share the work. It goes on until there is a base, or none is needed. */
  mend(instanceId: string): Promise<void> {
    const running = this.runs.get(instanceId);
    if (running) {
      running.again = true;
      running.wake();
      return running.done;
    }
    const run: Run = { again: false, wake: () => {}, done: Promise.resolve() };
    run.done = this.untilDone(instanceId, run).finally(() => this.runs.delete(instanceId));
    this.runs.set(instanceId, run);
    return run.done;
  }

  /** Resolves when nothing is being mended. */
  async idle(): Promise<void> {
    await Promise.all([...this.runs.values()].map(({ done }) => done));
  }

  private async untilDone(instanceId: string, run: Run): Promise<void> {
    const { logger, signal, pause = untilAborted } = this.options;
    for (let failed = 0; !signal.aborted; ) {
      run.again = false;
      const attempt = await this.attempt(instanceId).catch((error: unknown) => {
        logger.warn({ instanceId, err: error }, 'no new full backup was taken');
        return 'failed' as const;
      });
      if (attempt === 'needless' && !run.again) return;
      if (attempt !== 'failed') continue;
      const wait = Math.min(RETRY_FIRST_MS * 2 ** failed, RETRY_LAST_MS);
      failed += 1;
      if (failed === TOLD_AFTER) {
        logger.error(
          { instanceId, attempts: failed },
          'no full backup of the growing log can be taken, and without one its end cannot be recovered; it is tried on',
        );
      }
      const woken = new AbortController();
      run.wake = () => woken.abort();
      await pause(wait, AbortSignal.any([signal, woken.signal]));
      // Things have changed, as where a source is back.
      if (woken.signal.aborted) failed = 0;
    }
  }

  private async attempt(instanceId: string): Promise<'needless' | 'taken' | 'failed'> {
    const { read, signal, queued, take } = this.options;
    await queued(instanceId); // It may be what is needed.
    const instance = await read.instance(instanceId);
    if (instance?.state !== 'ACTIVE' || !(await openStretchLacksBase(read, instanceId))) return 'needless';
    if (signal.aborted) return 'needless';
    return (await take(instance)) ? 'taken' : 'failed';
  }
}

async function untilAborted(milliseconds: number, signal: AbortSignal): Promise<void> {
  await delay(milliseconds, undefined, { signal }).catch(() => {});
}

/**
 * True where an instance that had a full backup has none from which its growing log can be replayed to its end: no
 * window reaches the present then. False for an instance of which nobody ever took a backup.
 */
async function openStretchLacksBase(read: CatalogReader, instanceId: string): Promise<boolean> {
  const stretch = await read.newestStretch(instanceId);
  if (!stretch || stretch.endsBecause !== null) return false;
  const points = startingPoints(await read.backupPoints([instanceId]));
  if (points.length === 0) return read.hasLostBackup(instanceId);
  const missing = (await read.gaps([stretch.id])).reduce((end, gap) => Math.max(end, gap.last ?? 0), 0);
  return !points.some((point) => point.stretchId === stretch.id && point.replayAfter >= missing);
}
