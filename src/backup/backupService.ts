/** Backups: asked for, made by itself where they are needed, listed, and removed when nothing stands on them. */
import type { BackupRecord, InstanceRecord, Page } from '../catalog/records.js';
import { Fault, invalidArgument } from '../errors.js';
import type { Instant } from '../instant.js';
import type { BackupState, BackupType } from '../model.js';
import type { Quotas } from '../quotas.js';
import type { BackupOperations, Caller } from '../services.js';
import { BackupRuns, type BackupRunsOptions } from './backupRuns.js';
import type { RollPlan } from './making.js';
import { Mender } from './mender.js';
import { newestParent } from './parents.js';
import { clearInterrupted, finishRemoval, interrupted, refuseInUse } from './removal.js';
import { Roller } from './roller.js';

export interface BackupServiceOptions extends BackupRunsOptions {
  quotas: Quotas;
  /** How the archive alone would lead to the latest point that can be recovered. @throws Fault where none can */
  planToEnd(instance: InstanceRecord): Promise<RollPlan>;
  /** Whether full backups are made of older ones by the service itself. */
  rollByItself: boolean;
  /** On the file system of the service's home. */
  freeBytes(): Promise<number>;
}

export class BackupService implements BackupOperations {
  private readonly stopping = new AbortController();
  private readonly runs: BackupRuns;
  private readonly mender: Mender;
  private readonly roller: Roller;

  constructor(private readonly options: BackupServiceOptions) {
    const { signal } = this.stopping;
    const { catalog, logger, datastores, clock, freeBytes } = options;
    this.runs = new BackupRuns(options, signal);
    this.mender = new Mender({
      read: catalog.read,
      logger,
      signal,
      queued: (id) => this.runs.queued(id),
      take: (instance) => this.takeByItself(instance),
    });
    this.roller = new Roller({
      ...{ read: catalog.read, datastores, clock, logger, signal, freeBytes },
      roll: async (instance) => {
        await this.runs.enqueue(instance, await this.planRoll(instance), options.quotas);
        await this.runs.rolled();
      },
    });
  }

  /** Clears what an earlier life of the service left half done; what resists is left to the next start. */
  async start(): Promise<void> {
    const { catalog, logger } = this.options;
    const resists = (backup: BackupRecord) => (error: unknown) =>
      logger.error({ backupId: backup.id, err: error }, 'a backup was not cleared away');
    for (const backup of await catalog.read.backupsInStates(['RUNNING'])) {
      await clearInterrupted(this.options, backup).catch(resists(backup));
    }
    for (const backup of await catalog.read.backupsInStates(['DELETING'])) {
      await finishRemoval(this.options, backup).catch(resists(backup));
    }
    if (this.options.rollByItself) this.roller.start();
  }

  async byIds(caller: Caller, ids: readonly string[]): Promise<BackupRecord[]> {
    const { read } = this.options.catalog;
    const backups = await read.backupsByIds(ids);
    const instances = await read.instancesByIds([...new Set(backups.map((backup) => backup.instanceId))]);
    const own = new Set(instances.filter(({ tenantId }) => tenantId === caller.tenantId).map(({ id }) => id));
    return backups.filter((backup) => own.has(backup.instanceId));
  }

  async list(
    caller: Caller,
    instanceId: string,
    filter: { states: readonly BackupState[]; before: Instant | null },
    page: Page,
  ): Promise<BackupRecord[]> {
    await this.requireInstance(caller, instanceId);
    return this.options.catalog.read.backups({ instanceId, ...filter }, page);
  }

  listAll(caller: Caller, filter: { states: readonly BackupState[] }, page: Page): Promise<BackupRecord[]> {
    return this.options.catalog.read.backupsOfTenant({ tenantId: caller.tenantId, ...filter }, page);
  }

  async startingPoints(
    caller: Caller,
    instanceId: string,
    before: Instant | null,
    page: Page,
  ): Promise<BackupRecord[]> {
    await this.requireInstance(caller, instanceId);
    return this.options.catalog.read.startingPoints({ instanceId, before }, page);
  }

