/** Delivery from a real catalog to a real HTTP server: signed, repeated until it is taken, ended where it has to end. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { pino } from 'pino';
import { Webhook } from 'standardwebhooks';
import type { OutboxRecord, OutboxState } from '../../src/catalog/records.js';
import { Delivery, type DeliveryOptions } from '../../src/events/delivery.js';
import { archiveHealth } from '../../src/events/happenings.js';
import { catalogOutbox } from '../../src/events/outbox.js';
import { type Instant, systemClock } from '../../src/instant.js';
import { Telemetry } from '../../src/telemetry/telemetry.js';
import { anEvent, rawSql, scratchCatalog } from '../catalog/examples.js';
import { type Reply, receiver } from '../support/receiver.js';

const quick = { answer: 500, first: 20, between: 100, inAll: 60_000, kept: 3_600_000 };

async function bench(t: TestContext, url: string, more: Partial<DeliveryOptions> = {}) {
  const { catalog, file } = await scratchCatalog(t);
  const secret = randomBytes(32);
  const lines: string[] = [];
  const logger = pino({ level: 'debug' }, { write: (line: string) => lines.push(line) });
  const telemetry = new Telemetry();
  const make = () => {
    const options = {
      catalog,
      clock: systemClock,
      logger,
      telemetry,
      url,
      secrets: [secret],
      patience: quick,
      ...more,
    };
    const delivery = new Delivery(options);
    t.after(() => delivery.stop());
    return delivery;
  };
  const delivery = make();
  const outbox = catalogOutbox({ source: 'urn:test', clock: systemClock, onNoted: () => delivery.wake() });
  const rows = () => rawSql<OutboxRecord>(file, 'SELECT * FROM "outbox" ORDER BY "id"');
  return {
    delivery,
    make,
    catalog,
    rows,
    lines,
    verifier: new Webhook(`whsec_${secret.toString('base64')}`),
    note: (tenantId: string, id: string) =>
      catalog.write((writer) => outbox.note(writer, archiveHealth({ id, tenantId }, false, systemClock()))),
    /** Delivered so long ago that the next round forgets it. */
    insertOld: (id: string) => {
      const createdAt = ((Date.now() - quick.kept - 1000) * 1000) as Instant;
      const old = anEvent({ id, state: 'DELIVERED', attempts: 1, dueAt: createdAt, createdAt });
      return catalog.write((writer) => writer.insertOutbox(old));
    },
    async settled(state: OutboxState, count = 1): Promise<OutboxRecord[]> {
      for (const deadline = Date.now() + 30_000; ; await delay(10)) {
        const found = (await rows()).filter((row) => row.state === state);
        if (found.length >= count) return found;
        assert.ok(Date.now() < deadline, `not ${state}: ${JSON.stringify(await rows())}`);
      }
    },
    count: async (outcome: string) => {
      const { values } = await telemetry.metrics.webhookAttempts.get();
      return values.find(({ labels }) => labels.outcome === outcome)?.value ?? 0;
    },
  };
}

test('events of several tenants arrive, in order, with signatures that the reference implementation accepts', async (t) => {
  const hook = await receiver(t);
  const { delivery, note, settled, verifier, lines, count } = await bench(t, `${hook.url}/hook?key=hidden-key`);
  delivery.start();
  await note('shop', 'orders');
  await hook.until(1);
  await note('bank', 'ledger');
  const [first, second] = await hook.until(2);
  for (const [request, tenantId, instanceId] of [
    [first, 'shop', 'orders'],
    [second, 'bank', 'ledger'],
  ] as const) {
    assert.equal(request?.path, '/hook?key=hidden-key');
    assert.match(String(request?.headers['content-type']), /^application\/cloudevents\+json/);
    const event = verifier.verify(request?.body ?? '', request?.headers as Record<string, string>) as {
      id: string;
      data: unknown;
    };
    assert.deepEqual(event.data, { tenantId, instanceId });
    assert.equal(request?.headers['webhook-id'], event.id);
  }
  const [row] = await settled('DELIVERED', 2);
  assert.equal(row?.attempts, 1);
  assert.equal(await count('delivered'), 2);
  assert.doesNotMatch(lines.join(), /hidden-key|whsec|127\.0\.0\.1/, 'the log says nothing of the address');
});

