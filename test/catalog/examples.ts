/** A catalog in a scratch directory, and one valid record of each kind; a test says only what matters to it. */
import { randomBytes } from 'node:crypto';
import path from 'node:path';
import type { TestContext } from 'node:test';
import sqlite3 from 'sqlite3';
import { openCatalog } from '../../src/catalog/catalog.js';
import type {
  BackupRecord,
  Catalog,
  GapRecord,
  InstanceRecord,
  OutboxRecord,
  RecoveryRecord,
  SegmentRecord,
  StepRecord,
  StretchRecord,
} from '../../src/catalog/records.js';
import { instant } from '../../src/instant.js';
import { recoverySteps } from '../../src/model.js';
import { scratchDir } from '../support/scratch.js';

/** 2026-11-22T17:05:01.123456Z and later: what a 32-bit or millisecond column could not hold. */
export const NOON = 1_795_367_101_123_456;
export const at = (micros: number) => instant(NOON + micros);
export const SHA = 'ab'.repeat(32);

export interface Scratch {
  catalog: Catalog;
  file: string;
  secretKey: Buffer;
  /** Closes the catalog and opens it again. */
  reopen(): Promise<Catalog>;
}

export async function scratchCatalog(t: TestContext): Promise<Scratch> {
  // Hooks run in this order: the catalog is closed before its directory goes.
  t.after(() => catalog.close());
  const file = path.join(await scratchDir(t), 'catalog.sqlite');
  const secretKey = randomBytes(32);
  let catalog = await openCatalog({ file, secretKey });
  return {
    catalog,
    file,
    secretKey,
    async reopen() {
      await catalog.close();
      catalog = await openCatalog({ file, secretKey });
      return catalog;
    },
  };
}

/** Runs SQL behind the catalog's back, on a connection of its own that enforces foreign keys. */
export async function rawSql<Row>(file: string, sql: string, parameters: unknown[] = []): Promise<Row[]> {
  const connection = await new Promise<sqlite3.Database>((resolve, reject) => {
    const opened: sqlite3.Database = new sqlite3.Database(file, (error) => (error ? reject(error) : resolve(opened)));
  });
  const run = (statement: string, values: unknown[]) =>
    new Promise<Row[]>((resolve, reject) => {
      connection.all(statement, values, (error, rows) => (error ? reject(error) : resolve(rows as Row[])));
    });
  try {
    await run('PRAGMA foreign_keys = ON', []);
    await run('PRAGMA busy_timeout = 5000', []);
    return await run(sql, parameters);
  } finally {
    await new Promise<void>((resolve) => connection.close(() => resolve()));
  }
}

export function anInstance(some: Partial<InstanceRecord> & { id: string }): InstanceRecord {
  return {
    tenantId: 'tenant',
    name: 'orders',
    origin: 'REGISTERED',
    datastore: 'sqlite',
    datastoreVersion: '3.52.0',
    flavor: null,
    volumeSizeGiB: null,
    state: 'ACTIVE',
    endpoint: 'file:///orders.db',
    connectionUri: `file:///secret-${some.id}.db`,
    identity: `identity-${some.id}`,
    notices: ['The journal mode of the database is set to WAL, for good.'],
    driverState: { pageSize: 4096, nested: { list: [1, null, 'x'] } },
    recoveredFromId: null,
    createdByRecoveryId: null,
    archiveHealthy: true,
    archiveMessage: null,
    createdAt: at(0),
    deletedAt: null,
    ...some,
  };
}

export function aStretch(some: Partial<StretchRecord> & { id: string; instanceId: string }): StretchRecord {
  const startOrdinal = some.startOrdinal ?? 0;
  return {
    name: some.id,
    number: 1,
    startsBecause: 'FIRST_BACKUP',
    reason: 'The first look at the database.',
    startedAt: at(0),
    startOrdinal,
    endsBecause: null,
    lastOrdinal: startOrdinal,
    lastText: String(startOrdinal),
    coveredTo: null,
    segments: 0,
    bytes: 0,
    continuation: {},
    ...some,
  };
}

export function aSegment(
  some: Partial<SegmentRecord> & { stretchId: string; after: number; last: number },
): SegmentRecord {
  return {
    lastText: String(some.last),
    transactions: 1,
    firstCommitAt: at(some.last),
    lastCommitAt: at(some.last),
    latestCommitAt: null,
    coveredTo: at(some.last),
    object: { key: `log/${some.stretchId}/${some.last}`, plainBytes: 100, storedBytes: 10, sha256: SHA },
    ...some,
  };
}

export function aGap(some: Partial<GapRecord> & { id: string; stretchId: string }): GapRecord {
  return { from: at(0), to: at(10), after: null, last: null, because: 'LOG_GAP', ...some };
}

/** RUNNING, a full one. */
export function aBackup(some: Partial<BackupRecord> & { id: string; instanceId: string }): BackupRecord {
  return {
    type: 'FULL',
    state: 'RUNNING',
    percent: 0,
    parentId: null,
    madeFromId: null,
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
    startedAt: at(0),
    completedAt: null,
    ...some,
  };
}

/** What makes a backup COMPLETED. */
export function completion(stretchId: string, consistentAt = at(0)) {
  return {
    state: 'COMPLETED',
    percent: 100,
    stretchId,
    consistentAt,
    consistentOrdinal: 7,
    consistentText: 'g/7',
    replayAfterOrdinal: 5,
    manifest: { key: 'backups/manifest', plainBytes: 2 ** 40, storedBytes: 2 ** 33, sha256: SHA },
    sizeBytes: 2 ** 41,
    storedBytes: 2 ** 34,
    location: 'file:///storage',
    completedAt: at(50),
  } as const satisfies Partial<BackupRecord>;
}

export function aRecovery(some: Partial<RecoveryRecord> & { id: string; sourceId: string }): RecoveryRecord {
  const position = { stretch: 's', ordinal: 2 ** 52, text: 'g/9' };
  const cut = { position, lastKeptNotBefore: at(1), lastKeptAt: at(2), firstDroppedAt: null };
  return {
    tenantId: 'tenant',
    targetId: null,
    targetName: 'orders-recovered',
    state: 'QUEUED',
    plan: {
      version: 1,
      instanceId: some.sourceId,
      target: { pointInTime: at(3), position: null },
      cut,
      closestPointInTime: at(2),
      stretchId: 's',
      baseId: 'b',
      incrementalIds: [],
      replayAfter: 5,
      logSegments: 3,
      logBytes: 300,
      bytesToFetch: 3000,
    },
    recoveredTo: null,
    idempotencyKey: null,
    argumentsHash: SHA,
    cancelRequested: false,
    error: null,
    progress: {
      sequence: 0,
      step: null,
      percent: 0,
      bytesDone: 0,
      bytesTotal: null,
      replayedTo: null,
      etaSeconds: null,
      message: null,
      at: at(0),
    },
    createdAt: at(0),
    startedAt: null,
    finishedAt: null,
    ...some,
  };
}

export function pendingSteps(recoveryId: string): StepRecord[] {
  return recoverySteps.map((name) => ({
    recoveryId,
    name,
    state: 'PENDING',
    attempts: 0,
    startedAt: null,
    finishedAt: null,
    error: null,
    output: null,
  }));
}

export function anEvent(some: Partial<OutboxRecord> & { id: string }): OutboxRecord {
  return {
    tenantId: 'tenant',
    type: 'pitr.recovery.succeeded',
    body: '{}',
    state: 'WAITING',
    attempts: 0,
    dueAt: at(0),
    lastError: null,
    createdAt: at(0),
    ...some,
  };
}
