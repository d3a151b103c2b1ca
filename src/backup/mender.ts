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
}

/** The new backup may itself meet trouble; it is tried this often before a person, or the next start, has to look. */
const ATTEMPTS = 6;
/** Twice as long after every attempt. */
const RETRY_MS = 2_000;

interface Run {
  /** Asked for again since it last looked. */
  again: boolean;
  done: Promise<void>;
}

export class Mender {
  private readonly runs = new Map<string, Run>();

  constructor(private readonly options: MenderOptions) {}

  /** Never rejects; calls for one instance share the work. */
  mend(instanceId: string): Promise<void> {
    const running = this.runs.get(instanceId);
    if (running) {
      running.again = true;
      return running.done;
    }
    const run: Run = { again: false, done: Promise.resolve() };
    run.done = this.untilDone(instanceId, run)
      .catch((error: unknown) => this.options.logger.error({ instanceId, err: error }, 'no new full backup was taken'))
      .finally(() => this.runs.delete(instanceId));
    this.runs.set(instanceId, run);
    return run.done;
  }

  /** Resolves when nothing is being mended. */
  async idle(): Promise<void> {
    await Promise.all([...this.runs.values()].map(({ done }) => done));
  }

  private async untilDone(instanceId: string, run: Run): Promise<void> {
    const { read, signal, queued, take } = this.options;
    for (let failed = 0; failed < ATTEMPTS && !signal.aborted; ) {
      run.again = false;
      await queued(instanceId); // It may be what is needed.
      const instance = await read.instance(instanceId);
      if (instance?.state !== 'ACTIVE' || !(await openStretchLacksBase(read, instanceId))) {
        if (run.again) continue;
        return;
      }
      if (signal.aborted) return;
      if (await take(instance)) continue;
      await delay(RETRY_MS * 2 ** failed, undefined, { signal }).catch(() => {});
      failed += 1;
    }
  }
}

/** Backups looked at, newest first, for one that was ever complete. */
const LOOKED_AT = 100;

/**
 * True where an instance that had a full backup has none from which its growing log can be replayed to its end: no
 * window reaches the present then. False for an instance of which nobody ever took a backup.
 */
async function openStretchLacksBase(read: CatalogReader, instanceId: string): Promise<boolean> {
  const stretch = await read.newestStretch(instanceId);
  if (!stretch || stretch.endsBecause !== null) return false;
  const points = startingPoints(await read.backupPoints([instanceId]));
  if (points.length === 0) {
    // One that was found damaged is FAILED and still has its manifest.
    const ended = { instanceId, states: ['FAILED'] as const, before: null };
    return (await read.backups(ended, { first: LOOKED_AT, after: null })).some(({ manifest }) => manifest !== null);
  }
  const missing = (await read.gaps([stretch.id])).reduce((end, gap) => Math.max(end, gap.last ?? 0), 0);
  return !points.some((point) => point.stretchId === stretch.id && point.replayAfter >= missing);
}
