/** The subscription of the real service over real WebSockets: several clients, late ones, ones that go away. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { type Client, createClient } from 'graphql-ws';
import { WebSocket } from 'ws';
import { backUp, createInstance, ended, mark, startRecovery } from '../support/recoverable.js';
import { type Service, startService } from '../support/service.js';
import { until } from '../support/sqlitePrograms.js';

interface Progress {
  sequence: number;
  state: string;
  percent: number;
}

function connect(t: TestContext, service: Service): Client {
  const url = `${service.url.replace(/^http/, 'ws')}/graphql`;
  const client = createClient({ url, webSocketImpl: WebSocket, retryAttempts: 0 });
  t.after(() => client.dispose());
  return client;
}

const WATCH = `subscription ($id: ID!) {
  recoveryProgress(recoveryId: $id) { sequence state percent }
}`;

async function watch(client: Client, id: string): Promise<Progress[]> {
  const seen: Progress[] = [];
  for await (const { data, errors } of client.iterate<{ recoveryProgress: Progress }>({
    query: WATCH,
    variables: { id },
  })) {
    if (errors?.[0]) throw errors[0];
    if (data) seen.push(data.recoveryProgress);
  }
  return seen;
}

function assertStory(story: Progress[]): void {
  for (const [at, event] of story.entries()) {
    const before = story[at - 1];
    if (!before) continue;
    assert.ok(event.sequence > before.sequence, 'sequence rises');
    assert.ok(event.percent >= before.percent, 'percent never falls');
  }
  assert.deepEqual([story.at(-1)?.state, story.at(-1)?.percent], ['SUCCEEDED', 100]);
}

test('two clients see a recovery to its end; a late one sees how it ended; one that leaves is not missed', async (t) => {
  const service = await startService(t);
  const instance = await createInstance(service, 'orders');
  await backUp(service, instance.id);
  await mark(service, instance, 'first');

  const { id } = await startRecovery(service, instance.id);
  const leaving = connect(t, service);
  const left = watch(leaving, id).catch(() => []);
  const stories = [watch(connect(t, service), id), watch(connect(t, service), id)];
  await leaving.dispose();
  await left;
  for (const story of await Promise.all(stories)) assertStory(story);

  const late = await watch(connect(t, service), id);
  assert.equal(late.length, 1, 'one event, and the end');
  assertStory(late);
  assert.equal((await ended(service, id)).state, 'SUCCEEDED');
});

test('an unknown recovery is a GraphQL error and the connection serves on', async (t) => {
  const service = await startService(t);
  const client = connect(t, service);
  for (const id of ['00000000-0000-7000-8000-000000000000', '..', '']) {
    await assert.rejects(
      watch(client, id),
      (error: { extensions?: { code?: string; hint?: string } } | { extensions?: { code?: string } }[]) => {
        const [first] = Array.isArray(error) ? error : [error];
        assert.equal(first?.extensions?.code, 'RECOVERY_NOT_FOUND');
        return true;
      },
    );
  }
  const answers = [];
  for await (const { data } of client.iterate({ query: '{ instances { id } }' })) answers.push(data);
  assert.deepEqual(answers, [{ instances: [] }]);
});

test('watchers of a stopping service are told, and it stops', async (t) => {
  const service = await startService(t);
  const closed: unknown[] = [];
  const socket = new WebSocket(`${service.url.replace(/^http/, 'ws')}/graphql`, 'graphql-transport-ws');
  t.after(() => socket.terminate());
  socket.on('close', (code) => closed.push(code));
  socket.on('open', () => socket.send(JSON.stringify({ type: 'connection_init' })));
  let acknowledged = false;
  socket.on('message', () => {
    acknowledged = true;
  });
  await until('the connection is acknowledged', () => acknowledged);
  assert.equal(await service.stop(), 0);
  await until('the socket has closed', () => closed.length > 0);
  assert.deepEqual(closed, [1001]);
});
