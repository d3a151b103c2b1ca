/**
 * Makes backups in the background, each to its end: those of a database one at a time per instance, those that are made
 * of older ones one at a time in all, so that a long one of these keeps nobody from a backup of the database.
 */
import { mkdir, rm } from 'node:fs/promises';
import type { Logger } from 'pino';
import { uuidv7 } from 'uuidv7';
import type { BackupRecord, InstanceRecord } from '../catalog/records.js';
import { Fault, logLevelOf } from '../errors.js';
import type { Instant } from '../instant.js';
import type { BackupType } from '../model.js';
import { checkQuotas, type Quotas } from '../quotas.js';
import { RequestScope } from '../requestScope.js';
import { Making, type MakingOptions, type RollPlan } from './making.js';
import { removeObjects } from './removal.js';

export interface BackupRunsOptions extends MakingOptions {
  scratchOf(backupId: string): string;
  logger: Logger;
  /** A backup failed; told before that is recorded, so that damage which others must not meet is known by then. Never rejects. */
  onFault(fault: Fault): Promise<void>;
}

export type Wanted = { type: BackupType; parentId: string | null } | RollPlan;

/** No instance's id. */
const ROLLED = '';

export class BackupRuns {
  /** The last backup in line of each instance, and of those made of others: the next one waits for it. */
  private readonly queues = new Map<string, Promise<void>>();
  /** What ends each backup that runs or waits, and its line. */
  private readonly endings = new Map<AbortController, string>();

  /** @param signal ends what runs; its reason is a Fault */
  constructor(
    private readonly options: BackupRunsOptions,
    private readonly signal: AbortSignal,
  ) {}

  /** @param quotas null where none may prevent it @throws Fault QUOTA_EXCEEDED */
  async enqueue(instance: InstanceRecord, wanted: Wanted, quotas: Quotas | null): Promise<BackupRecord> {
    const roll = 'plan' in wanted ? wanted : null;
    const record = newRecord(instance.id, wanted, this.options.clock());
    await this.options.catalog.write(async (writer) => {
      if (quotas) checkQuotas(quotas, await writer.usage(instance.tenantId), { backups: 1 });
      await writer.insertBackup(record);
    });
    const scope = RequestScope.current?.successor() ?? null;
    const queue = roll ? ROLLED : instance.id;
    const ending = new AbortController();
    this.endings.set(ending, queue);
    const run = async () => {
      await this.run(instance, record, roll, AbortSignal.any([this.signal, ending.signal]));
      this.endings.delete(ending);
      scope?.end();
    };
    const turn = (this.queues.get(queue) ?? Promise.resolve()).then(() => (scope ? scope.run(run) : run()));
    this.queues.set(queue, turn);
    void turn.then(() => {
      if (this.queues.get(queue) === turn) this.queues.delete(queue);
    });
    return record;
  }

  /** Ends the backups of an instance's database, one that waits as soon as its turn comes: FAILED with this fault. */
  end(instanceId: string, why: Fault): void {
    for (const [ending, queue] of this.endings) if (queue === instanceId) ending.abort(why);
  }

  /** Resolves when the backups of an instance's database that are in line now have ended. */
  async queued(instanceId: string): Promise<void> {
    await this.queues.get(instanceId);
  }

  /** The same for those that are made of others. */
  async rolled(): Promise<void> {
    await this.queues.get(ROLLED);
  }

  async idle(): Promise<void> {
    await Promise.all(this.queues.values());
  }

  /** Never rejects: how it ended stands on the backup. */
  private async run(
    instance: InstanceRecord,
    backup: BackupRecord,
    roll: RollPlan | null,
    signal: AbortSignal,
  ): Promise<void> {
    const { catalog, clock, logger, scratchOf, onFault } = this.options;
    try {
      await this.make(instance, backup, roll, signal).finally(() =>
        rm(scratchOf(backup.id), { recursive: true, force: true }).catch((cause: unknown) =>
          logger.warn({ backupId: backup.id, err: cause }, 'scratch left behind'),
        ),
      );
      logger.info({ instanceId: instance.id, backupId: backup.id }, 'backup completed');
    } catch (error) {
      const fault = Fault.from(signal.aborted ? signal.reason : error);
      if (signal.aborted) {
        logger.info({ instanceId: instance.id, backupId: backup.id, why: fault.message }, 'backup was ended');
      } else {
        logger[logLevelOf(fault.code)]({ instanceId: instance.id, backupId: backup.id, err: error }, 'backup failed');
        await onFault(fault);
      }
      await removeObjects(this.options, backup).catch((cause: unknown) =>
        logger.warn({ err: cause }, 'objects left behind'),
      );
      await catalog
        .write((writer) =>
          writer.updateBackup(backup.id, { state: 'FAILED', error: fault.toData(), completedAt: clock() }),
        )
        .catch((cause: unknown) => logger.error({ err: cause }, 'the end of a backup was not recorded'));
    }
  }

  private async make(
    instance: InstanceRecord,
    backup: BackupRecord,
    roll: RollPlan | null,
    signal: AbortSignal,
  ): Promise<void> {
    signal.throwIfAborted();
    const scratch = this.options.scratchOf(backup.id);
    await mkdir(scratch, { recursive: true, mode: 0o700 });
    const making = new Making(this.options, { instance, backup, scratch, signal });
    await (roll ? making.rollForward(roll) : making.take());
  }
}

function newRecord(instanceId: string, wanted: Wanted, startedAt: Instant): BackupRecord {
  const made =
    'plan' in wanted
      ? { type: 'FULL' as const, parentId: null, madeFromId: wanted.plan.baseId }
      : { ...wanted, madeFromId: null };
  return {
    id: uuidv7(),
    instanceId,
    ...made,
    state: 'RUNNING',
    percent: 0,
    stretchId: null,
    consistentAt: null,
    consistentOrdinal: null,
    consistentText: null,
    replayAfterOrdinal: null,
    manifest: null,
    sizeBytes: null,
    storedBytes: null,
    location: null,
    verifiedAt: null,
    error: null,
    startedAt,
    completedAt: null,
  };
}
