/** The id of a request: the caller's or a new one, in the answer's header, in every error and in every line of the log. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request } from 'node:http';
import { connect } from 'node:net';
import { test } from 'node:test';
import { pino } from 'pino';
import { WebSocket } from 'ws';
import { Fault } from '../../src/errors.js';
import { requestFacts } from '../../src/requestScope.js';
import { gatewayUnderTest } from '../support/gatewayUnderTest.js';
import { dial, identifiedGateway } from '../support/identified.js';

type Refusal = { extensions: { requestId: string } };
type Sent = { status: number; header: string | null; ids: unknown[]; body: string };

async function send(url: string, id: string | null, body: string, path = '/graphql', type = 'application/json') {
  const response = await fetch(`${url}${path}`, {
    method: 'POST',
    headers: { 'content-type': type, connection: 'close', ...(id !== null && { 'x-request-id': id }) },
    body,
  });
  const text = await response.text();
  const { errors = [] } = JSON.parse(text) as { errors?: { extensions: { requestId: unknown } }[] };
  const ids = errors.map(({ extensions }) => extensions.requestId);
  return { status: response.status, header: response.headers.get('x-request-id'), ids, body: text } satisfies Sent;
}

const query = (text: string) => JSON.stringify({ query: text });

test('a usable id of the caller is taken over into header, errors and log; every refusal has one', async (t) => {
  const { url, services, log } = await gatewayUnderTest(t);
  services.onList = () => {
    throw new Fault('STORAGE_UNAVAILABLE', 'Storage is away', { cause: new Error('unplugged') });
  };
  const failed = await send(url, 'shop:2026-11.22_a', query('{ instances { id } }'));
  assert.deepEqual([failed.header, failed.ids], ['shop:2026-11.22_a', ['shop:2026-11.22_a']]);
  const lines = log.filter(({ requestId }) => requestId === 'shop:2026-11.22_a').map(({ msg }) => msg);
  assert.deepEqual(lines.sort(), ['operation', 'operation failed']);

  const refusals: [name: string, body: string, path?: string, type?: string][] = [
    ['a syntax error', query('{')],
    ['an unknown field', query('{ nothing }')],
    ['no document', '{}'],
    ['no JSON', '{"query":'],
    ['no media type of ours', 'query', '/graphql', 'text/plain'],
    ['nothing there', '{}', '/nothing'],
  ];
  for (const [name, ...request] of refusals) {
    const { header, ids } = await send(url, 'mine', ...request);
    assert.deepEqual([header, ids], ['mine', ['mine']], name);
  }
});

test('what is not usable is replaced, and two are none', async (t) => {
  const { url, port } = await gatewayUnderTest(t);
  for (const bad of ['', ' ', 'a b', '<script>', 'ä', '"', `x${'y'.repeat(128)}`, '-dash', 'a\u00a0b']) {
    const { header, ids } = await send(url, Buffer.from(bad).toString('latin1'), query('{ nothing }'));
    assert.match(String(header), /^[0-9a-f]{8}-[0-9a-f]{4}-7/, bad);
    assert.deepEqual(ids, [header]);
  }
  const longest = `x${'y'.repeat(127)}`;
  assert.equal((await send(url, longest, query('{ nothing }'))).header, longest);
  const answer = await new Promise<string>((resolve, reject) => {
    let text = '';
    const socket = connect(port, '127.0.0.1', () =>
      socket.write(
        `GET /healthz HTTP/1.1\r\nhost: localhost:${port}\r\nx-request-id: a\r\nx-request-id: b\r\nconnection: close\r\n\r\n`,
      ),
    );
    socket.on('data', (data) => {
      text += data;
    });
    socket.on('end', () => resolve(text)).on('error', reject);
  });
  assert.match(answer, /x-request-id: [0-9a-f-]{36}\r\n/);
});

test('the REST interface has it in its errors too', async (t) => {
  const { url } = await gatewayUnderTest(t);
  const response = await fetch(`${url}/v1.0/demo/instances/none`, { headers: { 'x-request-id': 'rest-1' } });
  const body = (await response.json()) as { itemNotFound: { fault: { requestId: string } } };
  assert.equal(body.itemNotFound.fault.requestId, 'rest-1');
  assert.equal(response.headers.get('x-request-id'), 'rest-1');
  assert.equal(response.headers.get('x-openstack-request-id'), 'req-rest-1');
});

test('each operation of a WebSocket has its own, which its client may choose', async (t) => {
  const { port, log } = await gatewayUnderTest(t);
  const { socket, next } = await dial(t, { port });
  await next();
  const ask = async (id: string, text: string, extensions?: object) => {
    socket.send(JSON.stringify({ id, type: 'subscribe', payload: { query: text, extensions } }));
    let message = await next();
    if (message.type === 'complete') message = await next(); // Of the one before.
    const payload = message.payload as Refusal[] | { errors: Refusal[] };
    const [error] = Array.isArray(payload) ? payload : payload.errors;
    return error?.extensions.requestId;
  };
  assert.equal(await ask('1', '{ nothing }', { requestId: 'over-ws' }), 'over-ws');
  const made = await ask('2', 'subscription { recoveryProgress(recoveryId: "none") { state } }');
  assert.match(String(made), /^[0-9a-f-]{36}$/);
  assert.match(String(await ask('3', '{', { requestId: 'not usable' })), /^[0-9a-f-]{36}$/);
  const lines = log.filter(({ msg }) => msg === 'operation').map(({ requestId }) => requestId);
  assert.deepEqual(lines.slice(0, 2), ['over-ws', made]);
});

test('a refused upgrade or connection has one, in its answer and in the log', async (t) => {
  const { url, port } = await gatewayUnderTest(t);
  const upgrade = new WebSocket(`${url.replace('http', 'ws')}/nowhere`, 'graphql-transport-ws', {
    headers: { 'x-request-id': 'upgrade-1' },
  });
  const [response] = await new Promise<[import('node:http').IncomingMessage]>((resolve) => {
    upgrade.on('unexpected-response', (_request, answer) => resolve([answer]));
    upgrade.on('error', () => undefined);
  });
  let body = '';
  for await (const chunk of response) body += chunk;
  assert.equal(response.headers['x-request-id'], 'upgrade-1');
  assert.match(body, /"requestId":"upgrade-1"/);
  assert.ok(port);

  const { port: closed, log } = await identifiedGateway(t, { tokensFile: '/dev/null' });
  const { closed: ended } = await dial(t, { port: closed }, {}, { 'x-request-id': 'dial-1' });
  assert.equal((await ended).code, 4403);
  assert.equal(log.find(({ msg }) => msg === 'connection refused')?.requestId, 'dial-1');
});

test('lines that know nothing of requests carry the id while theirs lasts, and not after', async (t) => {
  const lines: Record<string, unknown>[] = [];
  const inner = pino({ mixin: requestFacts }, { write: (line: string) => lines.push(JSON.parse(line)) });
  const { url, services } = await gatewayUnderTest(t);
  const later = deferred();
  services.onList = () => {
    inner.info('inside');
    later.promise.then(() => inner.info('after'));
  };
  await Promise.all(['one', 'two'].map((id) => send(url, id, query('{ instances { id } }'))));
  const { port } = new URL(url);
  // A body that comes later, in a packet of its own.
  const body = query('{ instances { id } }');
  const slow = request(`${url}/graphql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'content-length': body.length, 'x-request-id': 'slow' },
  });
  slow.flushHeaders();
  await once(slow, 'socket');
  await new Promise((resolve) => setTimeout(resolve, 50));
  slow.end(body);
  const [answer] = await once(slow, 'response');
  answer.resume();
  await once(answer, 'end');
  const { socket, next } = await dial(t, { port: Number(port) });
  await next();
  const payload = { query: '{ instances { id } }', extensions: { requestId: 'three' } };
  socket.send(JSON.stringify({ id: '1', type: 'subscribe', payload }));
  await next();
  await next();
  const inside = lines.map(({ msg, requestId }) => `${msg} ${requestId}`);
  assert.deepEqual(inside.sort(), ['inside one', 'inside slow', 'inside three', 'inside two']);
  lines.length = 0;
  later.resolve(undefined);
  await later.promise;
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(
    lines.map(({ msg, requestId }) => `${msg} ${requestId}`),
    Array(4).fill('after undefined'),
  );
});

function deferred() {
  let resolve: (value: unknown) => void = () => undefined;
  const promise = new Promise((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}
