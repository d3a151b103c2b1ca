/**
 * The running service and a second subgraph, composed by Apollo's composition, and queried through Apollo's gateway and
 * through Hive: both have to answer alike.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { createClient } from 'graphql-ws';
import { pino } from 'pino';
import { WebSocket } from 'ws';
import { type Hive, startHive } from '../../examples/federation/hive.js';
import { type Project, startProjects } from '../../examples/federation/projects.js';
import { composeSupergraph } from '../../examples/federation/supergraph.js';
import { openCatalog } from '../../src/catalog/catalog.js';
import { readConfig } from '../../src/config.js';
import { Places } from '../../src/instances/places.js';
import { startService } from '../../src/main.js';
import { aBackup, anInstance } from '../catalog/examples.js';
import { startApolloGateway } from '../support/apolloGateway.js';
import type { Answer } from '../support/gatewayUnderTest.js';

type Data = Record<string, unknown>;

/** What the other subgraph believes: its own words for the name and the date of a database, and two that are not ours to see. */
const project: Project = {
  id: 'p1',
  title: 'Web shop',
  startedAt: 'last spring',
  databases: ['orders', 'theirs', 'unknown'].map((id) => ({ id, name: `the cloud's ${id}`, createdAt: 'in May' })),
};

async function ask(url: string, query: string, variables?: Data): Promise<Pick<Answer, 'data' | 'errors'>> {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', connection: 'close' },
    body: JSON.stringify({ query, variables }),
  });
  return (await response.json()) as Pick<Answer, 'data' | 'errors'>;
}

