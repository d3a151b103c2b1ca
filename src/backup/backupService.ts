/** Backups: taken in the background, one at a time per instance, listed, and removed when nothing stands on them. */
import { mkdir, rm } from 'node:fs/promises';
import type { Logger } from 'pino';
import { uuidv7 } from 'uuidv7';
import type { BackupRecord, Catalog, CatalogReader, InstanceRecord, Page } from '../catalog/records.js';
import type { BackupFacts } from '../datastores/datastore.js';
import type { DatastoreRegistry } from '../datastores/registry.js';
import { Fault, type FaultData, invalidArgument } from '../errors.js';
import type { Clock, Instant } from '../instant.js';
import type { BackupState, BackupType, InstanceHandle, StoredObject } from '../model.js';
import { checkQuotas, type Quotas } from '../quotas.js';
import { RequestScope } from '../requestScope.js';
import type { BackupOperations, Caller } from '../services.js';
import type { ObjectPipeline } from '../storage/pipeline.js';
import type { Storage } from '../storage/storage.js';
import type { Archiver } from './archiver.js';
import { writeManifest } from './manifest.js';
import { Mender } from './mender.js';
import { backupPrefix } from './objectKeys.js';
import { newestParent, openParent } from './parents.js';

export interface BackupServiceOptions {
  catalog: Catalog;
  storage: Storage;
  pipeline: ObjectPipeline;
  datastores: DatastoreRegistry;
  archiver: Archiver;
  handleOf(instance: InstanceRecord): InstanceHandle;
  scratchOf(backupId: string): string;
  quotas: Quotas;
  clock: Clock;
  logger: Logger;
}

const PERCENT_EVERY_MS = 1_000;

export class BackupService implements BackupOperations {
  private readonly stopping = new AbortController();
  /** The last backup of each instance in line: the next one waits for it. */
  private readonly queues = new Map<string, Promise<void>>();
  private readonly mender: Mender;

  constructor(private readonly options: BackupServiceOptions) {
    this.mender = new Mender({
      read: options.catalog.read,
      logger: options.logger,
      signal: this.stopping.signal,
      queued: async (id) => this.queues.get(id),
      take: (instance) => this.takeByItself(instance),
    });
  }

  /** Clears what an earlier life of the service left half done; what resists is left to the next start. */
  async start(): Promise<void> {
    const { catalog, clock, scratchOf, logger } = this.options;
    const resists = (backup: BackupRecord) => (error: unknown) =>
      logger.error({ backupId: backup.id, err: error }, 'a backup was not cleared away');
    for (const backup of await catalog.read.backupsInStates(['RUNNING'])) {
      const clear = async () => {
        await this.removeObjects(backup);
        await rm(scratchOf(backup.id), { recursive: true, force: true });
        await catalog.write((writer) =>
          writer.updateBackup(backup.id, { state: 'FAILED', error: interrupted(), completedAt: clock() }),
        );
      };
      await clear().catch(resists(backup));
    }
    for (const backup of await catalog.read.backupsInStates(['DELETING'])) {
      await this.finishRemoval(backup).catch(resists(backup));
    }
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
    return this.enqueue(
      instance,
      type,
      await newestParent(this.options.catalog.read, instanceId, type),
      this.options.quotas,
    );
  }

  /** Takes a full backup by itself where the growing log has none to start from; see Mender. Never rejects. */
  mend(instanceId: string): Promise<void> {
    return this.mender.mend(instanceId);
  }

  private async takeByItself(instance: InstanceRecord): Promise<boolean> {
    if (!this.options.archiver.isCapturing(instance.id)) return false;
    const backup = await this.enqueue(instance, 'FULL', null, null); // No quota may prevent it.
    await this.queues.get(instance.id);
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
    await this.finishRemoval(backup);
    return (await this.options.catalog.read.backup(id)) ?? backup;
  }

  async close(): Promise<void> {
    this.stopping.abort(Fault.fromData(interrupted()));
    await this.mender.idle();
    await Promise.all(this.queues.values());
  }

  private async enqueue(
    instance: InstanceRecord,
    type: BackupType,
    parentId: string | null,
    quotas: Quotas | null,
  ): Promise<BackupRecord> {
    const record: BackupRecord = {
      id: uuidv7(),
      instanceId: instance.id,
      type,
      state: 'RUNNING',
      percent: 0,
      parentId,
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
      startedAt: this.options.clock(),
      completedAt: null,
    };
    await this.options.catalog.write(async (writer) => {
      if (quotas) checkQuotas(quotas, await writer.usage(instance.tenantId), { backups: 1 });
      await writer.insertBackup(record);
    });
    const scope = RequestScope.current?.successor() ?? null;
    const run = () => this.run(instance, record).finally(() => scope?.end());
    const turn = (this.queues.get(instance.id) ?? Promise.resolve()).then(() => (scope ? scope.run(run) : run()));
    this.queues.set(instance.id, turn);
    void turn.then(() => {
      if (this.queues.get(instance.id) === turn) this.queues.delete(instance.id);
    });
    return record;
  }

  /** Never rejects: how it ended stands on the backup. */
  private async run(instance: InstanceRecord, backup: BackupRecord): Promise<void> {
    const { catalog, clock, logger, scratchOf } = this.options;
    const { signal } = this.stopping;
    const scratch = scratchOf(backup.id);
    try {
      signal.throwIfAborted();
      await mkdir(scratch, { recursive: true, mode: 0o700 });
      await this.capture(instance, backup, scratch);
      logger.info({ instanceId: instance.id, backupId: backup.id }, 'backup completed');
    } catch (error) {
      const fault = Fault.from(error);
      logger.error({ instanceId: instance.id, backupId: backup.id, err: error }, 'backup failed');
      await this.removeObjects(backup).catch((cause: unknown) => logger.warn({ err: cause }, 'objects left behind'));
      await catalog
        .write((writer) =>
          writer.updateBackup(backup.id, {
            state: 'FAILED',
            error: signal.aborted ? interrupted() : fault.toData(),
            completedAt: clock(),
          }),
        )
        .catch((cause: unknown) => logger.error({ err: cause }, 'the end of a backup was not recorded'));
    } finally {
      await rm(scratch, { recursive: true, force: true }).catch(() => {});
    }
  }

