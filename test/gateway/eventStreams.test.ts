/** Operations over server-sent events: with the client of the protocol, under the same identity, refusals and endings as WebSocket. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { type Client, createClient } from 'graphql-sse';
import type { RecoveryState } from '../../src/model.js';
import { recoveryRow } from '../support/gatewayRows.js';
import { type GatewayUnderTest, gatewayUnderTest } from '../support/gatewayUnderTest.js';
import { bearer, identifiedGateway } from '../support/identified.js';
import { scratchDir } from '../support/scratch.js';

const query = 'subscription Watch($id: ID!) { recoveryProgress(recoveryId: $id) { sequence state } }';
const accept = 'text/event-stream';

function connect(t: TestContext, { url }: GatewayUnderTest, headers: Record<string, string> = {}): Client {
  const client = createClient({
    url: `${url}/graphql`,
    headers: { connection: 'close', ...headers },
    retryAttempts: 0,
  });
  t.after(() => client.dispose());
  return client;
}

function event(sequence: number, state: RecoveryState) {
  return { recoveryId: 'rescue', state, progress: { ...recoveryRow().progress, sequence } };
}

function shown(sequence: number, state: RecoveryState) {
  return { data: { recoveryProgress: { sequence, state } } };
}

test('the present progress comes at once, then every event, then the end', async (t) => {
  const gateway = await gatewayUnderTest(t);
  const { feed } = gateway.services;
  const watching = once(feed, 'watching');
  const results = connect(t, gateway).iterate({ query, variables: { id: 'rescue' } });
  assert.deepEqual((await results.next()).value, shown(3, 'RUNNING'));
  await watching;
  for (const [sequence, state] of [
    [4, 'RUNNING'],
    [9, 'SUCCEEDED'],
  ] as const) {
    feed.emit('progress', event(sequence, state));
    assert.deepEqual((await results.next()).value, shown(sequence, state));
  }
  assert.equal((await results.next()).done, true);
  const lines = gateway.log.filter(({ msg }) => msg === 'operation');
  assert.deepEqual(
    lines.map(({ via, kind, operation, codes }) => ({ via, kind, operation, codes })),
    [{ via: 'events', kind: 'subscription', operation: 'Watch', codes: undefined }],
  );
});

test('queries and mutations are one result', async (t) => {
  const gateway = await gatewayUnderTest(t);
  const results = connect(t, gateway).iterate({ query: '{ instances { id } }' });
  assert.deepEqual((await results.next()).value, { data: { instances: [{ id: 'shop' }] } });
  assert.equal((await results.next()).done, true);
});

test('errors have the codes and the shape they have elsewhere', async (t) => {
  const gateway = await gatewayUnderTest(t);
  const client = connect(t, gateway);
  const cases: [code: string, asked: string, variables?: Record<string, unknown>][] = [
    ['RECOVERY_NOT_FOUND', query, { id: 'unknown' }],
    ['GRAPHQL_PARSE_FAILED', '{ instances { id }'],
    ['GRAPHQL_VALIDATION_FAILED', '{ instances { password } }'],
    ['BAD_USER_INPUT', 'query ($n: Int!) { instances(first: $n) { id } }', { n: 'x' }],
    ['INVALID_POINT_IN_TIME', 'query ($t: DateTime) { backups(instanceId: "shop", before: $t) { id } }', { t: 'now' }],
    ['OPERATION_RESOLUTION_FAILURE', 'query A { __typename } query B { __typename }'],
  ];
  for (const [code, asked, variables] of cases) {
    const results: unknown[] = [];
    for await (const result of client.iterate({ query: asked, variables })) results.push(result);
    const [{ errors }] = results as [{ errors: { extensions: Record<string, unknown> }[] }];
    assert.equal(errors[0]?.extensions.code, code, asked);
    assert.deepEqual(Object.keys(errors[0]?.extensions ?? {}).sort(), [
      'code',
      'details',
      'hint',
      'requestId',
      'retryable',
    ]);
    assert.equal(results.length, 1);
  }
});

test('a failure in the middle is its last result, INTERNAL and logged', async (t) => {
  const gateway = await gatewayUnderTest(t);
  gateway.services.recoveries.watch = async function* () {
    yield event(1, 'RUNNING');
    throw new TypeError('lost my head');
  };
  const results: unknown[] = [];
  for await (const result of connect(t, gateway).iterate({ query, variables: { id: 'rescue' } })) results.push(result);
  assert.equal(results.length, 2);
  assert.match(JSON.stringify(results[1]), /"code":"INTERNAL"/);
  assert.doesNotMatch(JSON.stringify(results), /head/);
  assert.match(JSON.stringify(gateway.log), /TypeError: lost my head/);
});

test('a client that leaves while nothing happens ends the watch on the service’s side', async (t) => {
  const gateway = await gatewayUnderTest(t);
  const leaving = new AbortController();
  const response = await fetch(`${gateway.url}/graphql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', accept },
    body: JSON.stringify({ query, variables: { id: 'rescue' } }),
    signal: leaving.signal,
  });
  assert.equal(response.headers.get('content-type'), 'text/event-stream; charset=utf-8');
  assert.match(String(response.headers.get('x-request-id')), /^[0-9a-f-]{36}$/);
  await response.body?.getReader().read();
  while (gateway.services.watchers.length === 0) await new Promise((resolve) => setImmediate(resolve));
  const [signal] = gateway.services.watchers;
  assert.ok(signal && !signal.aborted);
  const aborted = once(signal, 'abort', { signal: AbortSignal.timeout(10_000) });
  leaving.abort();
  await aborted;
});

test('it ends with the service, without saying that the operation is complete', async (t) => {
  const gateway = await gatewayUnderTest(t);
  const response = await fetch(`${gateway.url}/graphql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', accept },
    body: JSON.stringify({ query, variables: { id: 'rescue' } }),
  });
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  while (!text.includes('event: next')) text += (await reader?.read())?.value ?? '';
  await gateway.close();
  for (let read = await reader?.read(); read && !read.done; read = await reader?.read()) text += read.value;
  assert.doesNotMatch(text, /complete/);
  assert.equal(gateway.services.watchers[0]?.aborted, true);
});

test('who has no token gets no stream, and a token that is taken back ends one', async (t) => {
  const file = path.join(await scratchDir(t), 'tokens');
  const sha256 = createHash('sha256').update('secret').digest('hex');
  await writeFile(file, JSON.stringify({ name: 'nightly', tenant: 'local', role: 'reader', sha256 }));
  const gateway = await identifiedGateway(t, { tokensFile: file });
  const refused = await fetch(`${gateway.url}/graphql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', accept, connection: 'close' },
    body: JSON.stringify({ query, variables: { id: 'rescue' } }),
  });
  assert.equal(refused.status, 401);
  const results = connect(t, gateway, bearer('secret')).iterate({ query, variables: { id: 'rescue' } });
  assert.deepEqual((await results.next()).value, shown(3, 'RUNNING'));
  await writeFile(file, '');
  assert.match(JSON.stringify(await results.next()), /UNAUTHENTICATED/);
  assert.equal((await results.next()).done, true);
});

test('what is no operation is refused before a stream begins', async (t) => {
  const { url } = await gatewayUnderTest(t);
  for (const body of [
    '[]',
    '5',
    'null',
    '{"query":5}',
    '{"query":"{a}","variables":[]}',
    '{"query":"{a}","operationName":{}}',
    '{',
  ]) {
    const headers = { 'content-type': 'application/json', accept, connection: 'close' };
    const response = await fetch(`${url}/graphql`, { method: 'POST', headers, body });
    assert.equal(response.status, 400, body);
    assert.match(await response.text(), /INVALID_ARGUMENT/);
  }
});
