/** The end of the server: subscriptions are told, requests may finish, and the port is free afterwards. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { test } from 'node:test';
import { createClient } from 'graphql-ws';
import { WebSocket } from 'ws';
import { gatewayUnderTest } from '../support/gatewayUnderTest.js';

const subscription = 'subscription { recoveryProgress(recoveryId: "rescue") { state } }';

test('close() ends subscriptions with 1001 and their watch, lets a request finish, and frees the port', async (t) => {
  const { services, port, post, close } = await gatewayUnderTest(t);
  const client = createClient({ url: `ws://127.0.0.1:${port}/graphql`, webSocketImpl: WebSocket, retryAttempts: 0 });
  const told = new Promise<{ code: number }>((resolve) => {
    client.on('closed', (event) => resolve(event as { code: number }));
  });
  const results = client.iterate({ query: subscription });
  await results.next();
  const [signal] = services.watchers;
  assert.ok(signal);
  const ended = once(signal, 'abort', { signal: AbortSignal.timeout(5_000) });
  const idle = connect(port, '127.0.0.1');
  await once(idle, 'connect');

  const listing = new Promise<void>((arrived) => {
    services.onList = () => {
      arrived();
      return new Promise((resolve) => services.feed.once('go on', () => resolve()));
    };
  });
  const answer = post('{ instances { id } }');
  await listing;

  const closed = close();
  assert.equal((await told).code, 1001);
  await assert.rejects(results.next());
  await ended;
  services.feed.emit('go on');
  assert.deepEqual((await answer).data, { instances: [{ id: 'shop' }] });
  idle.destroy();
  await closed;
  await close();
  const [refused] = await once(connect(port, '127.0.0.1'), 'error');
  assert.equal((refused as NodeJS.ErrnoException).code, 'ECONNREFUSED');
});

test('a request that does not end in time is cut off, and close() still ends', async (t) => {
  const { services, post, close } = await gatewayUnderTest(t, { drainMs: 50 });
  const listing = new Promise<void>((arrived) => {
    services.onList = () => {
      arrived();
      return new Promise(() => undefined);
    };
  });
  const cutOff = assert.rejects(post('{ instances { id } }'), /fetch failed/);
  await listing;
  await close();
  await cutOff;
});

test('a client that never answers the closing handshake does not hold the server', async (t) => {
  const { port, close } = await gatewayUnderTest(t);
  const socket = connect(port, '127.0.0.1');
  socket.write(
    `GET /graphql HTTP/1.1\r\nhost: localhost:${port}\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: graphql-transport-ws\r\n\r\n`,
  );
  await once(socket, 'data');
  socket.on('error', () => undefined);
  const ended = once(socket, 'close');
  socket.resume();
  await close();
  await ended;
});

test('a port that is taken is said so, and nothing is left behind', async (t) => {
  const { port } = await gatewayUnderTest(t);
  await assert.rejects(gatewayUnderTest(t, { port }), { code: 'EADDRINUSE' });
});
