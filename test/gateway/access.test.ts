/** Host and Origin, as raw bytes: what a browser can be made to send is refused, for HTTP and for WebSockets. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gatewayUnderTest, raw } from '../support/gatewayUnderTest.js';

const query = JSON.stringify({ query: '{ __typename }' });

function post(headers: string[]): string {
  const fixed = ['content-type: application/json', `content-length: ${query.length}`, 'connection: close'];
  return `${['POST /graphql HTTP/1.1', ...headers, ...fixed].join('\r\n')}\r\n\r\n${query}`;
}

function upgrade(headers: string[], path = '/graphql'): string {
  const fixed = [
    'upgrade: websocket',
    'connection: upgrade',
    'sec-websocket-version: 13',
    'sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==',
    // A protocol that is not spoken: an upgrade that is let in is closed at once, and the socket with it.
    'sec-websocket-protocol: other',
  ];
  return `${[`GET ${path} HTTP/1.1`, ...headers, ...fixed].join('\r\n')}\r\n\r\n`;
}

test('only the names and pages of our own are served', async (t) => {
  const { port } = await gatewayUnderTest(t);
  const here = `host: localhost:${port}`;
  const cases: [headers: string[], allowed: boolean][] = [
    [[here], true],
    [[`host: LOCALHOST:${port}`], true],
    [[`host: 127.0.0.1:${port}`], true],
    [[`host: [::1]:${port}`], true],
    [['host: localhost'], false],
    [[`host: localhost:${port + 1}`], false],
    [[`host: rebound.example.com:${port}`], false],
    [[`host: localhost.example.com:${port}`], false],
    [[`host: localhost:${port}@example.com`], false],
    [[`host: `], false],
    [[here, `origin: http://localhost:${port}`], true],
    [[here, `origin: http://127.0.0.1:${port}`], false],
    [[here, 'origin: http://localhost:1'], false],
    [[here, 'origin: https://example.com'], false],
    [[here, 'origin: null'], false],
    [[here, `origin: http://localhost:${port}`, 'origin: https://example.com'], false],
  ];
  for (const [headers, allowed] of cases) {
    const http = await raw(port, post(headers));
    assert.equal(http.status, allowed ? 200 : 403, headers.join(', '));
    const socket = await raw(port, upgrade(headers));
    assert.equal(socket.status, allowed ? 101 : 403, `upgrade, ${headers.join(', ')}`);
    if (allowed) continue;
    for (const { body } of [http, socket]) {
      const { errors } = JSON.parse(body) as { errors: { extensions: Record<string, unknown> }[] };
      assert.equal(errors[0]?.extensions.code, 'FORBIDDEN');
      assert.match(String(errors[0]?.extensions.hint), /allowed/);
    }
  }
  assert.equal((await raw(port, `GET / HTTP/1.1\r\nhost: example.com\r\nconnection: close\r\n\r\n`)).status, 403);
  assert.equal((await raw(port, upgrade([here], '/elsewhere'))).status, 404);
  const two = await raw(port, post([here, 'host: example.com']));
  assert.ok([400, 403].includes(two.status), String(two.status));
});

test('configured names and pages are served, and their browsers told so', async (t) => {
  const allowedOrigins = ['https://console.example.com'];
  const { port } = await gatewayUnderTest(t, { allowedHosts: ['Gateway.example.com', 'other:99'], allowedOrigins });
  const host = 'host: gateway.example.com';
  assert.equal((await raw(port, post([host]))).status, 200);
  assert.equal((await raw(port, post([`${host}:8443`]))).status, 200);
  assert.equal((await raw(port, post(['host: other:99']))).status, 200);
  assert.equal((await raw(port, post(['host: other:98']))).status, 403);
  assert.equal((await raw(port, post([host, 'origin: https://gateway.example.com']))).status, 200);
  assert.equal((await raw(port, upgrade([host, 'origin: https://console.example.com']))).status, 101);
  assert.equal((await raw(port, post([host, 'origin: http://console.example.com']))).status, 403);

  const headers = { origin: 'https://console.example.com', connection: 'close' };
  const preflight = await fetch(`http://127.0.0.1:${port}/graphql`, { method: 'OPTIONS', headers });
  assert.equal(preflight.status, 204);
  assert.equal(preflight.headers.get('access-control-allow-origin'), 'https://console.example.com');
  assert.match(preflight.headers.get('access-control-allow-headers') ?? '', /content-type/);
  const own = await fetch(`http://127.0.0.1:${port}/healthz`, { headers: { connection: 'close' } });
  assert.equal(own.headers.get('access-control-allow-origin'), null);
});

test('the health checks answer whoever asks, by any name', async (t) => {
  const { port, services } = await gatewayUnderTest(t);
  const ask = (path: string) => raw(port, `GET ${path} HTTP/1.1\r\nhost: 10.1.2.3\r\nconnection: close\r\n\r\n`);
  assert.deepEqual(await ask('/healthz'), { status: 200, body: '{"status":"alive"}' });
  assert.deepEqual(await ask('/readyz'), { status: 200, body: '{"status":"ready"}' });
  services.isReady = false;
  assert.deepEqual(await ask('/readyz'), { status: 503, body: '{"status":"not ready"}' });
  services.ready = () => Promise.reject(new Error('no catalog'));
  assert.equal((await ask('/readyz')).status, 503);
  assert.equal((await ask('/healthz')).status, 200);
});
