/**
 * What planning and windows cost as an instance's log grows: the same questions put to catalogs of 10,000 and
 * 1,000,000 segments. The look into the one or two segments around the cut is left out: it does not depend on the count.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import sqlite3 from 'sqlite3';
import { openCatalog } from '../src/catalog/catalog.js';
import type { Catalog, InstanceRecord } from '../src/catalog/records.js';
import type { Datastore } from '../src/datastores/datastore.js';
import { type Instant, instant } from '../src/instant.js';
import { loadWindows, planRecovery } from '../src/recovery/planning.js';
import type { ObjectPipeline } from '../src/storage/pipeline.js';

const SIZES = [10_000, 1_000_000];
const QUESTIONS = 1000;
const BACKUPS = 200;
const START = 1_795_000_000_000_000;
/** A segment a second, ten transactions each. */
const SECOND = 1_000_000;
const PER_SEGMENT = 10;
const SHA = 'ab'.repeat(32);

export async function run(): Promise<void> {
  console.log(`planning and windows, ${QUESTIONS} questions each, ${BACKUPS} full backups; milliseconds`);
  console.log('segments      plan p50   plan p99   windows p50   windows p99');
  const medians: number[] = [];
  for (const size of SIZES) {
    const home = await mkdtemp(path.join(tmpdir(), 'pitr-bench-'));
    try {
      const file = path.join(home, 'catalog.db');
      const catalog = await openCatalog({ file, secretKey: Buffer.alloc(32) });
      const instance = await fill(catalog, file, size);
      const plan = await measure((at) => ask(catalog, instance, at), size);
      const windows = await measure(() => loadWindows(catalog.read, [instance.id]), size);
      medians.push(plan.p50, windows.p50);
      const cell = (value: number, width: number) => value.toFixed(2).padStart(width);
      console.log(
        `${String(size).padEnd(12)}${cell(plan.p50, 10)}${cell(plan.p99, 11)}${cell(windows.p50, 14)}${cell(windows.p99, 14)}`,
      );
      await catalog.close();
    } finally {
      await rm(home, { recursive: true, force: true });
    }
  }
  const [plan = 1, windows = 1, planLarge = 0, windowsLarge = 0] = medians;
  console.log(
    `1,000,000 against 10,000: plan ${(planLarge / plan).toFixed(2)}, windows ${(windowsLarge / windows).toFixed(2)}`,
  );
}

async function measure(
  question: (at: Instant) => Promise<unknown>,
  size: number,
): Promise<{ p50: number; p99: number }> {
  const times: number[] = [];
  for (let number = 0; number < QUESTIONS; number += 1) {
    // Spread over the whole log, in an order that no cache can guess.
    const at = instant(START + ((number * 7919) % QUESTIONS) * Math.floor(((size - 1) * SECOND) / QUESTIONS) + SECOND);
    const begin = performance.now();
    await question(at);
    times.push(performance.now() - begin);
  }
  times.sort((a, b) => a - b);
  return { p50: times[Math.floor(times.length * 0.5)] ?? 0, p99: times[Math.floor(times.length * 0.99)] ?? 0 };
}

function ask(catalog: Catalog, instance: InstanceRecord, at: Instant) {
  const datastore = {
    locate: async (_target, { boundary, before }) => {
      const ordinal = boundary?.after ?? before?.last ?? 0;
      const position = { stretch: '1', ordinal, text: `1/${ordinal}` };
      return { position, lastKeptNotBefore: at, lastKeptAt: at, firstDroppedAt: null };
    },
    recovery: { order: ['RESTORE_BASE', 'APPLY_INCREMENTALS', 'REPLAY_LOG'] },
  } as Pick<Datastore, 'locate'> & { recovery: Pick<Datastore['recovery'], 'order'> } as Datastore;
  const options = { catalog, pipeline: {} as ObjectPipeline, clock: () => at, cover: async () => true };
  return planRecovery(options, datastore, instance, { pointInTime: at, position: null });
}

async function fill(catalog: Catalog, file: string, size: number): Promise<InstanceRecord> {
  const at = instant(START);
  const instance: InstanceRecord = {
    id: 'i',
    tenantId: 'local',
    name: 'orders',
    origin: 'REGISTERED',
    datastore: 'sqlite',
    datastoreVersion: '3',
    flavor: null,
    volumeSizeGiB: null,
    state: 'ACTIVE',
    endpoint: 'sqlite:///orders.db',
    connectionUri: 'sqlite:///orders.db',
    identity: 'i',
    driverState: {},
    notices: [],
    recoveredFromId: null,
    createdByRecoveryId: null,
    archiveHealthy: true,
    archiveMessage: null,
    createdAt: at,
    deletedAt: null,
  };
  const end = instant(START + size * SECOND);
  await catalog.write(async (writer) => {
    await writer.insertInstance(instance);
    await writer.insertStretch({
      id: 's',
      instanceId: 'i',
      name: '1',
      number: 1,
      startsBecause: 'FIRST_BACKUP',
      reason: '',
      startedAt: at,
      startOrdinal: 0,
      endsBecause: null,
      lastOrdinal: 0,
      lastText: '1/0',
      coveredTo: end,
      segments: 0,
      bytes: 0,
      continuation: {},
    });
  });
  // One statement instead of a million transactions; the columns are what insertSegment would have written.
  await sql(
    file,
    `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${size})
     INSERT INTO log_segments SELECT 's', i * ${PER_SEGMENT}, (i - 1) * ${PER_SEGMENT}, '1/' || (i * ${PER_SEGMENT}), ${PER_SEGMENT},
       ${START} + (i - 1) * ${SECOND}, ${START} + i * ${SECOND} - 1, ${START} + i * ${SECOND} - 1, ${START} + i * ${SECOND},
       i, i * 4000, i * 2000, i * ${PER_SEGMENT}, 'k/' || i, 4000, 2000, '${SHA}', NULL FROM n`,
  );
  await sql(file, `UPDATE log_stretches SET "lastOrdinal" = ${size * PER_SEGMENT}, "segments" = ${size}`);
  await catalog.write(async (writer) => {
    for (let number = 0; number < BACKUPS; number += 1) {
      const ordinal = Math.floor((number * size) / BACKUPS) * PER_SEGMENT;
      const consistentAt = instant(START + (ordinal / PER_SEGMENT) * SECOND);
      await writer.insertBackup({
        id: `b${String(number).padStart(6, '0')}`,
        instanceId: 'i',
        type: 'FULL',
        state: 'COMPLETED',
        percent: 100,
        parentId: null,
        madeFromId: null,
        stretchId: 's',
        consistentAt,
        consistentOrdinal: ordinal,
        consistentText: `1/${ordinal}`,
        replayAfterOrdinal: ordinal,
        manifest: { key: 'm', plainBytes: 1, storedBytes: 1, sha256: SHA },
        sizeBytes: 1,
        storedBytes: 1,
        location: 'file:///m',
        verifiedAt: null,
        error: null,
        startedAt: consistentAt,
        completedAt: consistentAt,
      });
    }
  });
  return instance;
}

function sql(file: string, statement: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const database = new sqlite3.Database(file, (opening) => {
      if (opening) return reject(opening);
      database.exec(statement, (error) => database.close(() => (error ? reject(error) : resolve())));
    });
  });
}
