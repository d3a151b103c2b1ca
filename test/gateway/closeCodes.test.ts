/** Every way in which the graphql-transport-ws protocol has the service end a connection, with its code. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { WebSocket } from 'ws';
import { type GatewayUnderTest, gatewayUnderTest } from '../support/gatewayUnderTest.js';
import { dial, identifiedGateway, watchRescue } from '../support/identified.js';
import { scratchDir } from '../support/scratch.js';

const init = JSON.stringify({ type: 'connection_init' });
const query = JSON.stringify({ id: '1', type: 'subscribe', payload: { query: '{ __typename }' } });

/** Sends these once it is open, and answers with how the service ended it. */
async function endOf(t: TestContext, { port }: GatewayUnderTest, sent: (string | Buffer)[], protocol?: string) {
  const socket = new WebSocket(
    `ws://127.0.0.1:${port}/graphql`,
    protocol === '' ? [] : (protocol ?? 'graphql-transport-ws'),
  );
  t.after(() => socket.terminate());
  const signal = AbortSignal.timeout(20_000);
  const closed = once(socket, 'close', { signal });
  await once(socket, 'open', { signal });
  for (const message of sent) {
    if (socket.readyState === socket.OPEN) socket.send(message);
    // What follows it too closely comes before its answer, and that is another mistake.
    const answered = message === init && sent.indexOf(init) === sent.lastIndexOf(init);
    if (answered) await Promise.race([once(socket, 'message', { signal }), closed]);
  }
  const [code, reason] = await closed;
  return { code: Number(code), reason: String(reason) };
}

const messages: [what: string, code: number, sent: (string | Buffer)[]][] = [
  ['a message that is no JSON', 4400, [init, '{']],
  ['a message of no known type', 4400, [init, '{"type":"start"}']],
  ['a message without a type', 4400, [init, '{}']],
  ['JSON that is no object', 4400, [init, '[]']],
  ['bytes', 4400, [init, Buffer.from([0, 255, 254, 128])]],
  ['subscribe without a query', 4400, [init, '{"id":"1","type":"subscribe","payload":{}}']],
  ['subscribe without an id', 4400, [init, '{"type":"subscribe","payload":{"query":"{ __typename }"}}']],
  [
    'subscribe with variables that are no object',
    4400,
    [init, '{"id":"1","type":"subscribe","payload":{"query":"{a}","variables":[]}}'],
  ],
  ['an operation before connection_init', 4401, [query]],
  ['an operation before connection_init is answered', 4401, [init.replace('}', ',"payload":{}}'), query]],
  ['two operations under one id', 4409, [init, watchRescue, watchRescue]],
  ['two connection_inits', 4429, [init, init]],
  ['a frame above the limit', 1009, [init, 'x'.repeat(1024 * 1024 + 1)]],
];
for (const [what, code, sent] of messages) {
  test(`${what} ends the connection with ${code}, and that one alone`, async (t) => {
    const gateway = await gatewayUnderTest(t);
    const other = await dial(t, gateway);
    await other.next();
    assert.equal((await endOf(t, gateway, sent)).code, code);
    other.socket.send(query);
    assert.equal((await other.next()).type, 'next');
    assert.deepEqual(
      gateway.log.filter(({ level }) => Number(level) >= 40),
      [],
      'nobody has to look at it',
    );
  });
}

test('a connection that does not begin ends with 4408', async (t) => {
  const gateway = await gatewayUnderTest(t);
  assert.equal((await endOf(t, gateway, [])).code, 4408);
});

test('another sub-protocol, or none, is 4406', async (t) => {
  const gateway = await gatewayUnderTest(t);
  assert.equal((await endOf(t, gateway, [init], '')).code, 4406);
  // A client whose protocols are all unknown fails by itself where the server takes none: it is told in no frame.
  const socket = new WebSocket(`ws://127.0.0.1:${gateway.port}/graphql`, 'graphql-ws');
  await once(socket, 'error', { signal: AbortSignal.timeout(20_000) });
});

test('no token is 4403, and a connection that comes back with one is let in', async (t) => {
  const file = path.join(await scratchDir(t), 'tokens');
  await writeFile(file, '');
  const gateway = await identifiedGateway(t, { tokensFile: file });
  const end = await endOf(t, gateway, [init]);
  assert.equal(end.code, 4403);
  assert.match(end.reason, /^UNAUTHENTICATED/);
});

test('the end of the service is 1001', async (t) => {
  const gateway = await gatewayUnderTest(t);
  const line = await dial(t, gateway);
  await line.next();
  await gateway.close();
  assert.equal((await line.closed).code, 1001);
});