  async take(caller: Caller, instanceId: string, type: BackupType): Promise<BackupRecord> {
    const instance = await this.requireInstance(caller, instanceId);
    if (instance.state === 'DELETED') {
      const hint = 'Recover it with recoverInstance, and take backups of what that makes.';
      throw invalidArgument('instanceId', 'The instance is deleted', hint);
    }
    if (instance.state !== 'ACTIVE') {
      throw new Fault('INSTANCE_NOT_READY', `The instance is ${instance.state}`, {
        hint: 'Backups are taken of instances that are ACTIVE.',
      });
    }
    const datastore = this.options.datastores.get(instance.datastore);
    if (!datastore.backupTypes.includes(type)) {
      const hint = `Take one of: ${datastore.backupTypes.join(', ')}.`;
      throw invalidArgument('type', `${datastore.name} has no ${type} backups here`, hint);
    }
    await this.options.archiver.settled(instanceId);
    this.options.archiver.captureOf(instanceId); // Refuses now what could not be finished later.
    const parentId = await newestParent(this.options.catalog.read, instanceId, type);
    return this.runs.enqueue(instance, { type, parentId }, this.options.quotas);
  }

  /** The database itself may be down, or gone. */
  async takeFromArchive(caller: Caller, instanceId: string): Promise<BackupRecord> {
    const instance = await this.requireInstance(caller, instanceId);
    if (!this.options.datastores.get(instance.datastore).rollForward) {
      const hint = 'Take one of the database itself with takeBackup.';
      throw invalidArgument('instanceId', `${instance.datastore} has no backups that are made of the archive`, hint);
    }
    return this.runs.enqueue(instance, await this.planRoll(instance), this.options.quotas);
  }

  private async planRoll(instance: InstanceRecord): Promise<RollPlan> {
    try {
      return await this.options.planToEnd(instance);
    } catch (error) {
      if (error instanceof Fault) await this.options.onFault(error);
      throw error;
    }
  }

  /** Takes a full backup by itself where the growing log has none to start from; see Mender. Never rejects. */
  mend(instanceId: string): Promise<void> {
    return this.mender.mend(instanceId);
  }

  private async takeByItself(instance: InstanceRecord): Promise<boolean> {
    if (!this.options.archiver.isCapturing(instance.id)) return false;
    const backup = await this.runs.enqueue(instance, { type: 'FULL', parentId: null }, null); // No quota may prevent it.
    await this.runs.queued(instance.id);
    return (await this.options.catalog.read.backup(backup.id))?.state === 'COMPLETED';
  }

  async remove(caller: Caller, id: string): Promise<BackupRecord> {
    const [backup] = await this.byIds(caller, [id]);
    if (!backup) throw notFound(id);
    if (backup.state === 'DELETED') return backup;
    if (backup.state === 'RUNNING') {
      throw new Fault('BACKUP_IN_USE', 'The backup is still running', { hint: 'Delete it when it has ended.' });
    }
    await this.options.catalog.write(async (writer) => {
      await refuseInUse(writer, backup);
      // Its windows are gone with this commit; the bytes go after.
      await writer.updateBackup(id, { state: 'DELETING' });
    });
    await finishRemoval(this.options, backup);
    return (await this.options.catalog.read.backup(id)) ?? backup;
  }

  /** An instance is deleted: what is still being made of it ends, and reads its database no longer. */
  instanceDeleted(instanceId: string): void {
    const hint = 'Its earlier backups and its log stay recoverable.';
    this.runs.end(
      instanceId,
      new Fault('INSTANCE_NOT_FOUND', 'The instance was deleted while the backup ran', { hint }),
    );
  }

  async close(): Promise<void> {
    this.stopping.abort(Fault.fromData(interrupted()));
    await this.mender.idle();
    await this.roller.idle();
    await this.runs.idle();
  }

  private async requireInstance(caller: Caller, id: string): Promise<InstanceRecord> {
    const instance = await this.options.catalog.read.instance(id);
    if (instance?.tenantId === caller.tenantId) return instance;
    throw new Fault('INSTANCE_NOT_FOUND', `There is no instance ${JSON.stringify(id)}`, {
      hint: 'The query instances lists those that you can see.',
    });
  }
}

function notFound(id: string): Fault {
  return new Fault('BACKUP_NOT_FOUND', `There is no backup ${JSON.stringify(id)}`, {
    hint: 'The query backups lists those of an instance.',
  });
}
