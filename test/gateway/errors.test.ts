/** Every way a request can go wrong has one shape, the right code, and gives nothing away. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { test } from 'node:test';
import { Fault } from '../../src/errors.js';
import { password } from '../support/gatewayRows.js';
import { gatewayUnderTest, onlyError, raw } from '../support/gatewayUnderTest.js';

test('a Fault keeps its code, hint, details and message', async (t) => {
  const { post, services, log } = await gatewayUnderTest(t);
  services.onList = () => {
    const cause = new Error('the disk is on fire');
    throw new Fault('STORAGE_UNAVAILABLE', 'Storage is away', { hint: 'Look at it.', details: { object: 'a' }, cause });
  };
  const error = onlyError(await post('{ instances { id } }'));
  assert.equal(error.message, 'Storage is away');
  assert.deepEqual(error.path, ['instances']);
  const { requestId, ...extensions } = error.extensions;
  assert.ok(requestId);
  assert.deepEqual(extensions, {
    code: 'STORAGE_UNAVAILABLE',
    hint: 'Look at it.',
    retryable: true,
    details: { object: 'a' },
  });
  assert.match(JSON.stringify(log), /the disk is on fire/);
});

test('the log takes the stack of an error and its causes, and none of what else they carry', async (t) => {
  const { post, services, log } = await gatewayUnderTest(t);
  services.onList = () => {
    const cause = Object.assign(new Error('constraint failed'), { parameters: [password] });
    throw Object.assign(new Error('query failed', { cause }), { query: password });
  };
  await post('{ instances { id } }');
  const text = JSON.stringify(log);
  assert.match(text, /query failed.*constraint failed/);
  assert.doesNotMatch(text, new RegExp(password));
});

test('what nobody foresaw is INTERNAL, says nothing, and is logged with its stack under the request id', async (t) => {
  const { url, services, log } = await gatewayUnderTest(t);
  services.onList = () => {
    throw new TypeError(`cannot read ${password}`);
  };
  const response = await fetch(`${url}/graphql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', connection: 'close' },
    body: JSON.stringify({ query: 'query Broken { instances { id } }' }),
  });
  const text = await response.text();
  assert.match(text, /"code":"INTERNAL"/);
  assert.doesNotMatch(text, /TypeError|cannot read|stack|memoryServices/i);
  const line = log.find(({ msg }) => msg === 'operation failed');
  assert.equal(line?.requestId, response.headers.get('x-request-id'));
  assert.match(JSON.stringify(line?.err), /TypeError: cannot read .*\\n\s+at /);
  const operation = log.find(({ msg }) => msg === 'operation');
  assert.deepEqual(operation?.codes, ['INTERNAL']);
  assert.equal(operation?.operation, 'Broken');
});

const mistakes: [name: string, code: string, query: string, variables?: Record<string, unknown>][] = [
  ['a syntax error', 'GRAPHQL_PARSE_FAILED', '{ instances { id }'],
  ['an unknown field', 'GRAPHQL_VALIDATION_FAILED', '{ instances { password } }'],
  ['a variable of the wrong type', 'BAD_USER_INPUT', 'query ($n: Int!) { instances(first: $n) { id } }', { n: 'x' }],
  ['a missing variable', 'BAD_USER_INPUT', 'query ($id: ID!) { instance(id: $id) { id } }'],
  ['null for what must be there', 'BAD_USER_INPUT', 'query ($n: Int) { instances(first: $n) { id } }', { n: null }],
  ['an unknown operation', 'OPERATION_RESOLUTION_FAILURE', 'query A { __typename } query B { __typename }'],
];
for (const [name, code, query, variables] of mistakes) {
  test(`${name} is ${code}, in the one shape`, async (t) => {
    const { post, log } = await gatewayUnderTest(t);
    const { requestId: _, ...extensions } = onlyError(await post(query, variables)).extensions;
    assert.deepEqual({ ...extensions, hint: null }, { code, hint: null, retryable: false, details: {} });
    assert.equal(typeof extensions.hint, 'string');
    assert.deepEqual(
      log.filter(({ level }) => Number(level) >= 40),
      [],
      'no warning for a mistake of the caller',
    );
  });
}

test('very many mistakes in variables are mistakes still, also the one that says that there are more', async (t) => {
  const { post, log } = await gatewayUnderTest(t);
  const states = Array.from({ length: 1_000 }, () => null);
  const { errors } = await post('query ($s: [RecoveryState!]) { recoveries(states: $s) { id } }', { s: states });
  assert.match(String(errors?.at(-1)?.message), /Too many errors/);
  assert.deepEqual([...new Set(errors?.map(({ extensions }) => extensions.code))], ['BAD_USER_INPUT']);
  assert.deepEqual(
    log.filter(({ level }) => Number(level) >= 40),
    [],
  );
});

const DEEPEST = 12;

test('a document nests up to the limit and no deeper, through fragments too', async (t) => {
  const { post } = await gatewayUnderTest(t);
  const nested = (depth: number) => `{ backup(id: "full") ${chain(depth - 1)} }`;
  const chain = (depth: number): string => (depth === 1 ? '{ id }' : `{ parent ${chain(depth - 1)} }`);
  assert.equal((await post(nested(DEEPEST))).errors, undefined);
  const tooDeep = onlyError(await post(nested(DEEPEST + 1)));
  assert.equal(tooDeep.extensions.code, 'GRAPHQL_VALIDATION_FAILED');
  assert.match(tooDeep.message, /13 fields deep; 12/);
  const spread = `fragment Deep on DatabaseBackup ${chain(DEEPEST)} { backup(id: "full") { ...Deep } }`;
  assert.equal(onlyError(await post(spread)).extensions.code, 'GRAPHQL_VALIDATION_FAILED');
});

test('a fragment that spreads itself is refused and not followed for ever', async (t) => {
  const { post } = await gatewayUnderTest(t);
  const loop = 'fragment Loop on DatabaseBackup { parent { ...Loop } } { backup(id: "full") { ...Loop } }';
  assert.match(onlyError(await post(loop)).message, /Cannot spread fragment/);
});

test('a document of very many tokens is not read to its end', async (t) => {
  const { post } = await gatewayUnderTest(t);
  const error = onlyError(await post(`{ instances(first: ${'1 '.repeat(20_000)}) { id } }`));
  assert.equal(error.extensions.code, 'GRAPHQL_PARSE_FAILED');
});

test('what is no GraphQL request at all is refused in the same shape', async (t) => {
  const { url } = await gatewayUnderTest(t);
  const send = async (body: string, type = 'application/json', method = 'POST') => {
    const headers = { 'content-type': type, connection: 'close' };
    const response = await fetch(`${url}/graphql`, { method, headers, ...(method === 'POST' && { body }) });
    const answer = (await response.json()) as { errors: { message: string; extensions: Record<string, unknown> }[] };
    onlyError({ status: response.status, data: null, errors: answer.errors });
    return [response.status, answer.errors[0]?.extensions.code];
  };
  assert.deepEqual(await send('{'), [400, 'INVALID_ARGUMENT']);
  assert.deepEqual(await send('{}'), [400, 'BAD_REQUEST']);
  assert.deepEqual(await send('[{"query":"{__typename}"}]'), [400, 'BAD_REQUEST']);
  assert.deepEqual(await send('query={__typename}', 'text/plain'), [400, 'BAD_REQUEST']);
  assert.deepEqual(await send(JSON.stringify({ query: ' '.repeat(1024 * 1024) })), [413, 'INVALID_ARGUMENT']);
  const nowhere = await fetch(`${url}/nowhere`, { headers: { connection: 'close' } });
  assert.equal(nowhere.status, 404);
  assert.match(await nowhere.text(), /GraphQL is at \/graphql/);
});

test('an address that cannot be read is refused in the one shape, and not repeated', async (t) => {
  const { port } = await gatewayUnderTest(t);
  for (const [address, status] of [
    ['/%ff%zz', 400],
    ['/v1.0/demo/instances/%zz', 400],
    [`/v1.0/demo/instances/zz${'z'.repeat(1_000)}`, 414],
  ] as const) {
    const answer = await raw(port, `GET ${address} HTTP/1.1\r\nhost: localhost:${port}\r\nconnection: close\r\n\r\n`);
    assert.equal(answer.status, status);
    assert.doesNotMatch(answer.body, /zz/);
    const { errors } = JSON.parse(answer.body);
    const { extensions } = onlyError({ status, data: null, errors });
    assert.deepEqual([extensions.code, typeof extensions.hint], ['INVALID_ARGUMENT', 'string']);
  }
});

test('a request that does not arrive is not waited for', async (t) => {
  const { port } = await gatewayUnderTest(t, { requestMs: 500 });
  const socket = connect(port, '127.0.0.1');
  t.after(() => socket.destroy());
  socket.write('POST /graphql HTTP/1.1\r\ncontent-length: 100\r\n\r\n{');
  socket.resume();
  await once(socket, 'close', { signal: AbortSignal.timeout(20_000) });
});

test('a simple request that a foreign page could send is refused', async (t) => {
  const { url } = await gatewayUnderTest(t);
  const query = encodeURIComponent('{ instances { id } }');
  const get = await fetch(`${url}/graphql?query=${query}`, { headers: { connection: 'close' } });
  assert.equal(get.status, 400);
  assert.match(await get.text(), /Cross-Site Request Forgery/);
});

test('introspection is on', async (t) => {
  const { post } = await gatewayUnderTest(t);
  const { data } = await post('{ __schema { queryType { name } } }');
  assert.deepEqual(data, { __schema: { queryType: { name: 'Query' } } });
});
