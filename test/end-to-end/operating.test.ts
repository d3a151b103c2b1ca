/** The whole service as its operators see it: metrics, traces, events, and an end that balancers are told of. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Webhook } from 'standardwebhooks';
import {
  cancel,
  createInstance,
  instance,
  recover,
  recoveryEnded,
  recoveryIs,
  takeBackup,
} from '../support/apiCalls.js';
import { parseExposition, type Sample, sampled } from '../support/exposition.js';
import { spansIn } from '../support/otlp.js';
import { type Received, receiver } from '../support/receiver.js';
import { requirement } from '../support/requirement.js';
import { scratchDir } from '../support/scratch.js';
import { Service, startService } from '../support/service.js';
import { serviceUnderTest, untilState } from '../support/serviceUnderTest.js';
import { ask, until } from '../support/sqlitePrograms.js';
import type { Disturbance } from '../support/sweptService.js';

const entry = fileURLToPath(new URL('../support/sweptService.js', import.meta.url));
const secret = `whsec_${randomBytes(32).toString('base64')}`;
const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736';
const CALLER_SPAN = '00f067aa0ba902b7';

/** A service that tells of its events and spans, with steps that can be disturbed. */
async function told(t: TestContext, env: Record<string, string> = {}) {
  const hook = await receiver(t);
  const traces = await receiver(t);
  const secretFile = path.join(await scratchDir(t), 'secret');
  writeFileSync(secretFile, secret);
  const service = await startService(t, {
    entry,
    env: {
      PITR_WEBHOOK_URL: `${hook.url}/hook`,
      PITR_WEBHOOK_SECRET_FILE: secretFile,
      OTEL_EXPORTER_OTLP_ENDPOINT: `${traces.url}/`,
      OTEL_BSP_SCHEDULE_DELAY: '100',
      ...env,
    },
  });
  const file = path.join(service.dir, 'disturb.json');
  return {
    hook,
    traces,
    service,
    disturb: (...list: Disturbance[]) => {
      // In one step: the service may look at it at any moment.
      writeFileSync(`${file}.new`, JSON.stringify(list));
      renameSync(`${file}.new`, file);
    },
    calm: () => rmSync(file, { force: true }),
  };
}

function verified({ body, headers }: Received) {
  return new Webhook(secret).verify(body, headers as Record<string, string>) as {
    id: string;
    type: string;
    subject: string;
    data: Record<string, unknown>;
  };
}

async function metricsOf({ url }: { url: string }): Promise<{ text: string; samples: Sample[] }> {
  const response = await fetch(`${url}/metrics`, { headers: { connection: 'close' } });
  const text = await response.text();
  assert.equal(response.status, 200, text);
  return { text, samples: parseExposition(text) };
}

test('how each recovery ended is delivered, also after kill -9 before the receiver has said yes', {
  timeout: 120_000,
}, async (t) => {
  const { hook, service, disturb, calm } = await told(t);
  const { id } = await createInstance(service, 'orders');
  await takeBackup(service, id);

  disturb({ step: 'VERIFY', act: 'throw before', code: 'LOG_CORRUPT' });
  const failed = await recoveryEnded(service, (await recover(service, id)).id);
  disturb({ step: 'RESTORE_BASE', act: 'hold' });
  const held = await recover(service, id);
  await recoveryIs(service, held.id, ({ steps }) =>
    steps.some(({ name, state }) => name === 'RESTORE_BASE' && state === 'RUNNING'),
  );
  await cancel(service, held.id);
  await recoveryEnded(service, held.id);
  calm();
  const events = (await hook.until(2)).map(verified);
  assert.deepEqual(
    events.map(({ type, subject, data }) => [type, subject, data.errorCode]),
    [
      ['pitr.recovery.failed', failed.id, 'LOG_CORRUPT'],
      ['pitr.recovery.cancelled', held.id, null],
    ],
  );

  hook.reply = () => null;
  const { id: recoveryId } = await recover(service, id);
  const sent = verified((await hook.until(3)).at(-1) as Received);
  assert.equal(sent.subject, recoveryId);
  await service.kill();
  hook.reply = () => ({ status: 200 });
  await service.start();
  const again = verified((await hook.until(4)).at(-1) as Received);
  assert.deepEqual(again, sent, 'the same event under the same id');
  const { state, instance: made } = await recoveryEnded(service, recoveryId);
  assert.equal(state, 'SUCCEEDED');
  assert.equal(again.data.newInstanceId, made?.id);
  await until(
    'the outbox is empty',
    async () => sampled((await metricsOf(service)).samples, 'pitr_webhook_events_waiting') === 0,
  );
  assert.doesNotMatch(JSON.stringify(service.log) + service.stderr, /whsec_|\/hook/);
});

