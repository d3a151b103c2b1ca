/**
 * What a list of 50 backups costs: requests per second and the service's CPU time per request, over REST in Trove's
 * shapes and over GraphQL, with 1 and with 8 requests under way. The client is a process of its own and is not counted.
 * Trove 18 itself was measured at 496 ms of CPU for the same list. PITR_BENCH_SECONDS per figure, 5 unless told.
 */
import { fork } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pino } from 'pino';
import { openCatalog } from '../src/catalog/catalog.js';
import { readConfig } from '../src/config.js';
import { Places } from '../src/instances/places.js';
import { startService } from '../src/main.js';
import { aBackup, anInstance, aStretch, at, completion } from '../test/catalog/examples.js';
import type { Load, Result } from './troveClient.js';

const SECONDS = Number(process.env.PITR_BENCH_SECONDS ?? 5);
/** Shared out over the instances; a page is the newest 50 of them. */
const BACKUPS = 500;
const INSTANCES = 5;

export async function run(): Promise<void> {
  const home = await mkdtemp(path.join(tmpdir(), 'pitr-bench-'));
  try {
    await fillCatalog(home);
    const service = await startService(
      readConfig({ PITR_HOME: home, PORT: '0', PITR_LIMIT_RATE: '0' }),
      pino({ level: 'silent' }),
    );
    try {
      const rows: Record<string, Record<string, number>> = {};
      for (const [name, load] of Object.entries(loads(service.url))) {
        // Once before it counts, so that everything is compiled.
        for (const parallel of [1, 1, 8]) rows[`${name}, ${parallel} at once`] = await measure({ ...load, parallel });
      }
      console.log(`A list of 50 backups out of ${BACKUPS}; ${SECONDS} s each`);
      console.table(rows);
    } finally {
      await service.stop();
    }
  } finally {
    await rm(home, { recursive: true, force: true });
  }
}

function loads(url: string): Record<string, Omit<Load, 'parallel' | 'seconds'>> {
  const fields =
    'id type state startedAt completedAt consistentAt sizeBytes location parent { id } instance { id datastore }';
  const query = `{ backups(instanceId: "i0", first: 50) { ${fields} } }`;
  return {
    "REST, a tenant's": { url: `${url}/v1.0/tenant/backups?limit=50`, body: null },
    "REST, an instance's": { url: `${url}/v1.0/tenant/instances/i0/backups?limit=50`, body: null },
    "GraphQL, an instance's": { url: `${url}/graphql`, body: JSON.stringify({ query }) },
  };
}

async function measure(load: Omit<Load, 'seconds'>): Promise<Record<string, number>> {
  const client = fork(new URL('./troveClient.js', import.meta.url));
  const before = process.cpuUsage();
  client.send({ ...load, seconds: SECONDS } satisfies Load);
  const [{ requests, seconds, bytes, p50, p99 }] = (await once(client, 'message')) as [Result];
  const { user, system } = process.cpuUsage(before);
  await once(client, 'exit');
  return {
    'requests/s': Math.round(requests / seconds),
    'CPU ms/request': round((user + system) / 1000 / requests),
    'p50 ms': round(p50),
    'p99 ms': round(p99),
    'bytes/answer': Math.round(bytes / requests),
  };
}

/** Instances that are not running, so that the service has nothing to do but to answer. */
async function fillCatalog(home: string): Promise<void> {
  const places = new Places(home);
  await places.prepare();
  const secretKey = randomBytes(32);
  await writeFile(places.keyFile, secretKey, { mode: 0o600 });
  const catalog = await openCatalog({ file: places.catalogFile, secretKey });
  await catalog.write(async (writer) => {
    for (let n = 0; n < INSTANCES; n += 1) {
      const instanceId = `i${n}`;
      await writer.insertInstance(anInstance({ id: instanceId, tenantId: 'local', state: 'STOPPED', identity: null }));
      await writer.insertStretch(aStretch({ id: `s${n}`, instanceId }));
    }
    for (let n = 0; n < BACKUPS; n += 1) {
      const of = n % INSTANCES;
      const id = `b${String(n).padStart(6, '0')}`;
      await writer.insertBackup(
        aBackup({ id, instanceId: `i${of}`, startedAt: at(n), ...completion(`s${of}`, at(n)) }),
      );
    }
  });
  await catalog.close();
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
