/**
 * Sees to it that recoveries have not much more log to replay than a base to restore: looks at all instances now and
 * then, and has full backups made of older ones and the archive, one at a time, while nothing is being recovered.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { CatalogReader, InstanceRecord } from '../catalog/records.js';
import type { DatastoreRegistry } from '../datastores/registry.js';
import type { Clock } from '../instant.js';
import { startingPoints } from './chains.js';
import { type RollFacts, rollVerdict } from './rollForwardDue.js';

export interface RollerOptions {
  read: CatalogReader;
  datastores: DatastoreRegistry;
  clock: Clock;
  logger: Logger;
  signal: AbortSignal;
  freeBytes(): Promise<number>;
  /** Makes one to its end, whatever that is. */
  roll(instance: InstanceRecord): Promise<void>;
}

const LOOK_EVERY_MS = 10 * 60_000;

export class Roller {
  private running: Promise<void> = Promise.resolve();

  constructor(private readonly options: RollerOptions) {}

  /** Looks at once and from then on until the signal ends it. */
  start(): void {
    this.running = this.run();
  }

  /** Resolves when nothing is looked at any more; the signal has to have ended it. */
  async idle(): Promise<void> {
    await this.running;
  }

  private async run(): Promise<void> {
    const { signal, logger } = this.options;
    while (!signal.aborted) {
      await this.look().catch((error: unknown) => logger.warn({ err: error }, 'instances were not looked at'));
      await delay(LOOK_EVERY_MS, undefined, { signal, ref: false }).catch(() => {});
    }
  }

  private async look(): Promise<void> {
    const { read, datastores, logger, signal, roll } = this.options;
    for (const instance of await read.instancesInStates(['ACTIVE'])) {
      if (signal.aborted || (await read.recoveriesInStates(['QUEUED', 'RUNNING'], 1)).length > 0) return;
      if (!datastores.get(instance.datastore).rollForward) continue;
      const facts = await this.factsOf(instance.id);
      const verdict = facts && rollVerdict(facts);
      if (verdict === 'no room') {
        logger.warn({ instanceId: instance.id, ...facts }, 'there is no room to make a full backup of the archive');
      }
      if (verdict !== 'due') continue;
      logger.info({ instanceId: instance.id, ...facts }, 'a full backup is made of the archive');
      await roll(instance).catch((error: unknown) =>
        logger.warn({ instanceId: instance.id, err: error }, 'no full backup was made of the archive'),
      );
    }
  }

  /** Null where the growing log has no full backup. */
  private async factsOf(instanceId: string): Promise<RollFacts | null> {
    const { read, clock, freeBytes } = this.options;
    const stretch = await read.newestStretch(instanceId);
    const newest = startingPoints(await read.backupPoints([instanceId]))
      .filter((point) => point.parent === null && point.stretchId === stretch?.id)
      .reduce<{ backupId: string; replayAfter: number } | null>(
        (a, b) => (a && a.replayAfter > b.replayAfter ? a : b),
        null,
      );
    const backup = newest && (await read.backup(newest.backupId));
    if (!stretch || !backup) return null;
    const log = await read.segmentTotals(stretch.id, { after: newest.replayAfter, last: stretch.lastOrdinal });
    return {
      backupBytes: backup.sizeBytes ?? 0,
      logBytes: log.plainBytes,
      lastBegunAt: (await read.newestMadeOfAnother(instanceId))?.startedAt ?? null,
      now: clock(),
      freeBytes: await freeBytes(),
    };
  }
}
