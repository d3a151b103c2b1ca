/** Rows to fill MemoryServices with: whole records of which a test only says what matters to it. */
import type { BackupRecord, InstanceRecord, RecoveryRecord } from '../../src/catalog/records.js';
import { parseInstant } from '../../src/instant.js';
import type { RecoveryPlan } from '../../src/model.js';

export const noon = parseInstant('2026-11-22T12:00:00.000001Z');
export const password = 'correct-horse-battery';

export function instanceRow(change: Partial<InstanceRecord> = {}): InstanceRecord {
  return {
    id: 'shop',
    tenantId: 'local',
    name: 'The shop',
    origin: 'REGISTERED',
    datastore: 'postgresql',
    datastoreVersion: '15.18',
    flavor: null,
    volumeSizeGiB: 10,
    state: 'ACTIVE',
    endpoint: 'postgresql://127.0.0.1:5432/shop',
    connectionUri: `postgresql://shop:${password}@127.0.0.1:5432/shop`,
    identity: 'system 42',
    notices: [],
    driverState: { secret: password },
    recoveredFromId: null,
    createdByRecoveryId: null,
    archiveHealthy: true,
    archiveMessage: null,
    createdAt: noon,
    deletedAt: null,
    ...change,
  };
}

export function backupRow(change: Partial<BackupRecord> = {}): BackupRecord {
  return {
    id: 'full',
    instanceId: 'shop',
    type: 'FULL',
    state: 'COMPLETED',
    percent: 100,
    parentId: null,
    madeFromId: null,
    stretchId: 'stretch',
    consistentAt: noon,
    consistentOrdinal: 7,
    consistentText: '0/7000028',
    replayAfterOrdinal: 7,
    manifest: { key: 'secret/key', plainBytes: 10, storedBytes: 5, sha256: 'ab'.repeat(32) },
    sizeBytes: 2 ** 53 - 1,
    storedBytes: 2 ** 33,
    location: 'file',
    verifiedAt: null,
    error: null,
    startedAt: noon,
    completedAt: noon,
    ...change,
  };
}

export function planRecord(change: Partial<RecoveryPlan> = {}): RecoveryPlan {
  const position = { stretch: 'timeline 1', ordinal: 9, text: '0/9000028' };
  return {
    version: 1,
    instanceId: 'shop',
    target: { pointInTime: noon, position: null },
    cut: { position, lastKeptNotBefore: noon, lastKeptAt: noon, firstDroppedAt: null },
    closestPointInTime: noon,
    stretchId: 'stretch',
    baseId: 'full',
    incrementalIds: [],
    replayAfter: 7,
    logSegments: 2,
    logBytes: 2 ** 32,
    bytesToFetch: 2 ** 34,
    ...change,
  };
}

export function recoveryRow(change: Partial<RecoveryRecord> = {}): RecoveryRecord {
  return {
    id: 'rescue',
    tenantId: 'local',
    sourceId: 'shop',
    targetId: null,
    targetName: 'The shop (recovered)',
    state: 'RUNNING',
    plan: planRecord(),
    recoveredTo: null,
    idempotencyKey: null,
    argumentsHash: 'hash',
    cancelRequested: false,
    error: null,
    progress: {
      sequence: 3,
      step: 'RESTORE_BASE',
      percent: 20,
      bytesDone: 2 ** 33,
      bytesTotal: 2 ** 34,
      replayedTo: null,
      etaSeconds: 4,
      message: null,
      at: noon,
    },
    createdAt: noon,
    startedAt: noon,
    finishedAt: null,
    ...change,
  };
}