test('an archive that can’t follow its source, and one that can again', { timeout: 60_000 }, async (t) => {
  const { hook, service } = await told(t);
  const file = path.join(service.dir, 'theirs.db');
  await ask(t, 'setup', file);
  const { registerInstance } = await service.graphql<{ registerInstance: { id: string } }>(
    'mutation ($uri: String!) { registerInstance(input: { name: "r", datastore: "sqlite", connectionUri: $uri }) { id } }',
    { uri: `sqlite://${file}` },
  );
  await service.stop();
  renameSync(file, `${file}.away`);
  await service.start();
  const [unwell] = (await hook.until(1)).map(verified);
  assert.deepEqual(unwell?.data, { tenantId: 'local', instanceId: registerInstance.id });
  assert.equal(unwell?.type, 'pitr.archive.unhealthy');
  const { samples } = await metricsOf(service);
  assert.equal(sampled(samples, 'pitr_archives_unhealthy'), 1);
  assert.equal(sampled(samples, 'pitr_archive_healthy', { tenant: 'local', instance: registerInstance.id }), 0);
  renameSync(`${file}.away`, file);
  const [, well] = (await hook.until(2)).map(verified);
  assert.equal(well?.type, 'pitr.archive.healthy');
  assert.equal((await instance(service, registerInstance.id)).logArchive.healthy, true);
});

test('a recovery is one trace and one request id, from its caller through a kill -9 to its end', {
  timeout: 120_000,
}, async (t) => {
  const { traces, service, disturb, calm } = await told(t);
  const spans = () => spansIn(traces.received).filter(({ traceId }) => traceId === TRACE);
  const { id, file } = await createInstance(service, 'orders');
  await takeBackup(service, id);
  disturb({ step: 'REPLAY_LOG', act: 'hold' });
  const asked = await fetch(`${service.url}/graphql`, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      connection: 'close',
      'x-request-id': 'rescue-17',
      traceparent: `00-${TRACE}-${CALLER_SPAN}-01`,
    },
    body: JSON.stringify({
      query: 'mutation Chosen($id: ID!) { mine: recoverInstance(instanceId: $id) { id } }',
      variables: { id },
    }),
  });
  const { data } = (await asked.json()) as { data: { mine: { id: string } } };
  await recoveryIs(service, data.mine.id, ({ steps }) =>
    steps.some(({ name, state }) => name === 'REPLAY_LOG' && state === 'RUNNING'),
  );
  await until('the operation is a span', () => spans().some(({ kind }) => kind === 2));
  await service.kill();
  calm();
  await service.start();
  assert.equal((await recoveryEnded(service, data.mine.id)).state, 'SUCCEEDED');

  await until('the recovery is a span', () => spans().some(({ name }) => name === 'recovery'));
  const operation = spans().find(({ name }) => name === 'mutation recoverInstance');
  assert.equal(operation?.parentSpanId, CALLER_SPAN);
  assert.equal(operation?.kind, 2);
  assert.equal(operation?.attributes['graphql.fields'], 'recoverInstance');
  const recovery = spans().find(({ name }) => name === 'recovery');
  assert.equal(recovery?.parentSpanId, operation?.spanId);
  assert.equal(recovery?.attributes['pitr.state'], 'SUCCEEDED');
  assert.equal(recovery?.attributes['pitr.request_id'], 'rescue-17');
  // Those of the first life are under a span that never ended.
  const steps = spans().filter(({ parentSpanId }) => parentSpanId === recovery?.spanId);
  assert.deepEqual(
    steps.map(({ name }) => name),
    ['REPLAY_LOG', 'APPLY_INCREMENTALS', 'RESTORE_BASE', 'VERIFY', 'ACTIVATE'].map((name) => `recovery ${name}`),
  );
  const bodies = traces.received.map(({ body }) => body).join();
  for (const none of ['Chosen', 'SELECT', file, 'sqlite:']) assert.ok(!bodies.includes(none), none);

  // A backup goes on after its request is answered, too.
  const backedUp = service.log.find(({ msg }) => msg === 'backup completed');
  const took = service.log.filter(({ kind }) => kind === 'mutation')[1];
  assert.equal(backedUp?.requestId, took?.requestId);
  assert.ok(took?.requestId);
  const lines = service.log.filter(({ recoveryId }) => recoveryId === data.mine.id);
  assert.ok(lines.some(({ msg }) => msg === 'recovery ended'));
  for (const line of lines) assert.equal(line.requestId, 'rescue-17', JSON.stringify(line));
});