  private async capture(instance: InstanceRecord, backup: BackupRecord, scratch: string): Promise<void> {
    const { catalog, pipeline, storage, datastores, archiver, handleOf, clock } = this.options;
    const { signal } = this.stopping;
    const prefix = backupPrefix(instance.id, backup.id);
    let parts: StoredObject[] = [];
    let reportedMs = performance.now();
    const facts = await datastores.get(instance.datastore).backup(
      {
        instance: handleOf(instance),
        capture: archiver.captureOf(instance.id),
        type: backup.type,
        parent: await openParent({ read: catalog.read, pipeline }, backup, signal),
        scratch,
        signal,
        progress: (done, total) => {
          if (total === null || total <= 0 || performance.now() - reportedMs < PERCENT_EVERY_MS) return;
          reportedMs = performance.now();
          const percent = Math.min(99, (100 * done) / total);
          void catalog.write((writer) => writer.updateBackup(backup.id, { percent })).catch(() => {});
        },
      },
      {
        write: async (content, partBytes) => {
          parts = await pipeline.writeParts(`${prefix}/parts`, content, { partBytes, signal });
        },
      },
    );
    // Whoever sees the backup completed finds its window open. Where the source has gone meanwhile it opens later.
    await archiver.cover(instance.id, facts.consistentAt);
    signal.throwIfAborted();
    const manifest = await writeManifest(pipeline, {
      instanceId: instance.id,
      backupId: backup.id,
      datastore: instance.datastore,
      facts,
      parts,
    });
    await catalog.write(async (writer) => {
      const stretch = await writer.stretchByName(instance.id, facts.consistent.stretch);
      if (!stretch || !covers(stretch, facts)) throw notJoined();
      await writer.updateBackup(backup.id, {
        state: 'COMPLETED',
        percent: 100,
        stretchId: stretch.id,
        consistentAt: facts.consistentAt,
        consistentOrdinal: facts.consistent.ordinal,
        consistentText: facts.consistent.text,
        replayAfterOrdinal: facts.replayAfter.ordinal,
        manifest,
        sizeBytes: facts.sizeBytes,
        storedBytes: parts.reduce((sum, part) => sum + part.storedBytes, manifest.storedBytes),
        location: `${storage.uri}/${prefix}`,
        completedAt: clock(),
      });
    });
  }

  private async finishRemoval(backup: BackupRecord): Promise<void> {
    await this.removeObjects(backup);
    await this.options.catalog.write((writer) => writer.updateBackup(backup.id, { state: 'DELETED' }));
  }

  private async removeObjects(backup: BackupRecord): Promise<void> {
    const { storage } = this.options;
    for await (const { key } of storage.list(backupPrefix(backup.instanceId, backup.id))) await storage.remove(key);
  }

  private async requireInstance(caller: Caller, id: string): Promise<InstanceRecord> {
    const instance = await this.options.catalog.read.instance(id);
    if (instance?.tenantId === caller.tenantId) return instance;
    throw new Fault('INSTANCE_NOT_FOUND', `There is no instance ${JSON.stringify(id)}`, {
      hint: 'The query instances lists those that you can see.',
    });
  }
}

/** The archive holds the log from where the backup needs it to where it is consistent. */
function covers(stretch: { startOrdinal: number; lastOrdinal: number }, facts: BackupFacts): boolean {
  return stretch.startOrdinal <= facts.replayAfter.ordinal && facts.consistent.ordinal <= stretch.lastOrdinal;
}

/** However the service ended: the same call can succeed. */
function interrupted(): FaultData {
  const fault = new Fault('INTERNAL', 'The service stopped while the backup ran', { hint: 'Take the backup again.' });
  return { ...fault.toData(), retryable: true };
}

function notJoined(): Fault {
  return new Fault('DATASTORE_UNAVAILABLE', 'The log that makes the backup consistent is not in the archive', {
    hint: 'The log was interrupted while the backup ran; take it again.',
  });
}

function notFound(id: string): Fault {
  return new Fault('BACKUP_NOT_FOUND', `There is no backup ${JSON.stringify(id)}`, {
    hint: 'The query backups lists those of an instance.',
  });
}

/** A running or waiting recovery's plan holds a lease on everything it will read, and so does a backup on its parent. */
async function refuseInUse(read: CatalogReader, { id, instanceId }: BackupRecord): Promise<void> {
  for (const { id: recoveryId, plan } of await read.recoveriesInStates(['QUEUED', 'RUNNING'])) {
    if (plan.baseId !== id && !plan.incrementalIds.includes(id)) continue;
    throw new Fault('BACKUP_IN_USE', `Recovery ${recoveryId} is reading this backup`, {
      hint: 'Delete it when the recovery has ended, or cancel the recovery first.',
      details: { recoveryId },
    });
  }
  const children = await read.backupsOn(instanceId, id);
  if (children.length === 0) return;
  throw new Fault('BACKUP_IN_USE', `${children.length} other backups stand on this one`, {
    hint: 'Delete those first, the newest one before the others.',
    details: { backupIds: children },
  });
}
