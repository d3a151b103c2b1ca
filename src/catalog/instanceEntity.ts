/** The table `instances`: one row per instance, for ever; a deleted one keeps its row and loses its credentials. */
import { EntitySchema } from 'typeorm';
import { instanceOrigins, instanceStates } from '../model.js';
import { flag, instantColumn, json, nullable, oneOf, primary, text, whole } from './columns.js';
import type { InstanceRecord } from './records.js';

/** As the record, but `connectionUri` is sealed (seal.ts). */
export const instanceEntity = new EntitySchema<InstanceRecord>({
  name: 'Instance',
  tableName: 'instances',
  columns: {
    id: primary(text),
    tenantId: text,
    name: text,
    origin: text,
    datastore: text,
    datastoreVersion: text,
    flavor: nullable(text),
    volumeSizeGiB: nullable(whole),
    state: text,
    endpoint: nullable(text),
    connectionUri: nullable(text),
    identity: nullable(text),
    driverState: json,
    notices: json,
    recoveredFromId: nullable(text),
    createdByRecoveryId: nullable(text),
    archiveHealthy: flag,
    archiveMessage: nullable(text),
    createdAt: instantColumn,
    deletedAt: nullable(instantColumn),
  },
  foreignKeys: [
    {
      name: 'fk_instances_recovered_from',
      target: 'Instance',
      columnNames: ['recoveredFromId'],
      referencedColumnNames: ['id'],
    },
    {
      name: 'fk_instances_created_by_recovery',
      target: 'Recovery',
      columnNames: ['createdByRecoveryId'],
      referencedColumnNames: ['id'],
    },
  ],
  checks: [
    { name: 'instances_origin', expression: oneOf('origin', instanceOrigins) },
    { name: 'instances_state', expression: oneOf('state', instanceStates) },
    { name: 'instances_volume', expression: '"volumeSizeGiB" > 0' },
    {
      name: 'instances_active',
      expression: `"state" <> 'ACTIVE' OR ("connectionUri" IS NOT NULL AND "identity" IS NOT NULL)`,
    },
    { name: 'instances_deleted', expression: `("state" = 'DELETED') = ("deletedAt" IS NOT NULL)` },
    // A sealed text begins with its version (seal.ts): a readable URI cannot be stored by mistake.
    { name: 'instances_sealed', expression: `"connectionUri" LIKE 'v1.%'` },
    { name: 'instances_recovered', expression: `"origin" <> 'RECOVERED' OR "recoveredFromId" IS NOT NULL` },
  ],
  indices: [
    {
      name: 'instances_identity',
      columns: ['datastore', 'identity'],
      unique: true,
      where: '"deletedAt" IS NULL',
    },
    { name: 'instances_newest', columns: ['tenantId', 'createdAt', 'id'] },
    { name: 'instances_by_state', columns: ['state'] },
  ],
});