test('errors, redirects, silence and a receiver that is away are tried again, with the same id and a new time', async (t) => {
  const away = await receiver(t);
  const elsewhere = await receiver(t);
  await away.close();
  const { delivery, note, settled, verifier, rows, count } = await bench(t, `${away.url}/hook`);
  delivery.start();
  await note('shop', 'orders');
  for (const deadline = Date.now() + 30_000; (await rows())[0]?.lastError !== 'ECONNREFUSED'; await delay(10)) {
    assert.ok(Date.now() < deadline, JSON.stringify(await rows()));
  }
  const back = await receiver(t, away.port);
  const replies: Reply[] = [
    { status: 500 },
    { status: 302, headers: { location: `${elsewhere.url}/stolen` } },
    { status: 404 },
    { status: 429, headers: { 'retry-after': '0' } },
    null,
  ];
  back.reply = (_request, number) => (number < replies.length ? (replies[number] ?? null) : { status: 204 });
  const [row] = await settled('DELIVERED');
  assert.ok(back.received.length > replies.length);
  assert.deepEqual(elsewhere.received, [], 'a redirect was followed');
  assert.equal(new Set(back.received.map(({ headers }) => headers['webhook-id'])).size, 1);
  assert.equal(new Set(back.received.map(({ body }) => body)).size, 1);
  for (const { body, headers } of back.received) verifier.verify(body, headers as Record<string, string>);
  assert.ok(Number(row?.attempts) >= 7);
  assert.equal(row?.lastError, null);
  assert.equal(await count('failed'), Number(row?.attempts) - 1);
});

test('410 ends it until the next start; what waits is delivered then', async (t) => {
  const hook = await receiver(t);
  hook.reply = () => ({ status: 410 });
  const { delivery, make, note, settled, rows, lines, insertOld } = await bench(t, hook.url);
  delivery.start();
  await note('shop', 'orders');
  await settled('REFUSED');
  await note('shop', 'ledger');
  // A second round begins only when everything that the first one sent is answered.
  for (const round of ['first', 'second']) {
    await insertOld(round);
    delivery.wake();
    for (const deadline = Date.now() + 30_000; (await rows()).some(({ id }) => id === round); await delay(10)) {
      assert.ok(Date.now() < deadline, 'no round came');
    }
  }
  await delivery.stop();
  assert.deepEqual((await rows()).map(({ state }) => state).sort(), ['REFUSED', 'WAITING']);
  assert.equal(hook.received.length, 1);
  assert.match(lines.join(), /gone \(410\)/);
  hook.reply = () => ({ status: 200 });
  make().start();
  await settled('DELIVERED');
  assert.deepEqual((await rows()).map(({ state }) => state).sort(), ['DELIVERED', 'REFUSED']);
});

test('what nobody takes is given up in the end, and one receiver’s trouble with an event does not hold the others', async (t) => {
  const hook = await receiver(t);
  hook.reply = ({ body }) => ({ status: body.includes('"poison"') ? 500 : 200 });
  const { delivery, note, settled, lines } = await bench(t, hook.url, { patience: { ...quick, inAll: 400 } });
  delivery.start();
  await note('shop', 'poison');
  await note('shop', 'orders');
  await settled('DELIVERED');
  const [expired] = await settled('EXPIRED');
  assert.ok(Number(expired?.attempts) > 1);
  assert.equal(expired?.lastError, 'HTTP 500');
  assert.match(lines.join(), /not tried any more/);
});

test('what was not delivered when the process ended is delivered by the next one; what is old is forgotten', async (t) => {
  const hook = await receiver(t);
  let arrived = 0;
  hook.reply = () => {
    arrived += 1;
    return null;
  };
  const { delivery, make, note, settled, rows, insertOld } = await bench(t, hook.url, {
    patience: { ...quick, answer: 30_000 },
  });
  await insertOld('old');
  delivery.start();
  await note('shop', 'orders');
  await hook.until(1);
  await delivery.stop();
  assert.equal(arrived, 1);
  assert.deepEqual(
    (await rows()).map(({ id, state, attempts }) => [id === 'old', state, attempts]),
    [[false, 'WAITING', 0]],
  );
  hook.reply = () => ({ status: 200 });
  make().start();
  await settled('DELIVERED');
  const [first, again] = hook.received;
  assert.equal(first?.headers['webhook-id'], again?.headers['webhook-id']);
});

test('nothing is sent of a transaction that was not made', async (t) => {
  const hook = await receiver(t);
  const { delivery, note, catalog, rows } = await bench(t, hook.url);
  delivery.start();
  const outbox = catalogOutbox({ source: 'urn:test', clock: systemClock, onNoted: () => delivery.wake() });
  const undone = catalog.write(async (writer) => {
    await outbox.note(writer, archiveHealth({ id: 'undone', tenantId: 'shop' }, false, systemClock()));
    throw new Error('no');
  });
  await assert.rejects(undone, /no/);
  await note('shop', 'made');
  const [only] = await hook.until(1);
  assert.match(String(only?.body), /"made"/);
  assert.equal((await rows()).length, 1);
});
