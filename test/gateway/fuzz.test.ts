/**
 * The real service under input that nobody meant: generated operations and raw bytes over HTTP, event streams, REST and
 * WebSocket, from callers of every role. It goes on, shows nothing of its inside or of another tenant's, refuses in words
 * that a federated client gets to read, and does not grow. PITR_TEST_LONG sends ten times as much.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { Agent } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { createSchema } from '../../src/gateway/schema.js';
import { type Asked, Documents } from '../support/fuzz/documents.js';
import { nextCase, SECRET, TOKENS } from '../support/fuzz/transports.js';
import { Dice } from '../support/fuzz/values.js';
import { seeded, seeds } from '../support/seed.js';
import { type Service, startService } from '../support/service.js';

const MEASURED = fileURLToPath(new URL('../support/measuredService.js', import.meta.url));
const long = process.env.PITR_TEST_LONG === '1';
/** For each of the two seeds. */
const CASES = long ? 50_000 : 5_000;
const AT_A_TIME = 12;
/** What the service may hold more at the end than after a fifth of the cases: caches that have a bound. */
const GROWTH = 48 * 2 ** 20;

const schema = createSchema();

test(`${2 * CASES} requests that nobody meant`, { timeout: long ? 3_600_000 : 600_000 }, async (t) => {
  for (const seed of seeds(t)) {
    t.diagnostic(`seed ${seed}`);
    await t.test(`seed ${seed}`, (inner) => withstand(inner, seed));
  }
});

async function withstand(t: TestContext, seed: number): Promise<void> {
  const service = await fuzzedService(t);
  const dice = new Dice(seeded(seed));
  const ids = await settle(service);
  const documents = new Documents(schema, dice, ids);
  const agent = new Agent({ keepAlive: true, maxSockets: AT_A_TIME });
  t.after(() => agent.destroy());
  const counts = new Map<string, number>();
  let sent = 0;
  const worker = async (until: number): Promise<void> => {
    while (sent < until) {
      const number = sent++;
      const [kind, send] = nextCase(service, agent, dice, documents);
      counts.set(kind, (counts.get(kind) ?? 0) + 1);
      assert.equal(await send(), null, `case ${number} of seed ${seed}: ${kind}`);
    }
  };
  const send = (until: number) => Promise.all(Array.from({ length: AT_A_TIME }, () => worker(until)));
  await send(CASES / 5);
  const memory = (await measured(service)).bytes;
  await send(CASES);
  const { bytes, errors, longestTurnMs } = await measured(service);
  const grown = bytes - memory;
  t.diagnostic(
    `${JSON.stringify(Object.fromEntries(counts))}; grown by ${Math.round(grown / 1024)} KiB, longest turn ${Math.round(longestTurnMs)} ms`,
  );
  assert.ok(grown < GROWTH, `the service holds ${grown} bytes more`);
  const [answer] = await ask(service, 'fuzz-reader', { query: '{ instance(id: "fuzz-db") { id } }' });
  assert.equal(answer.status, 200);
  assert.deepEqual(errors, [], 'nothing went wrong inside');
  assert.equal(service.stderr, '');
  assert.equal(await service.stop(), 0);
}

async function ask(
  service: Service,
  token: string,
  asked: Asked,
): Promise<[{ status: number }, Record<string, { id: string }>]> {
  const response = await fetch(`${service.url}/graphql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${token}`, connection: 'close' },
    body: JSON.stringify(asked),
  });
  const { data, errors } = (await response.json()) as { data: Record<string, { id: string }>; errors?: unknown };
  assert.equal(errors, undefined, JSON.stringify(errors));
  return [response, data];
}

/** Two tenants with a database each, and quotas that keep a lucky mutation from filling the disk. */
async function fuzzedService(t: TestContext): Promise<Service> {
  const dir = await mkdtemp(path.join(tmpdir(), 'pitr-test-'));
  const tokens = path.join(dir, 'tokens');
  const line = (name: string, tenant: string, role: string) =>
    JSON.stringify({ name, tenant, role, sha256: createHash('sha256').update(name).digest('hex') });
  const lines = TOKENS.map((name) => line(name, 'fuzz', name.slice('fuzz-'.length)));
  await writeFile(tokens, [...lines, line('rival-admin', 'rival', 'admin')].join('\n'));
  const env = {
    PITR_TOKENS_FILE: tokens,
    PITR_REGISTER_FILES: path.join(dir, 'nothing'),
    PITR_REGISTER_NETWORKS: '192.0.2.0/24',
    PITR_QUOTA_INSTANCES: '2',
    PITR_QUOTA_BACKUPS: '3',
    PITR_QUOTA_RECOVERIES: '1',
    PITR_LIMIT_RATE: '0',
    LOG_LEVEL: 'info',
  };
  let service: Service | null = null;
  try {
    service = await startService(t, { dir, env, entry: MEASURED });
  } finally {
    t.after(() => rm(dir, { recursive: true, force: true }));
  }
  return service;
}

/** Ids that operations are made with: the caller's own, and another tenant's. */
async function settle(service: Service): Promise<string[]> {
  const make = (id: string, name: string) =>
    `mutation { createInstance(input: { id: "${id}", name: "${name}", datastore: "sqlite" }) { id } }`;
  await ask(service, 'fuzz-admin', { query: make('fuzz-db', 'fuzz') });
  await ask(service, 'rival-admin', { query: make('rival-db', SECRET) });
  const ids = ['fuzz-db', 'rival-db', 'unknown'];
  for (const [token, id] of [
    ['fuzz-admin', 'fuzz-db'],
    ['rival-admin', 'rival-db'],
  ] as const) {
    const [, data] = await ask(service, token, { query: `mutation { takeBackup(instanceId: "${id}") { id } }` });
    ids.push(String(data.takeBackup?.id));
  }
  return ids;
}

interface Measured {
  bytes: number;
  errors: string[];
  /** Of the event loop, in milliseconds. */
  longestTurnMs: number;
}

async function measured(service: Service): Promise<Measured> {
  // What is still being answered or ended has a moment to go.
  await delay(1_000);
  const known = service.log.findLast(({ msg }) => msg === 'memory');
  process.kill(service.pid ?? 0, 'SIGUSR2');
  for (const deadline = Date.now() + 30_000; ; await delay(20)) {
    const told = service.log.findLast(({ msg }) => msg === 'memory');
    if (told && told !== known) return told as unknown as Measured;
    assert.ok(Date.now() < deadline, 'the service does not say what it holds');
  }
}
