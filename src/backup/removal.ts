/** Takes backups away: what was left half done, and what somebody deletes, unless something stands on it. */
import { rm } from 'node:fs/promises';
import type { BackupRecord, Catalog, CatalogReader } from '../catalog/records.js';
import type { DatastoreRegistry } from '../datastores/registry.js';
import { Fault, type FaultData } from '../errors.js';
import type { Clock } from '../instant.js';
import type { Storage } from '../storage/storage.js';
import { backupPrefix } from './objectKeys.js';

export interface RemovalOptions {
  catalog: Catalog;
  storage: Storage;
  datastores: DatastoreRegistry;
  scratchOf(backupId: string): string;
  clock: Clock;
}

/** A backup that ran when an earlier life of the service ended: nothing of it is left but its record. */
export async function clearInterrupted(options: RemovalOptions, backup: BackupRecord): Promise<void> {
  const { catalog, datastores, scratchOf, clock } = options;
  const scratch = scratchOf(backup.id);
  if (backup.madeFromId !== null) {
    const instance = await catalog.read.instance(backup.instanceId);
    // A server may still be writing there.
    if (instance) await datastores.get(instance.datastore).rollForward?.discard(scratch);
  }
  await removeObjects(options, backup);
  await rm(scratch, { recursive: true, force: true });
  await catalog.write((writer) =>
    writer.updateBackup(backup.id, { state: 'FAILED', error: interrupted(), completedAt: clock() }),
  );
}

/** However the service ended: the same call can succeed. */
export function interrupted(): FaultData {
  const hint = 'Take the backup again.';
  return new Fault('SERVICE_STOPPED', 'The service stopped while the backup ran', { hint }).toData();
}

/** Its windows are gone with the commit that made it DELETING; the bytes go after. */
export async function finishRemoval(options: RemovalOptions, backup: BackupRecord): Promise<void> {
  await removeObjects(options, backup);
  await options.catalog.write((writer) => writer.updateBackup(backup.id, { state: 'DELETED' }));
}

export async function removeObjects({ storage }: Pick<RemovalOptions, 'storage'>, backup: BackupRecord): Promise<void> {
  for await (const { key } of storage.list(backupPrefix(backup.instanceId, backup.id))) await storage.remove(key);
}

/**
 * A running or waiting recovery's plan holds a lease on everything it will read, and so does a backup on its parent and,
 * while it runs, on what it is made of.
 * @throws Fault BACKUP_IN_USE
 */
export async function refuseInUse(read: CatalogReader, { id, instanceId }: BackupRecord): Promise<void> {
  for (const { id: recoveryId, plan } of await read.recoveriesInStates(['QUEUED', 'RUNNING'])) {
    if (plan.baseId !== id && !plan.incrementalIds.includes(id)) continue;
    throw new Fault('BACKUP_IN_USE', `Recovery ${recoveryId} is reading this backup`, {
      hint: 'Delete it when the recovery has ended, or cancel the recovery first.',
      details: { recoveryId },
    });
  }
  const made = (await read.backupsInStates(['RUNNING'])).find(({ madeFromId }) => madeFromId === id);
  if (made) {
    throw new Fault('BACKUP_IN_USE', `Backup ${made.id} is being made of this one`, {
      hint: 'Delete it when that one has ended.',
      details: { backupIds: [made.id] },
    });
  }
  const children = await read.backupsOn(instanceId, id);
  if (children.length === 0) return;
  throw new Fault('BACKUP_IN_USE', `${children.length} other backups stand on this one`, {
    hint: 'Delete those first, the newest one before the others.',
    details: { backupIds: children },
  });
}
