/** What backups are made of, or stand on: chosen when they are asked for, opened when they are made. */
import type { BackupRecord, CatalogReader } from '../catalog/records.js';
import type { ParentBackup, StoredBackup } from '../datastores/datastore.js';
import { Fault } from '../errors.js';
import type { BackupType, StoredObject } from '../model.js';
import { type Archive, archivedLog, type Passed } from './archivedLog.js';
import { type StartingPoint, startingPoints } from './chains.js';
import { openBackup, readManifest } from './manifest.js';

/**
 * The newest backup of the growing log that one of this type can stand on; null for a FULL one.
 * @throws Fault NO_BACKUP
 */
export async function newestParent(read: CatalogReader, instanceId: string, type: BackupType): Promise<string | null> {
  if (type === 'FULL') return null;
  const stretch = await read.newestStretch(instanceId);
  const points = startingPoints(await read.backupPoints([instanceId])).filter(
    (point) => point.stretchId === stretch?.id && (type === 'INCREMENTAL' || point.parent === null),
  );
  const newest = points.reduce<StartingPoint | null>((a, b) => (a && a.replayAfter > b.replayAfter ? a : b), null);
  if (newest) return newest.backupId;
  const message = `There is no backup that ${type === 'INCREMENTAL' ? 'an' : 'a'} ${type} one can stand on`;
  throw new Fault('NO_BACKUP', message, { hint: 'Take a FULL backup first.' });
}

/** The chosen parent with the archived log after it. @throws Fault BACKUP_NOT_FOUND where it has gone since */
export async function openParent(
  archive: Archive,
  { parentId }: BackupRecord,
  signal: AbortSignal,
): Promise<ParentBackup | null> {
  if (parentId === null) return null;
  const { manifest, stretchId } = await stillThere(archive.read, parentId);
  const { facts } = await readManifest(archive.pipeline, manifest, signal);
  const after = facts.replayAfter.ordinal;
  return { facts, log: (last) => archivedLog(archive, stretchId, { after, last }, 'newest-first', signal) };
}

/** A full backup that another is made of. @throws Fault BACKUP_NOT_FOUND where it has gone since */
export async function openFull(
  archive: Archive,
  id: string,
  signal: AbortSignal,
  passed: Passed,
): Promise<StoredBackup> {
  const { manifest } = await stillThere(archive.read, id);
  return openBackup(archive.pipeline, await readManifest(archive.pipeline, manifest, signal), signal, passed);
}

async function stillThere(read: CatalogReader, id: string): Promise<{ manifest: StoredObject; stretchId: string }> {
  const backup = await read.backup(id);
  if (backup?.state === 'COMPLETED' && backup.manifest && backup.stretchId !== null) {
    return { manifest: backup.manifest, stretchId: backup.stretchId };
  }
  throw new Fault('BACKUP_NOT_FOUND', `Backup ${id}, which this one was to stand on, is gone`, {
    hint: 'Take the backup again: it will stand on another one.',
    details: backup ? { instanceId: backup.instanceId } : {},
  });
}
