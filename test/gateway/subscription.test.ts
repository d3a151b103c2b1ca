/** A subscription's life over a real WebSocket: it begins with the present, follows, and ends on both sides. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { test } from 'node:test';
import { type Client, createClient } from 'graphql-ws';
import { WebSocket } from 'ws';
import type { RecoveryState } from '../../src/model.js';
import { recoveryRow } from '../support/gatewayRows.js';
import { type GatewayUnderTest, gatewayUnderTest } from '../support/gatewayUnderTest.js';
import { dial, watchRescue } from '../support/identified.js';

const query = `subscription Watch($id: ID!) { recoveryProgress(recoveryId: $id) { sequence state percent recovery { state } } }`;

function connect(t: { after(done: () => unknown): void }, { port }: GatewayUnderTest): Client {
  const client = createClient({ url: `ws://127.0.0.1:${port}/graphql`, webSocketImpl: WebSocket, retryAttempts: 0 });
  t.after(() => client.dispose());
  return client;
}

function event(sequence: number, state: RecoveryState) {
  return { recoveryId: 'rescue', state, progress: { ...recoveryRow().progress, sequence, percent: sequence * 10 } };
}

test('the present progress comes at once, then every event, then the end', async (t) => {
  const gateway = await gatewayUnderTest(t);
  const { services, log } = gateway;
  const watching = once(services.feed, 'watching');
  const results = connect(t, gateway).iterate({ query, variables: { id: 'rescue' } });
  const first = await results.next();
  assert.deepEqual(first.value?.data, {
    recoveryProgress: { sequence: 3, state: 'RUNNING', percent: 20, recovery: { state: 'RUNNING' } },
  });
  await watching;
  services.feed.emit('progress', event(5, 'RUNNING'));
  assert.equal(JSON.stringify((await results.next()).value).includes('"sequence":5'), true);
  // The recovery itself is looked up anew for each event.
  Object.assign(services.recoveryRows[0] ?? {}, { state: 'SUCCEEDED' });
  services.feed.emit('progress', event(9, 'SUCCEEDED'));
  assert.deepEqual((await results.next()).value?.data, {
    recoveryProgress: { sequence: 9, state: 'SUCCEEDED', percent: 90, recovery: { state: 'SUCCEEDED' } },
  });
  assert.equal((await results.next()).done, true);
  const lines = log.filter(({ msg }) => msg === 'operation');
  assert.deepEqual(
    lines.map(({ via, kind, operation, codes }) => ({ via, kind, operation, codes })),
    [{ via: 'websocket', kind: 'subscription', operation: 'Watch', codes: undefined }],
  );
});

for (const [how, leave] of [
  ['unsubscribes', (results: AsyncIterator<unknown>, _client: Client) => results.return?.()],
  ['goes away', (_results: AsyncIterator<unknown>, client: Client) => client.terminate()],
] as const) {
  test(`a client that ${how} while nothing happens ends the watch on the service's side`, async (t) => {
    const gateway = await gatewayUnderTest(t);
    const { services, log } = gateway;
    const client = connect(t, gateway);
    const results = client.iterate({ query, variables: { id: 'rescue' } });
    await results.next();
    const [signal] = services.watchers;
    assert.ok(signal && !signal.aborted);
    const aborted = once(signal, 'abort', { signal: AbortSignal.timeout(5_000) });
    await leave(results, client);
    await aborted;
    assert.deepEqual(
      log.filter(({ level }) => Number(level) >= 40),
      [],
      'leaving is nobody’s error',
    );
  });
}

test('a subscription may have the id of the one that was left a moment before, and lives on', async (t) => {
  const gateway = await gatewayUnderTest(t);
  const { services } = gateway;
  const line = await dial(t, gateway);
  await line.next();
  line.socket.send(watchRescue);
  assert.equal((await line.next()).type, 'next');
  const [left] = services.watchers;
  assert.ok(left);
  const aborted = once(left, 'abort', { signal: AbortSignal.timeout(5_000) });
  const watching = once(services.feed, 'watching');
  // In one go: the service reads the second while the end of the first is still under way.
  const { _socket: bytes } = line.socket as unknown as { _socket: Socket };
  bytes.cork();
  line.socket.send(JSON.stringify({ id: 'watch', type: 'complete' }));
  line.socket.send(watchRescue);
  bytes.uncork();
  assert.equal((await line.next()).type, 'next');
  await Promise.all([aborted, watching]);
  services.feed.emit('progress', event(7, 'SUCCEEDED'));
  const progress = { recoveryProgress: { sequence: 7 } };
  assert.deepEqual(await line.next(), { id: 'watch', type: 'next', payload: { data: progress } });
  assert.deepEqual(await line.next(), { id: 'watch', type: 'complete' });
});

test('errors over WebSocket have the codes and the shape they have over HTTP', async (t) => {
  const gateway = await gatewayUnderTest(t);
  const client = connect(t, gateway);
  const shownFor = async (asked: string, variables: Record<string, unknown> = {}) => {
    try {
      for await (const { errors } of client.iterate({ query: asked, variables })) {
        if (errors) return errors[0]?.extensions;
      }
    } catch (thrown) {
      assert.ok(Array.isArray(thrown), String(thrown));
      return (thrown[0] as { extensions: unknown }).extensions;
    }
    return null;
  };
  const cases: [code: string, asked: string, variables?: Record<string, unknown>][] = [
    ['RECOVERY_NOT_FOUND', query, { id: 'unknown' }],
    ['RECOVERY_NOT_FOUND', query, { id: 'a b' }],
    ['GRAPHQL_PARSE_FAILED', '{ instances { id }'],
    ['GRAPHQL_VALIDATION_FAILED', '{ instances { password } }'],
    ['BAD_USER_INPUT', 'query ($n: Int!) { instances(first: $n) { id } }', { n: 'x' }],
    ['BAD_USER_INPUT', query],
    ['INVALID_ARGUMENT', '{ instances(first: 0) { id } }'],
    ['INVALID_POINT_IN_TIME', 'query ($t: DateTime) { backups(instanceId: "shop", before: $t) { id } }', { t: 'now' }],
    ['INVALID_POINT_IN_TIME', '{ backups(instanceId: "shop", before: "now") { id } }'],
  ];
  for (const [code, asked, variables] of cases) {
    const extensions = (await shownFor(asked, variables)) as Record<string, unknown>;
    assert.equal(extensions?.code, code, asked);
    assert.deepEqual(Object.keys(extensions).sort(), ['code', 'details', 'hint', 'requestId', 'retryable'], asked);
  }
  assert.equal(await shownFor('{ instances { id } }'), null);
});

test('a failure in the middle of a subscription is INTERNAL and logged', async (t) => {
  const gateway = await gatewayUnderTest(t);
  const { services, log } = gateway;
  services.recoveries.watch = async function* () {
    yield event(1, 'RUNNING');
    throw new TypeError('lost my head');
  };
  const results = connect(t, gateway).iterate({ query, variables: { id: 'rescue' } });
  await results.next();
  await assert.rejects(
    () => results.next(),
    (errors: { message: string; extensions: { code: string } }[]) => {
      assert.equal(errors[0]?.extensions.code, 'INTERNAL');
      assert.doesNotMatch(JSON.stringify(errors), /head/);
      return true;
    },
  );
  assert.match(JSON.stringify(log), /TypeError: lost my head/);
});

test('an operation before connection_init, and a frame that is no message, close only that socket', async (t) => {
  const gateway = await gatewayUnderTest(t);
  for (const [message, expected] of [
    [JSON.stringify({ id: '1', type: 'subscribe', payload: { query: '{ __typename }' } }), 4401],
    ['{', 4400],
  ] as const) {
    const socket = new WebSocket(`ws://127.0.0.1:${gateway.port}/graphql`, 'graphql-transport-ws');
    await once(socket, 'open');
    socket.send(message);
    const [code] = await once(socket, 'close');
    assert.equal(code, expected);
  }
  const tooLarge = new WebSocket(`ws://127.0.0.1:${gateway.port}/graphql`, 'graphql-transport-ws');
  await once(tooLarge, 'open');
  tooLarge.send('x'.repeat(1024 * 1024 + 1));
  assert.deepEqual((await once(tooLarge, 'close'))[0], 1009);
  assert.equal((await gateway.post('{ __typename }')).status, 200);
});
