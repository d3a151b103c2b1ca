/** Reads and changes of backups. */
import { type EntityManager, In, IsNull, Not } from 'typeorm';
import type { Instant } from '../instant.js';
import { type BackupType, backupStates, type StoredObject } from '../model.js';
import { type BackupRow, backupEntity } from './backupEntity.js';
import { changeRow, insertRows } from './changeRows.js';
import { wholeNumber } from './columns.js';
import { newestFirst } from './pages.js';
import type { BackupPoint, BackupRecord, CatalogReader, CatalogWriter } from './records.js';
import { ask } from './statements.js';

type BackupReads = Pick<
  CatalogReader,
  | 'backup'
  | 'backupsByIds'
  | 'backups'
  | 'backupsOfTenant'
  | 'startingPoints'
  | 'backupPoints'
  | 'backupsOn'
  | 'backupsInStates'
  | 'hasLostBackup'
  | 'newestMadeOfAnother'
>;
type BackupChanges = Pick<CatalogWriter, 'insertBackup' | 'updateBackup'>;

const pointsStatement = `SELECT json_group_array(json_array("id", "instanceId", "type", "parentId", "stretchId", "consistentAt",
    "consistentOrdinal", "replayAfterOrdinal", "storedBytes")) AS "points"
  FROM "backups" WHERE "instanceId" IN (:...instanceIds) AND "state" = 'COMPLETED'`;
/** As the statement names them; the table has no COMPLETED backup without them. */
type PointValues = [string, string, BackupType, string | null, string, number, number, number, number | null];

const NO_MANIFEST: BackupRow['manifest'] = { key: null, plainBytes: null, storedBytes: null, sha256: null };

export function backupReads(manager: EntityManager): BackupReads {
  const backups = manager.getRepository(backupEntity);

  return {
    async backup(id) {
      const row = await backups.findOneBy({ id });
      return row && toRecord(row);
    },

    async backupsByIds(ids) {
      return (await backups.findBy({ id: In(ids) })).map(toRecord);
    },

    async backups({ instanceId, states, before }, page) {
      const query = backups.createQueryBuilder('backup').where({ instanceId, state: In(states) });
      if (before !== null) query.andWhere('backup.consistentAt <= :before', { before });
      return (await newestFirst(query, 'startedAt', ['instanceId', instanceId], page)).map(toRecord);
    },

    async backupsOfTenant({ tenantId, states }, page) {
      // TypeORM takes a limit of 0 for none.
      if (page.first < 1) return [];
      // Along the primary key, a page at a time: written so that no index on states or owners looks better, for with
      // those every backup of the tenant would be fetched and sorted.
      const query = backups
        .createQueryBuilder('backup')
        .where({ state: Not(In(backupStates.filter((state) => !states.includes(state)))) })
        .andWhere('(SELECT "tenantId" FROM "instances" WHERE "id" = "backup"."instanceId") = :tenantId', { tenantId });
      if (page.after !== null) query.andWhere('backup.id < :after', { after: page.after });
      return (await query.orderBy('backup.id', 'DESC').limit(page.first).getMany()).map(toRecord);
    },

    async startingPoints({ instanceId, before }, page) {
      const query = backups.createQueryBuilder('backup').where({ instanceId, state: 'COMPLETED' });
      if (before !== null) query.andWhere('backup.consistentAt <= :before', { before });
      return (await newestFirst(query, 'consistentAt', ['instanceId', instanceId], page)).map(toRecord);
    },

    async backupPoints(instanceIds) {
      // One value instead of a row per backup: sqlite3 takes 14 µs to hand over each, and TypeORM as much to fill an entity.
      const [found] = await ask<{ points: string }>(manager, pointsStatement, { instanceIds });
      return (JSON.parse(found?.points ?? '[]') as PointValues[]).map(toPoint);
    },

    async backupsOn(instanceId, parentId) {
      const rows = await backups.find({
        select: { id: true },
        where: { parentId, instanceId, state: In(['RUNNING', 'COMPLETED']) },
        order: { id: 'ASC' },
      });
      return rows.map(({ id }) => id);
    },

    async backupsInStates(states) {
      const rows = await backups.find({ where: { state: In(states) }, order: { startedAt: 'ASC', id: 'ASC' } });
      return rows.map(toRecord);
    },

    // Only one that was complete has a manifest.
    hasLostBackup: (instanceId) => backups.existsBy({ instanceId, state: 'FAILED', manifest: { key: Not(IsNull()) } }),

    async newestMadeOfAnother(instanceId) {
      const row = await backups.findOne({
        where: { instanceId, madeFromId: Not(IsNull()) },
        order: { startedAt: 'DESC', id: 'DESC' },
      });
      return row && toRecord(row);
    },
  };
}

export function backupChanges(manager: EntityManager): BackupChanges {
  return {
    async insertBackup(record) {
      await insertRows(manager, backupEntity, [{ ...record, manifest: toColumns(record.manifest) }]);
    },

    async updateBackup(id, { manifest, ...change }) {
      const row: Partial<BackupRow> = change;
      if (manifest !== undefined) row.manifest = toColumns(manifest);
      await changeRow(manager, backupEntity, { id }, row);
    },
  };
}

/** A manifest is small, and whoever asks the API for a backup's hash gets that which proves it: the SHA-256 alone. */
function toColumns(manifest: StoredObject | null): BackupRow['manifest'] {
  if (!manifest) return NO_MANIFEST;
  const { key, plainBytes, storedBytes, sha256 } = manifest;
  return { key, plainBytes, storedBytes, sha256 };
}

function toPoint([
  id,
  instanceId,
  type,
  parentId,
  stretchId,
  at,
  consistent,
  after,
  storedBytes,
]: PointValues): BackupPoint {
  return {
    backupId: id,
    instanceId,
    type,
    parentId,
    stretchId,
    consistentAt: wholeNumber(at) as Instant,
    consistentOrdinal: wholeNumber(consistent),
    replayAfter: wholeNumber(after),
    storedBytes: wholeNumber(storedBytes ?? 0),
  };
}

function toRecord(row: BackupRow): BackupRecord {
  // The four columns are null together; the table allows nothing else where it matters, in a COMPLETED backup.
  return { ...row, manifest: row.manifest.key === null ? null : (row.manifest as StoredObject) };
}
