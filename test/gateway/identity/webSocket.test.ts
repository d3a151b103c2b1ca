/** Identity over WebSocket: at connection_init, and for as long as the connection lives. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { createClient } from 'graphql-ws';
import { WebSocket } from 'ws';
import { bearer, dial, identifiedGateway, trusting, watchRescue } from '../../support/identified.js';
import { startIssuer } from '../../support/issuer.js';
import { scratchDir } from '../../support/scratch.js';

const seconds = (from: number) => Math.floor(Date.now() / 1000) + from;
const line = (token: string, role = 'reader') =>
  JSON.stringify({ name: 'ci', tenant: 'shop', role, sha256: createHash('sha256').update(token).digest('hex') });

test('connection_init needs a good token, and is refused with 4403', async (t) => {
  const issuer = await startIssuer(t);
  const gateway = await identifiedGateway(t, { issuer: trusting(issuer) });
  const token = await issuer.token();
  const attempts: [payload: Record<string, unknown> | undefined, headers: Record<string, string>, reason: RegExp][] = [
    [undefined, {}, /^UNAUTHENTICATED: This needs a token/],
    [{}, {}, /^UNAUTHENTICATED: This needs a token/],
    [{ token }, {}, /^UNAUTHENTICATED: This needs a token/],
    [{ authorization: token }, {}, /^UNAUTHENTICATED: Authorization is not a bearer token/],
    [{ authorization: 7 }, {}, /^UNAUTHENTICATED: Authorization is not a bearer token/],
    [{ authorization: 'Bearer bad' }, {}, /^UNAUTHENTICATED: The token is not valid/],
    [
      { authorization: `Bearer ${await issuer.token({ exp: seconds(-1) })}` },
      {},
      /^UNAUTHENTICATED: The token has exp/,
    ],
    [{ ...bearer(token) }, bearer(await issuer.token({ role: 'admin' })), /^UNAUTHENTICATED: .*two different/],
    [{ ...bearer(token), Authorization: 'Bearer other' }, {}, /^UNAUTHENTICATED: .*two different/],
    [{ authorization: `Bearer ${await issuer.token({ role: undefined })}` }, {}, /^FORBIDDEN: The token gives no role/],
  ];
  for (const [payload, headers, reason] of attempts) {
    const socket = await dial(t, gateway, payload, headers);
    // Sent before the answer: what a client that does not wait would do.
    socket.socket.send(watchRescue);
    const { code, reason: said } = await socket.closed;
    assert.ok(code === 4403 || code === 4401, `${code} for ${JSON.stringify(payload)}`);
    if (code === 4403) assert.match(said, reason);
  }
  assert.deepEqual(gateway.services.watchers, []);
  for (const [payload, headers] of [
    [bearer(token), {}],
    [{ Authorization: `Bearer ${token}` }, {}],
    [undefined, bearer(token)],
    [bearer(token), bearer(token)],
  ] as const) {
    const socket = await dial(t, gateway, payload, headers);
    assert.equal((await socket.next()).type, 'connection_ack');
  }
});

test('a refusal at connection_init says why, with 4403', async (t) => {
  const issuer = await startIssuer(t);
  const gateway = await identifiedGateway(t, { issuer: trusting(issuer) });
  const { closed } = await dial(t, gateway);
  assert.deepEqual(await closed, { code: 4403, reason: 'UNAUTHENTICATED: This needs a token' });
});

test('a token that expires during a subscription ends the socket, and the watch behind it', async (t) => {
  const issuer = await startIssuer(t);
  const gateway = await identifiedGateway(t, { issuer: trusting(issuer) });
  const expiring = await dial(t, gateway, bearer(await issuer.token({ exp: seconds(3) })));
  const lasting = await dial(t, gateway, bearer(await issuer.token()));
  for (const { socket, next } of [expiring, lasting]) {
    assert.equal((await next()).type, 'connection_ack');
    socket.send(watchRescue);
    assert.equal((await next()).type, 'next');
  }
  const [watch] = gateway.services.watchers;
  assert.deepEqual(await expiring.closed, {
    code: 4403,
    reason: 'UNAUTHENTICATED: The token has expired or was taken back',
  });
  if (!watch?.aborted)
    await once(watch ?? new AbortController().signal, 'abort', { signal: AbortSignal.timeout(5_000) });
  assert.equal(lasting.socket.readyState, WebSocket.OPEN);
  assert.equal(gateway.services.watchers[1]?.aborted, false);
});

test('a client of the protocol comes back with its next token', { timeout: 30_000 }, async (t) => {
  const issuer = await startIssuer(t);
  const gateway = await identifiedGateway(t, { issuer: trusting(issuer) });
  let connections = 0;
  const client = createClient({
    url: `ws://127.0.0.1:${gateway.port}/graphql`,
    webSocketImpl: WebSocket,
    retryWait: async () => {},
    connectionParams: async () => {
      connections += 1;
      return { authorization: `Bearer ${await issuer.token({ exp: seconds(connections === 1 ? 3 : 60) })}` };
    },
  });
  t.after(() => client.terminate());
  const results = client.iterate({ query: 'subscription { recoveryProgress(recoveryId: "rescue") { sequence } }' });
  await results.next();
  await results.next();
  assert.equal(connections, 2);
  await results.return?.();
});

test('a static token that is taken back, or given another role, ends its sockets', async (t) => {
  const tokensFile = path.join(await scratchDir(t), 'tokens');
  await writeFile(tokensFile, [line('one'), line('two'), line('three')].join('\n'));
  const gateway = await identifiedGateway(t, { tokensFile });
  const sockets = await Promise.all(['one', 'two', 'three'].map((token) => dial(t, gateway, bearer(token))));
  for (const { socket, next } of sockets) {
    assert.equal((await next()).type, 'connection_ack');
    socket.send(watchRescue);
    assert.equal((await next()).type, 'next');
  }
  await writeFile(tokensFile, [line('two', 'operator'), line('three')].join('\n'));
  const [first, second, third] = sockets;
  assert.equal((await first?.closed)?.code, 4403);
  assert.equal((await second?.closed)?.code, 4403);
  assert.equal(third?.socket.readyState, WebSocket.OPEN);
});