describe('federation', { timeout: 120_000 }, () => {
  const urls = { direct: '', apollo: '', hive: '' };
  const projects: Project[] = [];
  const closers: (() => Promise<unknown>)[] = [];
  let hive: Hive;

  before(async () => {
    const home = await mkdtemp(path.join(tmpdir(), 'pitr-test-'));
    closers.push(() => rm(home, { recursive: true, force: true }));
    await seedAnotherTenant(home);
    const service = await startService(readConfig({ PITR_HOME: home, PORT: '0' }), pino({ level: 'silent' }));
    closers.push(() => service.stop());
    urls.direct = `${service.url}/graphql`;
    const subgraph = await startProjects(() => projects);
    closers.push(() => subgraph.close());
    const supergraph = await composeSupergraph({ pitr: urls.direct, projects: subgraph.url });
    const apollo = await startApolloGateway(supergraph);
    closers.push(() => apollo.close());
    urls.apollo = apollo.url;
    hive = await startHive(supergraph);
    closers.push(() => hive.close());
    urls.hive = hive.url;
    const { errors } = await ask(
      urls.direct,
      'mutation { createInstance(input: { id: "orders", name: "Orders", datastore: "sqlite", flavor: "m1" }) { id } }',
    );
    assert.equal(errors, undefined);
  });
  after(async () => {
    for (let close = closers.pop(); close; close = closers.pop()) await close();
  });

  for (const gateway of ['apollo', 'hive'] as const) {
    test(`${gateway}: a query that starts in the other subgraph goes on in ours`, async () => {
      projects.splice(0, 1, { ...project, databases: project.databases.slice(0, 1) });
      const { data, errors } = await ask(
        urls[gateway],
        `{ projects { title startedAt databases {
             id name createdAt datastore flavor state recoveryWindows { from } logArchive { healthy }
           } } }`,
      );
      assert.equal(errors, undefined, JSON.stringify(errors));
      assert.deepEqual(data?.projects, [
        {
          title: 'Web shop',
          startedAt: 'last spring',
          databases: [
            {
              id: 'orders',
              // Shareable: the subgraph that is being asked anyway answers, and its DateTime is its own affair.
              name: "the cloud's orders",
              createdAt: 'in May',
              datastore: 'sqlite',
              flavor: 'm1',
              state: 'ACTIVE',
              recoveryWindows: [],
              logArchive: { healthy: true },
            },
          ],
        },
      ]);
    });

    test(`${gateway}: a query that starts in ours needs nobody else`, async () => {
      const query = '{ instance(id: "orders") { id name createdAt datastoreVersion origin } }';
      const { data } = await ask(urls[gateway], query);
      assert.deepEqual(data, (await ask(urls.direct, query)).data);
      assert.match(JSON.stringify(data), /"name":"Orders"/);
    });

    test(`${gateway}: another tenant's database and an unknown one are told apart by nothing`, async () => {
      projects.splice(0, 1, project);
      const { data, errors } = await ask(
        urls[gateway],
        '{ projects { databases { id flavor volumeSizeGiB recoveredFrom { id } } } }',
      );
      assert.equal(errors, undefined, JSON.stringify(errors));
      const nothing = { volumeSizeGiB: null, recoveredFrom: null };
      const databases = [
        { id: 'orders', ...nothing, flavor: 'm1' },
        { id: 'theirs', ...nothing, flavor: null },
        { id: 'unknown', ...nothing, flavor: null },
      ];
      assert.deepEqual(data?.projects, [{ databases }]);
    });

    test(`${gateway}: a refusal keeps its code, its hint and its details`, async () => {
      for (const query of [
        '{ recoveryPlan(instanceId: "unknown") { plan { logSegments } } }',
        '{ instances(first: 0) { id } }',
      ]) {
        const [direct] = (await ask(urls.direct, query)).errors ?? [];
        const [through] = (await ask(urls[gateway], query)).errors ?? [];
        const { code, hint, retryable, details } = through?.extensions ?? {};
        assert.deepEqual({ code, hint, retryable, details }, direct?.extensions);
        assert.equal(through?.message, direct?.message);
      }
    });

    test(`${gateway}: an instant without its offset is refused in variables and in literals`, async () => {
      for (const [query, variables] of [
        ['{ backups(instanceId: "orders", before: "2026-11-22T12:00:00") { id } }', {}],
        ['query ($t: DateTime) { backups(instanceId: "orders", before: $t) { id } }', { t: '2026-11-22T12:00:00' }],
      ] as const) {
        const { errors } = await ask(urls[gateway], query, variables);
        const [shown] = errors ?? [];
        assert.equal(shown?.extensions.code, 'INVALID_POINT_IN_TIME', JSON.stringify(errors));
      }
    });
  }

  test("directly: another tenant's instance, backup and an unknown one are null alike", async () => {
    const { data, errors } = await ask(
      urls.direct,
      `{ _entities(representations: [
           { __typename: "DatabaseInstance", id: "theirs" }, { __typename: "DatabaseBackup", id: "their-backup" },
           { __typename: "DatabaseInstance", id: "unknown" }, { __typename: "DatabaseBackup", id: "unknown" },
           { __typename: "Recovery", id: "unknown" }, { __typename: "DatabaseInstance", id: "orders" }
         ]) { ... on DatabaseInstance { name } ... on DatabaseBackup { state } } }`,
    );
    assert.equal(errors, undefined);
    assert.deepEqual(data?._entities, [null, null, null, null, null, { name: 'Orders' }]);
  });

  test('hive: back up and recover, and watch it to its end over WebSocket', async (t) => {
    const client = createClient({ url: hive.url.replace('http', 'ws'), webSocketImpl: WebSocket, retryAttempts: 0 });
    t.after(() => client.dispose());
    assert.equal((await ask(urls.hive, 'mutation { takeBackup(instanceId: "orders") { state } }')).errors, undefined);
    const recovery = await recoverWhenPossible(urls.hive);
    const seen: { sequence: number; state: string; recovery: Data }[] = [];
    const query = `subscription ($id: ID!) { recoveryProgress(recoveryId: $id) {
      sequence state recovery { id source { name flavor } instance { name state } }
    } }`;
    for await (const { data, errors } of client.iterate<Data>({ query, variables: { id: recovery } })) {
      assert.equal(errors, undefined, JSON.stringify(errors));
      seen.push(data?.recoveryProgress as (typeof seen)[number]);
    }
    const last = seen.at(-1);
    assert.equal(last?.state, 'SUCCEEDED');
    assert.deepEqual(last.recovery, {
      id: recovery,
      source: { name: 'Orders', flavor: 'm1' },
      instance: { name: 'Rescued', state: 'ACTIVE' },
    });
  });
});

/** Until the backup is completed there is nothing to recover to. */
async function recoverWhenPossible(url: string): Promise<string> {
  const deadline = performance.now() + 30_000;
  for (;;) {
    const { data, errors } = await ask(
      url,
      'mutation { recoverInstance(instanceId: "orders", name: "Rescued") { id } }',
    );
    if (data?.recoverInstance) return String((data.recoverInstance as Data).id);
    assert.equal(errors?.[0]?.extensions.code, 'NO_BACKUP', JSON.stringify(errors));
    assert.ok(performance.now() < deadline, 'the backup did not complete');
  }
}

/** Rows of somebody else's in the catalog that the service will open. */
async function seedAnotherTenant(home: string): Promise<void> {
  const places = new Places(home);
  await places.prepare();
  const secretKey = randomBytes(32);
  await writeFile(places.keyFile, secretKey, { mode: 0o600 });
  const catalog = await openCatalog({ file: places.catalogFile, secretKey });
  const gone = { state: 'DELETED', deletedAt: anInstance({ id: 'x' }).createdAt } as const;
  await catalog.write(async (writer) => {
    await writer.insertInstance(anInstance({ id: 'theirs', tenantId: 'others', flavor: 'secret', ...gone }));
    await writer.insertBackup(aBackup({ id: 'their-backup', instanceId: 'theirs' }));
  });
  await catalog.close();
}
