/** The limits as a client meets them: alike over HTTP, WebSocket, event streams and REST. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { getIntrospectionQuery } from 'graphql';
import { type GatewayUnderTest, gatewayUnderTest, onlyError } from '../../support/gatewayUnderTest.js';
import { bearer, dial, identifiedGateway, watchRescue } from '../../support/identified.js';
import { scratchDir } from '../../support/scratch.js';

interface Refusal {
  code: string | undefined;
  details: Record<string, unknown>;
}
type Ask = (t: { after(done: () => unknown): void }, gateway: GatewayUnderTest, query: string) => Promise<Refusal>;

const headers = { 'content-type': 'application/json', connection: 'close' };
const first = (errors?: { extensions: Refusal }[]): Refusal =>
  errors?.[0]?.extensions ?? { code: undefined, details: {} };

/** One operation each way; the first refusal, if there is one. */
const ways: Record<string, Ask> = {
  async HTTP(_t, { post }, query) {
    return first((await post(query)).errors as never);
  },
  async WebSocket(t, gateway, query) {
    const line = await dial(t, gateway);
    assert.equal((await line.next()).type, 'connection_ack');
    line.socket.send(JSON.stringify({ id: '1', type: 'subscribe', payload: { query } }));
    const { type, payload } = await line.next();
    line.socket.close();
    if (type === 'error') return first(payload as never);
    return first((payload as { errors?: never }).errors);
  },
  async 'event stream'(_t, { url }, query) {
    const body = JSON.stringify({ query });
    const response = await fetch(`${url}/graphql`, {
      method: 'POST',
      headers: { ...headers, accept: 'text/event-stream' },
      body,
    });
    const [, data = '{}'] = /^data: (\{.*)$/m.exec(await response.text()) ?? [];
    return first(JSON.parse(data).errors);
  },
};

const aliased = `{ ${Array.from({ length: 4 }, (_, index) => `a${index}: __typename`).join(' ')} }`;
const refused: [name: string, limits: object, query: string, code: string][] = [
  ['cost', { cost: 40 }, '{ instances { id } }', 'OPERATION_TOO_COSTLY'],
  ['aliases', { aliases: 3 }, aliased, 'GRAPHQL_VALIDATION_FAILED'],
  ['depth', { depth: 2 }, '{ backup(id: "a") { parent { id } } }', 'GRAPHQL_VALIDATION_FAILED'],
  ['introspection', { introspection: false }, getIntrospectionQuery(), 'GRAPHQL_VALIDATION_FAILED'],
  ['introspection', { introspection: false }, '{ __type(name: "Query") { name } }', 'GRAPHQL_VALIDATION_FAILED'],
  ['brackets', {}, `{ ${'a {'.repeat(101)} b ${'}'.repeat(101)} }`, 'GRAPHQL_PARSE_FAILED'],
  ['brackets', {}, `{ instances(first: ${'['.repeat(4_900)}${']'.repeat(4_900)}) { id } }`, 'GRAPHQL_PARSE_FAILED'],
  ['repeated fields', {}, `{ ${'__typename '.repeat(102)} }`, 'OPERATION_TOO_COSTLY'],
  ['inline fragments', {}, `{ ${'...{ instances { id } } '.repeat(102)} }`, 'OPERATION_TOO_COSTLY'],
  ['typed ones', {}, `{ ${'... on Query @include(if: true) { a: __typename } '.repeat(102)} }`, 'OPERATION_TOO_COSTLY'],
  [
    'spreads',
    {},
    `{ ${'...F @skip(if: true) '.repeat(102)} } fragment F on Query { __typename }`,
    'OPERATION_TOO_COSTLY',
  ],
  ['fragments', {}, `{ ...F } ${'fragment F on Query { __typename } '.repeat(50)}`, 'OPERATION_TOO_COSTLY'],
  ['tokens', {}, `{ instances(states: [${'A '.repeat(10_001)}]) }`, 'GRAPHQL_PARSE_FAILED'],
  ['list in memory', {}, `{ _entities(representations: [${'{},'.repeat(2_500)}]) { __typename } }`, 'INVALID_ARGUMENT'],
];
for (const [over, ask] of Object.entries(ways)) {
  test(`over ${over} every limit on documents holds, and just below it holds nobody up`, async (t) => {
    for (const [name, limits, query, code] of refused) {
      const gateway = await gatewayUnderTest(t, { limits });
      assert.equal((await ask(t, gateway, query)).code, code, `${name}: ${query.slice(0, 80)}`);
    }
    const exact = await gatewayUnderTest(t, { limits: { cost: 55, aliases: 4, depth: 2, introspection: false } });
    for (const query of ['{ instances { id } }', aliased, '{ _service { sdl } }']) {
      assert.equal((await ask(t, exact, query.includes('sdl') ? '{ __typename }' : query)).code, undefined, query);
    }
  });

  test(`over ${over} an operation that takes too long is answered all the same`, async (t) => {
    const gateway = await gatewayUnderTest(t, { limits: { operationMs: 150 } });
    const { services } = gateway;
    let letGo = () => {};
    services.onList = () => new Promise((resolve) => (letGo = resolve));
    assert.equal((await ask(t, gateway, '{ instances { id } }')).code, 'OPERATION_TIMED_OUT');
    letGo();
    services.onList = () => undefined;
    assert.equal((await ask(t, gateway, '{ instances { id } }')).code, undefined);
  });
}

test('what is written often, but not beside its like, is no repetition', async (t) => {
  const { post } = await gatewayUnderTest(t);
  const many = (of: (index: number) => string) => Array.from({ length: 300 }, (_, index) => of(index)).join(' ');
  const alike = 'backups(first: 1) @include(if: true) { id } recoveries(first: 1) { id }';
  for (const query of [
    `{ ${'...{ instances { id } } '.repeat(101)} }`,
    `{ ${many((index) => `a${index}: instance(id: "a") { ...F }`)} } fragment F on DatabaseInstance { id ${alike} }`,
    `query ($a: Boolean = true) { ${many((index) => `a${index}: __typename @include(if: $a)`)} }`,
    `{ _entities(representations: [${'{ __typename: "Recovery", id: "a" }, '.repeat(200)}]) { ... on Recovery { id } } }`,
    `{ ${'... on Query { ...F } '.repeat(101)} on: __typename } fragment F on Query { on: __typename }`,
  ]) {
    assert.equal((await post(query)).errors, undefined, query.slice(0, 80));
  }
});

test('what repeats too much says so before anything is compared', async (t) => {
  const { post } = await gatewayUnderTest(t);
  const { message, extensions } = onlyError(await post(`{ ${'...{ instances { id } } '.repeat(1_400)} }`));
  assert.match(message, /repeats fields or fragments beside one another more than 100 times/);
  assert.deepEqual(extensions.details, { limit: 'repeats', most: 100 });
  assert.match(String(extensions.hint), /once/);
});

test('_service answers where introspection is off: federated gateways compose from it', async (t) => {
  const { post } = await gatewayUnderTest(t, { limits: { introspection: false } });
  assert.match(JSON.stringify((await post('{ _service { sdl } }')).data), /type DatabaseInstance @key/);
});

test('too many operations: 429 with Retry-After over HTTP and REST, an error over WebSocket, one count for all', async (t) => {
  // One at once, and the next in ten seconds: time enough for what follows. The connection is the one.
  const { url, ...gateway } = await gatewayUnderTest(t, { limits: { rate: 0.1 } });
  const line = await dial(t, gateway);
  await line.next();
  const response = await fetch(`${url}/graphql`, { method: 'POST', headers, body: '{"query":"{ __typename }"}' });
  assert.equal(response.status, 429);
  assert.match(String(response.headers.get('retry-after')), /^[1-9]\d*$/);
  const { errors } = (await response.json()) as { errors: { extensions: Refusal }[] };
  const { code, details } = first(errors);
  assert.equal(code, 'TOO_MANY_REQUESTS');
  assert.ok(Date.parse(String(details.retryAt)) > Date.now() - 5_000);
  const rest = await fetch(`${url}/v1.0/any/instances`, { headers });
  assert.equal(rest.status, 429);
  assert.match(String(rest.headers.get('retry-after')), /^[1-9]\d*$/);
  assert.match(await rest.text(), /"overLimit":\{"code":429/);
  line.socket.send(JSON.stringify({ id: '1', type: 'subscribe', payload: { query: '{ __typename }' } }));
  assert.match(JSON.stringify(await line.next()), /"type":"error".*TOO_MANY_REQUESTS.*retryAt/);
  const refusedLine = await dial(t, gateway);
  assert.equal((await refusedLine.closed).code, 1013);
  // The health checks are nobody's operations.
  assert.equal((await fetch(`${url}/healthz`, { headers })).status, 200);
});

test('at the instant that a refusal names it works again', async (t) => {
  const gateway = await gatewayUnderTest(t, { limits: { rate: 0.3 } });
  let refusal: Refusal = { code: undefined, details: {} };
  for (let count = 0; refusal.code === undefined && count < 100; count++) {
    refusal = first((await gateway.post('{ __typename }')).errors as never);
  }
  assert.equal(refusal.code, 'TOO_MANY_REQUESTS');
  await delay(Date.parse(String(refusal.details.retryAt)) - Date.now() + 20);
  assert.equal((await gateway.post('{ __typename }')).status, 200);
});

test('with tokens each holder has a count of its own', async (t) => {
  const file = path.join(await scratchDir(t), 'tokens');
  const names = ['ann', 'bob'];
  const lines = names.map((name) => {
    const sha256 = createHash('sha256').update(name).digest('hex');
    return JSON.stringify({ name, tenant: 'shop', role: 'reader', sha256 });
  });
  await writeFile(file, lines.join('\n'));
  const { url } = await identifiedGateway(t, { tokensFile: file }, { rate: 0.1 });
  const ask = async (token: string) => {
    const body = '{"query":"{ __typename }"}';
    return (await fetch(`${url}/graphql`, { method: 'POST', headers: { ...headers, ...bearer(token) }, body })).status;
  };
  const statuses: number[] = [];
  while (statuses.at(-1) !== 429 && statuses.length < 100) statuses.push(await ask('ann'));
  assert.equal(statuses.at(-1), 429);
  assert.equal(await ask('bob'), 200);
});

test('connections and operations on them are bounded, and a place that was left is free again', async (t) => {
  const gateway = await gatewayUnderTest(t, { limits: { connections: 2, subscriptions: 2 } });
  const one = await dial(t, gateway);
  const two = await dial(t, gateway);
  assert.deepEqual([(await one.next()).type, (await two.next()).type], ['connection_ack', 'connection_ack']);
  const three = await dial(t, gateway);
  const { code, reason } = await three.closed;
  assert.equal(code, 1013);
  assert.match(reason, /TOO_MANY_REQUESTS: 2 connections/);
  const stream = await fetch(`${gateway.url}/graphql`, {
    method: 'POST',
    headers: { ...headers, accept: 'text/event-stream' },
    body: '{"query":"{ __typename }"}',
  });
  assert.equal(stream.status, 429);

  const watch = (id: string) => watchRescue.replace('"watch"', JSON.stringify(id));
  one.socket.send(watch('1'));
  assert.equal((await one.next()).type, 'next');
  two.socket.send(watch('2'));
  assert.equal((await two.next()).type, 'next');
  two.socket.send(watch('3'));
  assert.match(JSON.stringify(await two.next()), /"type":"error".*"limit":"subscriptions","most":2/);
  // Left by its client, the place is free; so is that of a connection that goes.
  const left = once(gateway.services.watchers[0] as AbortSignal, 'abort');
  one.socket.send(JSON.stringify({ id: '1', type: 'complete' }));
  await left;
  two.socket.send(watch('4'));
  assert.equal((await two.next()).type, 'next');
  one.socket.close();
  await one.closed;
  await eventually(async () => {
    const four = await dial(t, gateway);
    return (await four.next().catch(() => ({ type: 'none' }))).type === 'connection_ack';
  });
});

test('places are given back by operations that are left while they are answered, whatever comes under their ids', async (t) => {
  const gateway = await gatewayUnderTest(t, { limits: { subscriptions: 2 } });
  const line = await dial(t, gateway);
  await line.next();
  const send = (query: string) => line.socket.send(JSON.stringify({ id: '1', type: 'subscribe', payload: { query } }));
  const complete = () => line.socket.send(JSON.stringify({ id: '1', type: 'complete' }));
  for (let time = 0; time < 3; time++) {
    const held: (() => void)[] = [];
    gateway.services.onList = () => new Promise((resolve) => held.push(resolve));
    send('{ instances { id } }');
    complete();
    send('{ __typename }');
    // The answer of the second, whatever becomes of the first; and its own end.
    assert.deepEqual(await line.next(), { id: '1', type: 'next', payload: { data: { __typename: 'Query' } } });
    assert.deepEqual(await line.next(), { id: '1', type: 'complete' });
    for (const letGo of held) letGo();
    await eventually(async () => {
      send('{ a: __typename }');
      const { type } = await line.next();
      if (type === 'next') await line.next();
      return type === 'next';
    });
  }
  // One that is refused has ended, even where its client has gone on before it was told.
  for (let time = 0; time < 20; time++) {
    send('{ nothing }');
    complete();
  }
  send('{ b: __typename }');
  const seen: string[] = [];
  while (seen.at(-1)?.includes('"b"') !== true) seen.push(JSON.stringify(await line.next()));
  assert.doesNotMatch(seen.join(), /TOO_MANY/);
});

test('a document that is known by its hash is asked for by it alone, over every way', async (t) => {
  const gateway = await gatewayUnderTest(t);
  const query = '{ instances { id } }';
  const sha256Hash = createHash('sha256').update(query).digest('hex');
  const extensions = { persistedQuery: { version: 1, sha256Hash } };
  const unknown = await gateway.post('', undefined, { query: undefined, extensions });
  assert.deepEqual([unknown.status, unknown.errors?.[0]?.message], [200, 'PersistedQueryNotFound']);
  assert.equal(unknown.errors?.[0]?.extensions.code, 'PERSISTED_QUERY_NOT_FOUND');
  const wrong = await gateway.post('{ __typename }', undefined, { extensions });
  assert.deepEqual([wrong.status, wrong.errors?.[0]?.extensions.code], [400, 'BAD_REQUEST']);
  assert.equal((await gateway.post(query, undefined, { extensions })).errors, undefined);
  const known = await gateway.post('', undefined, { query: undefined, extensions });
  assert.deepEqual(known.data, { instances: [{ id: 'shop' }] });

  const parameters = new URLSearchParams({ extensions: JSON.stringify(extensions) });
  const get = await fetch(`${gateway.url}/graphql?${parameters}`, { headers: { ...headers, accept: '*/*' } });
  assert.deepEqual(await get.json(), { data: { instances: [{ id: 'shop' }] } });

  const line = await dial(t, gateway);
  await line.next();
  line.socket.send(JSON.stringify({ id: '1', type: 'subscribe', payload: { query: '', extensions } }));
  assert.deepEqual((await line.next()).payload, { data: { instances: [{ id: 'shop' }] } });
});

test('a document is kept for its own tenant alone', async (t) => {
  const file = path.join(await scratchDir(t), 'tokens');
  const lines = ['shop', 'rival'].map((tenant) => {
    const sha256 = createHash('sha256').update(tenant).digest('hex');
    return JSON.stringify({ name: tenant, tenant, role: 'admin', sha256 });
  });
  await writeFile(file, lines.join('\n'));
  const { url } = await identifiedGateway(t, { tokensFile: file });
  const query = '{ instances { id } }';
  const sha256Hash = createHash('sha256').update(query).digest('hex');
  const ask = async (tenant: string, body: object) => {
    const sent = JSON.stringify({ ...body, extensions: { persistedQuery: { version: 1, sha256Hash } } });
    const response = await fetch(`${url}/graphql`, {
      method: 'POST',
      headers: { ...headers, ...bearer(tenant) },
      body: sent,
    });
    return JSON.stringify(await response.json());
  };
  assert.match(await ask('shop', { query }), /"data"/);
  assert.match(await ask('shop', {}), /"data"/);
  assert.match(await ask('rival', {}), /PERSISTED_QUERY_NOT_FOUND/);
});

for (const [over, ask] of Object.entries(ways)) {
  test(`over ${over} with a list of operations nothing else is executed`, async (t) => {
    const query = '{ instances { id } }';
    const safelist = new Map([[createHash('sha256').update(query).digest('hex'), query]]);
    const gateway = await gatewayUnderTest(t, { limits: { safelist } });
    assert.equal((await ask(t, gateway, query)).code, undefined);
    assert.equal((await ask(t, gateway, '{ instances { id name } }')).code, 'FORBIDDEN');
    assert.equal((await ask(t, gateway, '{ __typename }')).code, 'FORBIDDEN');
  });
}

async function eventually(holds: () => Promise<boolean>): Promise<void> {
  for (const deadline = Date.now() + 10_000; !(await holds()); await delay(50)) {
    assert.ok(Date.now() < deadline, 'it never came to be');
  }
}
