/** What the edge makes of a document: one call per level, and only public fields in the answer. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { presentInstance } from '../../src/gateway/present.js';
import { backupRow, instanceRow, noon, password, planRecord, recoveryRow } from '../support/gatewayRows.js';
import { gatewayUnderTest, onlyError } from '../support/gatewayUnderTest.js';

test('a nested query asks once per level and not once per row', async (t) => {
  const { post, services } = await gatewayUnderTest(t);
  services.instanceRows.push(
    ...['a', 'b', 'c'].map((id) => instanceRow({ id, recoveredFromId: 'shop', createdByRecoveryId: 'rescue' })),
  );
  services.windows.set('a', [{ from: noon, to: noon, startsBecause: 'FIRST_BACKUP', endsBecause: 'LATEST_ARCHIVED' }]);
  const { data, errors } = await post(`{
    instances {
      id
      recoveredFrom { id }
      createdBy { id source { name } steps { name } }
      recoveryWindows { from }
      earliestRecoverableTime
      latestRecoverableTime
      logArchive { bytes }
    }
  }`);
  assert.equal(errors, undefined);
  const list = (data?.instances ?? []) as Record<string, unknown>[];
  assert.deepEqual(list[1], {
    id: 'a',
    recoveredFrom: { id: 'shop' },
    createdBy: { id: 'rescue', source: { name: 'The shop' }, steps: [] },
    recoveryWindows: [{ from: '2026-11-22T12:00:00.000001Z' }],
    earliestRecoverableTime: '2026-11-22T12:00:00.000001Z',
    latestRecoverableTime: '2026-11-22T12:00:00.000001Z',
    logArchive: { bytes: 2 ** 40 },
  });
  assert.deepEqual(list[0]?.recoveryWindows, []);
  assert.equal(list[0]?.latestRecoverableTime, null);
  const counts = Object.fromEntries(
    [
      'instances.byIds',
      'recoveries.byIds',
      'recoveries.steps',
      'instances.recoveryWindows',
      'instances.logArchives',
    ].map((name) => [name, services.callsOf(name).length]),
  );
  assert.deepEqual(counts, {
    // Once for recoveredFrom, once for the source a level below.
    'instances.byIds': 2,
    'recoveries.byIds': 1,
    'recoveries.steps': 1,
    'instances.recoveryWindows': 1,
    'instances.logArchives': 1,
  });
  assert.deepEqual(services.callsOf('instances.recoveryWindows'), [[['shop', 'a', 'b', 'c']]]);
});

test('the chains of many backups cost one call per link', async (t) => {
  const { post, services } = await gatewayUnderTest(t);
  const link = (id: string, parentId: string) => backupRow({ id, parentId, type: 'INCREMENTAL' });
  services.backupRows.push(link('one', 'full'), link('two', 'one'), link('other', 'one'));
  const { data } = await post('{ backups(instanceId: "shop") { id parent { id } chain { id instance { id } } } }');
  const two = (data?.backups as Record<string, unknown>[] | undefined)?.[2];
  const instance = { id: 'shop' };
  assert.deepEqual(two, {
    id: 'two',
    parent: { id: 'one' },
    chain: [
      { id: 'full', instance },
      { id: 'one', instance },
      { id: 'two', instance },
    ],
  });
  assert.equal(services.callsOf('backups.byIds').length, 2);
  // Chains of three lengths are complete at three moments.
  assert.ok(services.callsOf('instances.byIds').length <= 3);
});

test('a chain that stands on a missing backup, or on itself, is an error or an end, never a hang', async (t) => {
  const { post, services } = await gatewayUnderTest(t);
  services.backupRows.push(backupRow({ id: 'orphan', parentId: 'gone' }), backupRow({ id: 'ring', parentId: 'ring' }));
  const orphan = await post('{ backup(id: "orphan") { parent { id } chain { id } } }');
  assert.equal(onlyError(orphan).extensions.code, 'BACKUP_NOT_FOUND');
  const ring = await post('{ backup(id: "ring") { chain { id } } }');
  assert.deepEqual(ring.data?.backup, { chain: [{ id: 'ring' }] });
});

test('no credential, storage key or driver state is in any answer, and readers see no connectionUri', async (t) => {
  const { post } = await gatewayUnderTest(t);
  const all = await post('{ backups(instanceId: "shop") { id position sha256 location } instances { name endpoint } }');
  assert.equal(all.errors, undefined);
  assert.doesNotMatch(JSON.stringify(all), new RegExp(`${password}|secret`));
  const { data } = await post('{ instance(id: "shop") { connectionUri } }');
  assert.match(JSON.stringify(data), new RegExp(password));
  assert.equal(presentInstance(instanceRow(), { tenantId: 'local', role: 'reader' }).connectionUri, null);
  assert.equal(
    presentInstance(instanceRow(), { tenantId: 'local', role: 'operator' }).connectionUri?.includes(password),
    true,
  );
});

test('a dry run answers with a plan and what it stands on, or with the fault and the instants near it', async (t) => {
  const { post, services } = await gatewayUnderTest(t);
  services.backupRows.push(backupRow({ id: 'later', parentId: 'full', type: 'INCREMENTAL' }));
  services.assessment = { plan: planRecord({ incrementalIds: ['later'] }), fault: null };
  const query = `{ recoveryPlan(instanceId: "shop") {
    plan { instance { id } base { id } incrementals { id } estimatedSeconds bytesToFetch cut { position firstDroppedAt } }
    fault { code hint retryable earliest latest nearestBefore nearestAfter details }
  } }`;
  assert.deepEqual((await post(query)).data?.recoveryPlan, {
    plan: {
      instance: { id: 'shop' },
      base: { id: 'full' },
      incrementals: [{ id: 'later' }],
      estimatedSeconds: 12.5,
      bytesToFetch: 2 ** 34,
      cut: { position: '0/9000028', firstDroppedAt: null },
    },
    fault: null,
  });

  const details = { nearestBefore: '2026-11-22T12:00:00Z', nearestAfter: '2026-11-22T14:00:00+01:00', latest: 'soon' };
  services.assessment = {
    plan: null,
    fault: { code: 'TARGET_IN_LOG_GAP', message: 'A gap', hint: null, retryable: false, details },
  };
  assert.deepEqual((await post(query)).data?.recoveryPlan, {
    plan: null,
    fault: {
      code: 'TARGET_IN_LOG_GAP',
      hint: null,
      retryable: false,
      earliest: null,
      latest: null,
      nearestBefore: '2026-11-22T12:00:00.000000Z',
      nearestAfter: '2026-11-22T13:00:00.000000Z',
      details,
    },
  });
});

test('a recovery shows its plan, target, steps, progress and error', async (t) => {
  const { post, services } = await gatewayUnderTest(t);
  const error = { code: 'STORAGE_FULL' as const, message: 'Full', hint: 'Add some', retryable: true, details: {} };
  services.recoveryRows.push(recoveryRow({ id: 'failed', state: 'FAILED', targetId: 'shop', error }));
  services.stepRows.push({
    recoveryId: 'failed',
    name: 'RESERVE',
    state: 'UNDONE',
    attempts: 2,
    startedAt: noon,
    finishedAt: noon,
    error: null,
    output: { secret: password },
  });
  const answer = await post(`{ recovery(id: "failed") {
    state requestedPointInTime closestPointInTime error { code hint }
    instance { id } source { id } plan { base { id } } steps { name state attempts }
    progress { sequence step percent recovery { id } }
  } }`);
  assert.deepEqual(answer.data?.recovery, {
    state: 'FAILED',
    requestedPointInTime: '2026-11-22T12:00:00.000001Z',
    closestPointInTime: '2026-11-22T12:00:00.000001Z',
    error: { code: 'STORAGE_FULL', hint: 'Add some' },
    instance: { id: 'shop' },
    source: { id: 'shop' },
    plan: { base: { id: 'full' } },
    steps: [{ name: 'RESERVE', state: 'UNDONE', attempts: 2 }],
    progress: { sequence: 3, step: 'RESTORE_BASE', percent: 20, recovery: { id: 'failed' } },
  });
});

test('one line per operation, with neither variables nor headers', async (t) => {
  const { post, log } = await gatewayUnderTest(t);
  await post('query Look($id: ID!) { instance(id: $id) { id } }', { id: password });
  await post('query ($id: Int!) { instances(first: $id) { id } }', { id: password });
  const lines = log.filter(({ msg }) => msg === 'operation');
  assert.equal(lines.length, 2);
  const [first, second] = lines;
  assert.deepEqual([first?.operation, first?.kind, first?.via, typeof first?.ms], ['Look', 'query', 'http', 'number']);
  assert.match(String(first?.requestId), /^[0-9a-f-]{36}$/);
  assert.deepEqual(second?.codes, ['BAD_USER_INPUT']);
  assert.doesNotMatch(JSON.stringify(log), new RegExp(password));
});
