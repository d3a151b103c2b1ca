/** The table `backups`: one row per backup, kept after its objects are gone. */
import { EntitySchema } from 'typeorm';
import { backupStates, backupTypes, type StoredObject } from '../model.js';
import { fraction, hex256, instantColumn, json, named, nullable, oneOf, primary, text, whole } from './columns.js';
import type { BackupRecord } from './records.js';

/** As the record; the columns of `manifest` are null one by one where the record's is null as a whole. */
export type BackupRow = Omit<BackupRecord, 'manifest'> & {
  manifest: { [column in Exclude<keyof StoredObject, 'blake3'>]: StoredObject[column] | null };
};

const manifestColumns = new EntitySchema<BackupRow['manifest']>({
  name: 'BackupManifest',
  columns: {
    key: nullable(named('manifestKey', text)),
    plainBytes: nullable(named('manifestPlainBytes', whole)),
    storedBytes: nullable(named('manifestStoredBytes', whole)),
    sha256: nullable(named('manifestSha256', text)),
  },
});

/** What a recovery needs of a COMPLETED backup. */
const completed = [
  'stretchId',
  'consistentAt',
  'consistentOrdinal',
  'consistentText',
  'replayAfterOrdinal',
  'manifestKey',
  'manifestPlainBytes',
  'manifestStoredBytes',
  'manifestSha256',
  'completedAt',
];

export const backupEntity = new EntitySchema<BackupRow>({
  name: 'Backup',
  tableName: 'backups',
  columns: {
    id: primary(text),
    instanceId: text,
    type: text,
    state: text,
    percent: fraction,
    parentId: nullable(text),
    madeFromId: nullable(text),
    stretchId: nullable(text),
    consistentAt: nullable(instantColumn),
    consistentOrdinal: nullable(whole),
    consistentText: nullable(text),
    replayAfterOrdinal: nullable(whole),
    sizeBytes: nullable(whole),
    storedBytes: nullable(whole),
    location: nullable(text),
    verifiedAt: nullable(instantColumn),
    error: nullable(json),
    startedAt: instantColumn,
    completedAt: nullable(instantColumn),
  },
  embeddeds: { manifest: { schema: manifestColumns, prefix: false } },
  // What the composite foreign key of a child refers to.
  uniques: [{ name: 'backups_of_instance', columns: ['id', 'instanceId'] }],
  foreignKeys: [
    {
      name: 'fk_backups_instance',
      target: 'Instance',
      columnNames: ['instanceId'],
      referencedColumnNames: ['id'],
    },
    {
      name: 'fk_backups_parent_of_same_instance',
      target: 'Backup',
      columnNames: ['parentId', 'instanceId'],
      referencedColumnNames: ['id', 'instanceId'],
    },
    {
      name: 'fk_backups_made_from_same_instance',
      target: 'Backup',
      columnNames: ['madeFromId', 'instanceId'],
      referencedColumnNames: ['id', 'instanceId'],
    },
    {
      name: 'fk_backups_stretch_of_same_instance',
      target: 'Stretch',
      columnNames: ['stretchId', 'instanceId'],
      referencedColumnNames: ['id', 'instanceId'],
    },
  ],
  checks: [
    { name: 'backups_type', expression: oneOf('type', backupTypes) },
    { name: 'backups_state', expression: oneOf('state', backupStates) },
    { name: 'backups_percent', expression: '"percent" BETWEEN 0 AND 100' },
    { name: 'backups_parent', expression: `("type" = 'FULL') = ("parentId" IS NULL)` },
    { name: 'backups_made_from', expression: `"madeFromId" IS NULL OR "type" = 'FULL'` },
    {
      name: 'backups_completed',
      expression: `"state" <> 'COMPLETED' OR (${completed.map((column) => `"${column}" IS NOT NULL`).join(' AND ')})`,
    },
    { name: 'backups_failed', expression: `"state" <> 'FAILED' OR "error" IS NOT NULL` },
    {
      name: 'backups_ordinals',
      expression: '"replayAfterOrdinal" >= 0 AND "consistentOrdinal" >= "replayAfterOrdinal"',
    },
    { name: 'backups_manifest', expression: hex256('manifestSha256') },
  ],
  indices: [
    { name: 'backups_newest', columns: ['instanceId', 'startedAt', 'id'] },
    { name: 'backups_starting_points', columns: ['instanceId', 'state', 'consistentAt', 'id'] },
    { name: 'backups_by_state', columns: ['state'] },
    { name: 'backups_children', columns: ['parentId'] },
    { name: 'backups_of_stretch', columns: ['stretchId'] },
    { name: 'backups_by_origin', columns: ['madeFromId'] },
  ],
});
