/** recoveryProgress through Hive gateway, over WebSocket and over SSE: every event in order, and leaving reaches us. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, describe, type TestContext, test } from 'node:test';
import { createClient } from 'graphql-ws';
import { WebSocket } from 'ws';
import { type Hive, startHive } from '../../examples/federation/hive.js';
import { composeSupergraph } from '../../examples/federation/supergraph.js';
import type { RecoveryState } from '../../src/model.js';
import { recoveryRow } from '../support/gatewayRows.js';
import { type GatewayUnderTest, gatewayUnderTest } from '../support/gatewayUnderTest.js';

interface Shown {
  data?: { recoveryProgress: { sequence: number; state: string; recovery: { source: { name: string } } } } | null;
  errors?: readonly { extensions?: Record<string, unknown> }[];
}
type Watch = (t: TestContext, hive: Hive, id: string) => AsyncIterableIterator<Shown>;

const query = `subscription Watch($id: ID!) {
  recoveryProgress(recoveryId: $id) { sequence state recovery { source { name } } }
}`;

const watches: Record<string, Watch> = {
  WebSocket(t, { url }, id) {
    const client = createClient({ url: url.replace('http', 'ws'), webSocketImpl: WebSocket, retryAttempts: 0 });
    t.after(() => client.dispose());
    return client.iterate({ query, variables: { id } }) as AsyncIterableIterator<Shown>;
  },

  async *SSE(t, { url }, id) {
    const leaving = new AbortController();
    t.after(() => leaving.abort());
    try {
      const response = await fetch(url, {
        method: 'POST',
        headers: { 'content-type': 'application/json', accept: 'text/event-stream' },
        body: JSON.stringify({ query, variables: { id } }),
        signal: leaving.signal,
      });
      let text = '';
      for await (const chunk of response.body?.pipeThrough(new TextDecoderStream()) ?? []) {
        const events = (text + chunk).split('\n\n');
        text = events.pop() ?? '';
        for (const event of events) {
          const data = /^data: (.+)$/m.exec(event)?.[1];
          if (/^event: next$/m.test(event) && data) yield JSON.parse(data) as Shown;
          if (/^event: complete$/m.test(event)) return;
        }
      }
      assert.fail('the stream ended without saying that it was complete');
    } finally {
      leaving.abort();
    }
  },
};

function event(sequence: number, state: RecoveryState) {
  return { recoveryId: 'rescue', state, progress: { ...recoveryRow().progress, sequence } };
}

function shown(sequence: number, state: RecoveryState) {
  return { recoveryProgress: { sequence, state, recovery: { source: { name: 'The shop' } } } };
}

describe('recoveryProgress through Hive gateway', { timeout: 120_000 }, () => {
  const closers: (() => unknown)[] = [];
  let gateway: GatewayUnderTest;
  let hive: Hive;

  before(async () => {
    gateway = await gatewayUnderTest({ after: (close) => closers.push(close as () => unknown) });
    hive = await startHive(await composeSupergraph({ pitr: `${gateway.url}/graphql` }));
    closers.push(() => hive.close());
  });
  after(async () => {
    for (let close = closers.pop(); close; close = closers.pop()) await close();
  });

  for (const [over, watch] of Object.entries(watches)) {
    test(`over ${over}: the present at once, then every event, then the end`, async (t) => {
      const { feed } = gateway.services;
      const watching = once(feed, 'watching');
      const results = watch(t, hive, 'rescue');
      const first = await results.next();
      assert.deepEqual(first.value?.data, shown(3, 'RUNNING'), JSON.stringify(first.value));
      await watching;
      for (const [sequence, state] of [
        [4, 'RUNNING'],
        [7, 'UNWINDING'],
        [8, 'CANCELLED'],
      ] as const) {
        feed.emit('progress', event(sequence, state));
        assert.deepEqual((await results.next()).value?.data, shown(sequence, state));
      }
      assert.equal((await results.next()).done, true);
    });

    test(`over ${over}: a client that leaves while nothing happens ends the watch on our side`, async (t) => {
      const { watchers } = gateway.services;
      const results = watch(t, hive, 'rescue');
      await results.next();
      const signal = watchers.at(-1);
      assert.ok(signal && !signal.aborted);
      const aborted = once(signal, 'abort', { signal: AbortSignal.timeout(10_000) });
      await results.return?.();
      await aborted;
    });

    test(`over ${over}: a refusal keeps its code`, async (t) => {
      const codes: unknown[] = [];
      for await (const { errors } of watch(t, hive, 'unknown')) codes.push(errors?.[0]?.extensions?.code);
      assert.deepEqual(codes, ['RECOVERY_NOT_FOUND']);
    });
  }
});
