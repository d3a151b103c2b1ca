/** What is counted of operations: by fields of the schema and codes, never by what a caller chose; and who may see it. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { pino } from 'pino';
import { Fault } from '../../src/errors.js';
import { readMetricsToken, startMetricsListener } from '../../src/gateway/metricsEndpoint.js';
import { Telemetry } from '../../src/telemetry/telemetry.js';
import { parseExposition, sampled } from '../support/exposition.js';
import { type Answer, type GatewayUnderTest, gatewayUnderTest, onlyError } from '../support/gatewayUnderTest.js';
import { dial } from '../support/identified.js';
import { scratchDir } from '../support/scratch.js';

async function counted(t: TestContext) {
  const telemetry = new Telemetry();
  const { registry } = telemetry.metrics;
  const exposition = { contentType: registry.contentType, text: () => registry.metrics() };
  const gateway = await gatewayUnderTest(t, { telemetry, exposition });
  return { gateway, samples: () => scrape(gateway) };
}

async function scrape({ url }: Pick<GatewayUnderTest, 'url'>) {
  const response = await fetch(`${url}/metrics`, { headers: { connection: 'close' } });
  assert.equal(response.status, 200);
  assert.match(String(response.headers.get('content-type')), /^text\/plain; ?version=0\.0\.4/);
  return parseExposition(await response.text());
}

test('an operation counts for each of its root fields, under the name in the schema, with the code of its own error', async (t) => {
  const { gateway, samples } = await counted(t);
  gateway.services.onList = () => {
    throw new Fault('STORAGE_UNAVAILABLE', 'Storage is away');
  };
  await gateway.post(`query Chosen { x: instances { id } ...F ... on Query { two: backup(id: "full") { id } } }
    fragment F on Query { one: recovery(id: "rescue") { id } again: recovery(id: "rescue") { id } }`);
  const seen = await samples();
  const count = (field: string, code: string) =>
    sampled(seen, 'pitr_operations_total', { via: 'http', kind: 'query', field, code });
  assert.deepEqual(
    [
      count('recovery', 'OK'),
      count('backup', 'OK'),
      count('instances', 'STORAGE_UNAVAILABLE'),
      count('instances', 'OK'),
    ],
    [1, 1, 1, undefined],
  );
  assert.equal(sampled(seen, 'pitr_operation_duration_seconds_count', { field: 'instances' }), 1);
  assert.equal(sampled(seen, 'pitr_operations_running', { via: 'http' }), 0);
});

test('nothing that callers choose makes a new series', async (t) => {
  const { gateway, samples } = await counted(t);
  const { post, url } = gateway;
  const once = async (n: number) => {
    await post(`query Name${n} { alias${n}: instance(id: "id${n}") { id } }`);
    await post(`{ field${n} }`);
    await post(`query Name${n} {`);
    await post('', {}, { query: undefined, n });
    await fetch(`${url}/v1.0/demo/instances/id${n}?x=${n}`, { headers: { connection: 'close' } });
    await fetch(`${url}/nothing/${n}`, { headers: { connection: 'close' } });
    await fetch(`${url}/v1.0/demo/nothing/${n}`, { headers: { connection: 'close' } });
  };
  await once(1);
  const before = await samples();
  for (const n of [2, 3, 4]) await once(n);
  const after = await samples();
  const names = (list: typeof before) => list.map(({ name, labels }) => `${name} ${JSON.stringify(labels)}`);
  assert.deepEqual(names(after), names(before));
  const rest = { via: 'rest', kind: 'GET', field: '/v1.0/:tenantId/instances/:id', code: 'INSTANCE_NOT_FOUND' };
  assert.equal(sampled(after, 'pitr_operations_total', rest), 4);
  const refused = { via: 'http', kind: 'none', field: 'none', code: 'GRAPHQL_VALIDATION_FAILED' };
  assert.equal(sampled(after, 'pitr_operations_total', refused), 4);
  assert.equal(sampled(after, 'pitr_operations_total', { ...refused, code: 'BAD_REQUEST' }), 4);
});

test('subscriptions count when they end, are open before, and are no durations', async (t) => {
  const { gateway, samples } = await counted(t);
  const query = 'subscription { recoveryProgress(recoveryId: "rescue") { state } }';
  const subscribe = async () => {
    const line = await dial(t, gateway);
    await line.next();
    line.socket.send(JSON.stringify({ id: '1', type: 'subscribe', payload: { query } }));
    await line.next();
    return line;
  };
  const [orderly, abrupt] = [await subscribe(), await subscribe()];
  assert.equal(sampled(await samples(), 'pitr_operations_running', { via: 'websocket' }), 2);
  orderly.socket.send(JSON.stringify({ id: '1', type: 'complete' }));
  orderly.socket.close();
  abrupt.socket.terminate();
  await orderly.closed;
  let seen = await samples();
  for (const end = Date.now() + 10_000; sampled(seen, 'pitr_operations_running', { via: 'websocket' }) !== 0; ) {
    assert.ok(Date.now() < end, 'it is still open');
    seen = await samples();
  }
  const labels = { via: 'websocket', kind: 'subscription', field: 'recoveryProgress', code: 'OK' };
  assert.equal(sampled(seen, 'pitr_operations_total', labels), 2);
  assert.equal(sampled(seen, 'pitr_operation_duration_seconds_count', { kind: 'subscription' }), undefined);
});

test('what is left while it is answered, and what is refused, is not counted as running for ever', async (t) => {
  const { gateway, samples } = await counted(t);
  const running = async () => sampled(await samples(), 'pitr_operations_running', { via: 'websocket' });
  const line = await dial(t, gateway);
  await line.next();
  let letGo = () => {};
  gateway.services.onList = () => new Promise((resolve) => (letGo = resolve));
  for (const query of ['{ instances { id } }', '{ nothing }', '{ nothing }']) {
    line.socket.send(JSON.stringify({ id: '1', type: 'subscribe', payload: { query } }));
    line.socket.send(JSON.stringify({ id: '1', type: 'complete' }));
  }
  line.socket.send(JSON.stringify({ id: '1', type: 'subscribe', payload: { query: '{ __typename }' } }));
  while ((await line.next()).type !== 'complete');
  assert.equal(await running(), 1);
  letGo();
  for (const end = Date.now() + 10_000; (await running()) !== 0; ) assert.ok(Date.now() < end, 'it is still running');
});

const exposition = { contentType: 'text/plain; version=0.0.4; charset=utf-8', text: async () => 'up 1\n' };
const listening = { host: '127.0.0.1', port: 0, allowedHosts: [], exposition, logger: pino({ level: 'silent' }) };

test('on an address of its own a token may be asked for', async (t) => {
  const token = 'a token without spaces'.replaceAll(' ', '-');
  const { url, close } = await startMetricsListener({ ...listening, token });
  t.after(close);
  const ask = async (headers: Record<string, string>) =>
    (await fetch(url, { headers: { connection: 'close', ...headers } })).status;
  assert.equal(await ask({}), 401);
  assert.equal(await ask({ authorization: `Bearer ${token}x` }), 401);
  assert.equal(await ask({ authorization: `Basic ${token}` }), 401);
  assert.equal(await ask({ authorization: `Bearer ${token}` }), 200);
  assert.equal(
    (await fetch(url.replace('/metrics', '/graphql'), { headers: { authorization: `Bearer ${token}` } })).status,
    404,
  );
});

test('without one, a page whose name leads to loopback learns nothing', async (t) => {
  const { url, close } = await startMetricsListener({ ...listening, token: null });
  t.after(close);
  assert.equal((await fetch(url)).status, 200);
  const forged = request(url, { headers: { host: 'evil.example:80' } }).end();
  const [response] = await once(forged, 'response');
  response.resume();
  assert.equal(response.statusCode, 403);
});

test('what is asked wrongly of the address for metrics is told in the one shape, and is no trouble', async (t) => {
  const lines: string[] = [];
  const logger = pino({}, { write: (line: string) => lines.push(line) });
  const { url, close } = await startMetricsListener({ ...listening, token: null, logger });
  t.after(close);
  const json = { method: 'POST', headers: { 'content-type': 'application/json' }, body: 'x' };
  for (const [address, options, status] of [
    [url, json, 400],
    [url, { ...json, body: '{}' }, 404],
    [url.replace('/metrics', '/nothing'), {}, 404],
    [url.replace('/metrics', '/%zz'), {}, 400],
  ] as const) {
    const response = await fetch(address, options);
    const { errors } = (await response.json()) as Pick<Answer, 'errors'>;
    assert.equal(response.status, status);
    assert.equal(onlyError({ status, data: null, errors }).extensions.code, 'INVALID_ARGUMENT');
  }
  assert.deepEqual(lines, []);
});

test('a token for metrics is read from its file, and what is none is not repeated', async (t) => {
  const file = path.join(await scratchDir(t), 'token');
  await writeFile(file, 'abcdefghijklmnop\n');
  assert.equal(await readMetricsToken(file), 'abcdefghijklmnop');
  for (const text of ['', 'hunter2', 'hunter2 hunter2 hunter2', 'x'.repeat(513)]) {
    await writeFile(file, text);
    await assert.rejects(readMetricsToken(file), (error: Error) => !error.message.includes('hunter2'));
  }
  await assert.rejects(readMetricsToken(`${file}-missing`), /ENOENT/);
});