test('a failed operation is a failed span with its code; one without a parent begins a trace', async (t) => {
  const { traces, service } = await told(t);
  await assert.rejects(service.graphql('{ instances(first: 0) { id } }'));
  await assert.rejects(service.graphql('{ nothing }'));
  await until('both are there', () => spansIn(traces.received).length >= 2);
  const [refused, unread] = spansIn(traces.received);
  assert.equal(refused?.name, 'query instances');
  assert.deepEqual([refused?.status, refused?.attributes['error.type']], [2, 'INVALID_ARGUMENT']);
  assert.deepEqual([unread?.status, unread?.attributes['error.type']], [2, 'GRAPHQL_VALIDATION_FAILED']);
  assert.equal(refused?.parentSpanId ?? '', '');
  assert.notEqual(refused?.traceId, unread?.traceId);
});

test('a receiver of traces that is away holds nothing up, also not the end', async (t) => {
  const { traces, service } = await told(t);
  await traces.close();
  await service.graphql('{ instances { id } }');
  assert.equal(await service.stop(), 0);
});

test('metrics follow what happens', { timeout: 60_000 }, async (t) => {
  const { service } = await told(t);
  const { id } = await createInstance(service, 'orders');
  const before = (await metricsOf(service)).samples;
  const labels = { tenant: 'local', instance: id };
  assert.equal(sampled(before, 'pitr_recovery_windows', labels), 0);
  assert.equal(sampled(before, 'pitr_recovery_window_end_age_seconds', labels), undefined);
  await takeBackup(service, id);
  const ended = await recoveryEnded(service, (await recover(service, id)).id);
  const { samples, text } = await metricsOf(service);
  const value = (name: string, more: Record<string, string> = {}) => sampled(samples, name, more);
  assert.equal(value('pitr_recoveries', { state: 'SUCCEEDED' }), 1);
  assert.equal(value('pitr_recoveries_ended_total', { state: 'SUCCEEDED' }), 1);
  assert.equal(value('pitr_recovery_step_duration_seconds_count', { step: 'REPLAY_LOG', code: 'OK' }), 1);
  assert.equal(value('pitr_instances', { state: 'ACTIVE' }), 2);
  assert.equal(value('pitr_archive_healthy', labels), 1);
  assert.ok(Number(value('pitr_archive_lag_seconds', labels)) >= 0);
  assert.equal(value('pitr_recovery_windows', labels), 1);
  const age = Number(value('pitr_recovery_window_end_age_seconds', labels));
  assert.ok(age >= 0 && age < 3600, String(age));
  assert.ok(Number(value('pitr_storage_written_bytes_total')) > 0);
  assert.ok(Number(value('pitr_home_free_bytes')) > 0);
  assert.ok(Number(value('process_resident_memory_bytes')) > 0);

  await service.graphql('mutation ($id: ID!) { deleteInstance(id: $id) { id } }', { id: ended.instance?.id });
  const after = (await metricsOf(service)).samples;
  assert.equal(sampled(after, 'pitr_recovery_windows', { instance: String(ended.instance?.id) }), undefined);

  const noPromtool = requirement('promtool', ['--version'], 'apt-get install prometheus');
  await t.test('promtool finds nothing to complain about', { skip: noPromtool }, () => {
    const { status, stderr, stdout } = spawnSync('promtool', ['check', 'metrics'], { input: text, encoding: 'utf8' });
    assert.deepEqual([status, stderr + stdout], [0, '']);
  });
});

