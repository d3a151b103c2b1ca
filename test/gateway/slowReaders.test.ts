/** Clients that don't read: what they miss is left out, the newest reaches them, and the service's memory does not grow with it. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { WebSocket } from 'ws';
import type { ProgressRecord } from '../../src/catalog/records.js';
import { ProgressHub } from '../../src/recovery/progress.js';
import { instanceRow, recoveryRow } from '../support/gatewayRows.js';
import { type GatewayUnderTest, gatewayUnderTest } from '../support/gatewayUnderTest.js';

/** An event is this long, so that a few hundred fill every buffer on the way. */
const MESSAGE = 'm'.repeat(20_000);
const EVENTS = 2_000;

/** The gateway with the service's own hub behind it, and what publishes into it. */
async function watched(t: TestContext) {
  const gateway = await gatewayUnderTest(t);
  const hub = new ProgressHub();
  const progress = (sequence: number): ProgressRecord => ({ ...recoveryRow().progress, sequence, message: MESSAGE });
  let given = 0;
  gateway.services.recoveries.watch = async function* (_caller, id, signal) {
    const present = async () => ({ recoveryId: id, state: 'RUNNING' as const, progress: progress(1) });
    for await (const event of hub.watch(id, present, signal)) {
      given++;
      yield event;
    }
  };
  return {
    gateway,
    given: () => given,
    async publish(last: 'SUCCEEDED') {
      for (let sequence = 2; sequence <= EVENTS; sequence++) {
        const state = sequence === EVENTS ? last : 'RUNNING';
        hub.publish({ recoveryId: 'rescue', state, progress: progress(sequence) });
        // One after the other, each with time for whoever reads.
        await new Promise((resolve) => setImmediate(resolve));
        await new Promise((resolve) => setImmediate(resolve));
      }
    },
  };
}

const query = 'subscription { recoveryProgress(recoveryId: "rescue") { sequence state message } }';
const sequences = (text: string) => [...text.matchAll(/"sequence":(\d+)/g)].map(([, number]) => Number(number));

function check(seen: number[], given: number): void {
  assert.equal(seen[0], 1);
  assert.equal(seen.at(-1), EVENTS, 'the last event always');
  assert.deepEqual(
    seen,
    seen.toSorted((a, b) => a - b),
  );
  assert.equal(new Set(seen).size, seen.length);
  // What lies in buffers of the system is a few megabytes; everything would be 40.
  assert.ok(given < EVENTS / 2, `${given} of ${EVENTS} were taken for a client that did not read`);
  assert.equal(seen.length, given);
}

test('over WebSocket', async (t) => {
  const { gateway, given, publish } = await watched(t);
  const socket = new WebSocket(`ws://127.0.0.1:${gateway.port}/graphql`, 'graphql-transport-ws');
  t.after(() => socket.terminate());
  let text = '';
  const complete = new Promise<void>((resolve) => {
    socket.on('message', (data) => {
      text += `${data}\n`;
      if (String(data).includes('"complete"')) resolve();
    });
  });
  await once(socket, 'open');
  socket.send(JSON.stringify({ type: 'connection_init' }));
  await once(socket, 'message');
  socket.send(JSON.stringify({ id: '1', type: 'subscribe', payload: { query } }));
  await once(socket, 'message');
  socket.pause();
  await publish('SUCCEEDED');
  socket.resume();
  await complete;
  check(sequences(text), given());
});

test('over an event stream', async (t) => {
  const { gateway, given, publish } = await watched(t);
  const socket = await openStream(t, gateway);
  let text = '';
  socket.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
  });
  while (!text.includes('"sequence":1,')) await once(socket, 'data');
  socket.pause();
  await publish('SUCCEEDED');
  socket.resume();
  while (!text.includes('event: complete')) await once(socket, 'data', { signal: AbortSignal.timeout(20_000) });
  check(sequences(text), given());
});

test('a client that sends and never reads the answers is not listened to any more', async (t) => {
  const gateway = await gatewayUnderTest(t, { limits: { rate: 0, subscriptions: 100_000 } });
  const socket = new WebSocket(`ws://127.0.0.1:${gateway.port}/graphql`, 'graphql-transport-ws');
  t.after(() => socket.terminate());
  await once(socket, 'open');
  socket.send(JSON.stringify({ type: 'connection_init' }));
  await once(socket, 'message');
  socket.pause();
  gateway.services.instanceRows.push(instanceRow({ id: 'long', name: MESSAGE }));
  const asked = 3_000;
  for (let id = 0; id < asked; id++) {
    socket.send(JSON.stringify({ id: `${id}`, type: 'subscribe', payload: { query: '{ instances { name } }' } }));
  }
  const begun = () => gateway.services.callsOf('instances.list').length;
  let before = -1;
  for (const deadline = Date.now() + 30_000; begun() !== before || before === 0; await delay(500)) {
    assert.ok(Date.now() < deadline, 'it goes on and on');
    before = begun();
  }
  assert.ok(before < asked / 2, `${before} of ${asked} were answered for a client that did not read`);
  // Once it reads, everything comes.
  let answered = 0;
  socket.on('message', (data) => {
    if (String(data).includes('"complete"')) answered++;
  });
  socket.resume();
  for (const deadline = Date.now() + 60_000; answered < asked; await delay(50)) {
    assert.ok(Date.now() < deadline, `only ${answered} answers came`);
  }
});

/** By hand, so that the socket under it can be paused. */
async function openStream(t: TestContext, { port }: GatewayUnderTest): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  t.after(() => socket.destroy());
  const body = JSON.stringify({ query });
  socket.write(
    `POST /graphql HTTP/1.1\r\nhost: 127.0.0.1:${port}\r\naccept: text/event-stream\r\ncontent-type: application/json\r\n` +
      `content-length: ${body.length}\r\n\r\n${body}`,
  );
  await once(socket, 'connect');
  return socket;
}
