/** The table `recoveries`: one row per recovery, for ever, with the plan it was accepted with. */
import { EntitySchema } from 'typeorm';
import { recoveryStates, recoverySteps } from '../model.js';
import { flag, fraction, instantColumn, json, named, nullable, oneOf, primary, text, whole } from './columns.js';
import type { ProgressRecord, RecoveryRecord } from './records.js';

const progressColumns = new EntitySchema<ProgressRecord>({
  name: 'RecoveryProgress',
  columns: {
    sequence: named('progressSequence', whole),
    step: nullable(named('progressStep', text)),
    percent: named('progressPercent', fraction),
    bytesDone: named('progressBytesDone', whole),
    bytesTotal: nullable(named('progressBytesTotal', whole)),
    replayedTo: nullable(named('progressReplayedTo', instantColumn)),
    etaSeconds: nullable(named('progressEtaSeconds', fraction)),
    message: nullable(named('progressMessage', text)),
    at: named('progressAt', instantColumn),
  },
});

export const recoveryEntity = new EntitySchema<RecoveryRecord>({
  name: 'Recovery',
  tableName: 'recoveries',
  columns: {
    id: primary(text),
    tenantId: text,
    sourceId: text,
    targetId: nullable(text),
    targetName: text,
    state: text,
    plan: json,
    recoveredTo: nullable(json),
    idempotencyKey: nullable(text),
    argumentsHash: text,
    cancelRequested: flag,
    error: nullable(json),
    createdAt: instantColumn,
    startedAt: nullable(instantColumn),
    finishedAt: nullable(instantColumn),
  },
  embeddeds: { progress: { schema: progressColumns, prefix: false } },
  // A null key is equal to no other one, in SQLite as in PostgreSQL.
  uniques: [{ name: 'recoveries_idempotency_key', columns: ['tenantId', 'idempotencyKey'] }],
  foreignKeys: [
    {
      name: 'fk_recoveries_source',
      target: 'Instance',
      columnNames: ['sourceId'],
      referencedColumnNames: ['id'],
    },
    {
      name: 'fk_recoveries_target',
      target: 'Instance',
      columnNames: ['targetId'],
      referencedColumnNames: ['id'],
      // An instance that never came to be is forgotten; the recovery that reserved it stays.
      onDelete: 'SET NULL',
    },
  ],
  checks: [
    { name: 'recoveries_state', expression: oneOf('state', recoveryStates) },
    {
      name: 'recoveries_finished',
      expression: `"state" NOT IN ('SUCCEEDED', 'FAILED', 'CANCELLED') OR "finishedAt" IS NOT NULL`,
    },
    {
      name: 'recoveries_succeeded',
      expression: `"state" <> 'SUCCEEDED' OR ("targetId" IS NOT NULL AND "recoveredTo" IS NOT NULL AND "error" IS NULL)`,
    },
    { name: 'recoveries_failed', expression: `"state" NOT IN ('FAILED', 'STUCK') OR "error" IS NOT NULL` },
    { name: 'recoveries_step', expression: oneOf('progressStep', recoverySteps) },
    { name: 'recoveries_percent', expression: '"progressPercent" BETWEEN 0 AND 100' },
    { name: 'recoveries_progress', expression: '"progressSequence" >= 0 AND "progressBytesDone" >= 0' },
  ],
  indices: [
    { name: 'recoveries_newest', columns: ['tenantId', 'createdAt', 'id'] },
    { name: 'recoveries_of_source', columns: ['sourceId', 'createdAt', 'id'] },
    { name: 'recoveries_by_state', columns: ['state', 'createdAt', 'id'] },
    { name: 'recoveries_of_target', columns: ['targetId'] },
  ],
});