test('with authentication no tenant sees metrics, and events say whose they are', { timeout: 60_000 }, async (t) => {
  const hook = await receiver(t);
  const dir = await scratchDir(t);
  writeFileSync(path.join(dir, 'secret'), secret);
  writeFileSync(path.join(dir, 'token'), 'sixteen-characters-at-least');
  const lines: Record<string, unknown>[] = [];
  const { pino } = await import('pino');
  const service = await serviceUnderTest(
    t,
    ['shop', 'bank'],
    {
      PITR_WEBHOOK_URL: hook.url,
      PITR_WEBHOOK_SECRET_FILE: path.join(dir, 'secret'),
      PITR_METRICS_LISTEN: '127.0.0.1:0',
      PITR_METRICS_TOKEN_FILE: path.join(dir, 'token'),
    },
    pino({}, { write: (line: string) => lines.push(JSON.parse(line)) }),
  );
  for (const tenant of ['shop', 'bank']) {
    const id = `${tenant}-orders`;
    await service.ask(
      tenant,
      `mutation { createInstance(input: { id: "${id}", name: "n", datastore: "sqlite" }) { id } }`,
    );
    const { data } = await service.ask(tenant, `mutation { takeBackup(instanceId: "${id}") { id } }`);
    const { id: backup } = (data as { takeBackup: { id: string } }).takeBackup;
    await untilState(service, tenant, `{ backup(id: "${backup}") { state } }`, ['COMPLETED']);
    await service.ask(tenant, `mutation { recoverInstance(instanceId: "${id}") { id } }`);
  }
  const events = (await hook.until(2)).map(verified);
  const whose = events.map(({ data }) => `${data.tenantId} ${data.sourceInstanceId}`).sort();
  assert.deepEqual(whose, ['bank bank-orders', 'shop shop-orders']);

  for (const token of ['shop', 'bank', '']) {
    const headers = { connection: 'close', ...(token && { authorization: `Bearer ${token}` }) };
    const response = await fetch(`${service.url}/metrics`, { headers });
    assert.equal(response.status, 404);
    assert.doesNotMatch(await response.text(), /orders/);
  }
  const url = String(lines.find(({ msg }) => msg === 'metrics are served')?.url);
  assert.equal((await fetch(url, { headers: { authorization: 'Bearer shop' } })).status, 401);
  const response = await fetch(url, { headers: { authorization: 'Bearer sixteen-characters-at-least' } });
  const samples = parseExposition(await response.text());
  assert.equal(sampled(samples, 'pitr_archive_healthy', { tenant: 'shop', instance: 'shop-orders' }), 1);
});

test('on SIGTERM /readyz says no at once, while requests are still answered, and then the port is closed', {
  timeout: 60_000,
}, async (t) => {
  const { service } = await told(t, { PITR_DRAIN_SECONDS: '3' });
  const get = async (where: string) => {
    const response = await fetch(`${service.url}${where}`, { headers: { connection: 'close' } });
    return { status: response.status, body: await response.text() };
  };
  assert.equal((await get('/readyz')).status, 200);
  const stopped = service.stop();
  await until('it says so', async () => (await get('/readyz')).status === 503);
  assert.match((await get('/readyz')).body, /stopping/);
  assert.equal((await get('/healthz')).status, 200);
  assert.deepEqual(await service.graphql('{ instances { id } }'), { instances: [] });
  assert.equal(await stopped, 0);
  await assert.rejects(get('/readyz'));
});

test('settings in files that are not usable are told before anything starts, without what they hold', async (t) => {
  const dir = await scratchDir(t);
  const file = path.join(dir, 'secret');
  writeFileSync(file, 'hunter2');
  for (const env of [
    { PITR_WEBHOOK_URL: 'https://hooks.example.com/', PITR_WEBHOOK_SECRET_FILE: file },
    { PITR_METRICS_LISTEN: '127.0.0.1:0', PITR_METRICS_TOKEN_FILE: file },
  ]) {
    const service = new Service(dir, { env: env as unknown as Record<string, string> });
    t.after(() => service.kill());
    await assert.rejects(service.start(), /ended with 1/);
    assert.match(service.stderr, /^These settings are not usable:\n {2}/);
    assert.doesNotMatch(service.stderr, /hunter2/);
  }
});
