/** Arguments are checked before any service is asked, and reach it as it expects them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gatewayUnderTest, onlyError } from '../support/gatewayUnderTest.js';

test('an id that cannot be one is null or not found, and never reaches a service', async (t) => {
  const { post, services } = await gatewayUnderTest(t);
  const id = JSON.stringify('../etc');
  const nothing = await post(`{ instance(id: ${id}) { id } backup(id: ${id}) { id } recovery(id: ${id}) { id } }`);
  assert.deepEqual(nothing, { status: 200, data: { instance: null, backup: null, recovery: null }, errors: undefined });
  const expected = {
    [`{ backups(instanceId: ${id}) { id } }`]: 'INSTANCE_NOT_FOUND',
    [`{ recoveryPlan(instanceId: ${id}) { plan { logBytes } } }`]: 'INSTANCE_NOT_FOUND',
    '{ recoveries(instanceId: "") { id } }': 'INSTANCE_NOT_FOUND',
    [`mutation { deleteInstance(id: ${id}) { id } }`]: 'INSTANCE_NOT_FOUND',
    [`mutation { takeBackup(instanceId: ${id}) { id } }`]: 'INSTANCE_NOT_FOUND',
    [`mutation { deleteBackup(id: ${id}) { id } }`]: 'BACKUP_NOT_FOUND',
    [`mutation { cancelRecovery(id: ${id}) { id } }`]: 'RECOVERY_NOT_FOUND',
  };
  for (const [query, code] of Object.entries(expected)) {
    assert.equal(onlyError(await post(query)).extensions.code, code, query);
  }
  assert.deepEqual(services.calls, []);
});

test('arguments out of range are INVALID_ARGUMENT and name the argument', async (t) => {
  const { post, services } = await gatewayUnderTest(t);
  const create = (input: string) => `mutation { createInstance(input: { datastore: "sqlite", ${input} }) { id } }`;
  const wrong: [argument: string, query: string][] = [
    ['first', '{ instances(first: 0) { id } }'],
    ['first', '{ instances(first: 501) { id } }'],
    ['first', '{ backups(instanceId: "shop", first: -1) { id } }'],
    ['first', '{ instance(id: "shop") { backups(first: 501) { id } } }'],
    ['first', '{ instance(id: "shop") { recoveries(first: 0) { id } } }'],
    ['first', '{ recoveries(first: 501) { id } }'],
    ['after', '{ instances(after: "a b") { id } }'],
    ['id', create('name: "a", id: "a/b"')],
    ['id', create(`name: "a", id: "${'a'.repeat(129)}"`)],
    ['name', create('name: "   "')],
    ['name', create(`name: "${'é'.repeat(256)}"`)],
    ['name', create('name: "a\\u0000b"')],
    ['volumeSizeGiB', create('name: "a", volumeSizeGiB: 0')],
    ['flavor', create('name: "a", flavor: ""')],
    ['name', 'mutation { updateInstance(id: "shop", input: { name: null }) { id } }'],
    ['connectionUri', 'mutation { updateInstance(id: "shop", input: { connectionUri: null }) { id } }'],
    ['idempotencyKey', 'mutation { recoverInstance(instanceId: "shop", idempotencyKey: "") { id } }'],
    [
      'position',
      '{ recoveryPlan(instanceId: "shop", position: "0/1", pointInTime: "2026-01-01T00:00:00Z") { plan { logBytes } } }',
    ],
  ];
  for (const [argument, query] of wrong) {
    const { extensions } = onlyError(await post(query));
    assert.deepEqual([extensions.code, extensions.details], ['INVALID_ARGUMENT', { argument }], query);
  }
  assert.deepEqual(
    services.calls.filter(({ name }) => name !== 'instances.byIds'),
    [],
  );
});

test('what is left out and what is null reach the services as they expect it', async (t) => {
  const { post, services } = await gatewayUnderTest(t);
  await post('mutation { createInstance(input: { name: "  a shop 🛍  ", datastore: "sqlite" }) { id } }');
  assert.deepEqual(services.callsOf('instances.create'), [
    [{ id: null, name: 'a shop 🛍', datastore: 'sqlite', datastoreVersion: null, flavor: null, volumeSizeGiB: null }],
  ]);
  await post('mutation { updateInstance(id: "shop", input: { flavor: null }) { id } }');
  assert.deepEqual(services.callsOf('instances.update'), [['shop', { flavor: null }]]);
  await post('mutation { recoverInstance(instanceId: "shop") { id } }');
  assert.deepEqual(services.callsOf('recoveries.recover'), [
    [{ instanceId: 'shop', target: { pointInTime: null, position: null }, name: null, idempotencyKey: null }],
  ]);
  await post(
    '{ instance(id: "shop") { backups { id } some: backups(states: [FAILED], first: 2, after: "x") { id } } }',
  );
  assert.deepEqual(services.callsOf('backups.list'), [
    ['shop', { states: ['COMPLETED'], before: null }, { first: 50, after: null }],
    ['shop', { states: ['FAILED'], before: null }, { first: 2, after: 'x' }],
  ]);
  await post('mutation { takeBackup(instanceId: "shop") { id } }');
  assert.deepEqual(services.callsOf('backups.take'), [['shop', 'FULL']]);
});

test('a state that is listed very often is one state', async (t) => {
  const { post, services } = await gatewayUnderTest(t);
  const states = Array.from({ length: 50_000 }, (_, index) => (index % 2 ? 'FAILED' : 'RUNNING'));
  const query = `query ($b: [BackupState!], $r: [RecoveryState!]) {
    instance(id: "shop") { backups(states: $b) { id } } recoveries(states: $r) { id }
  }`;
  assert.equal((await post(query, { b: states, r: states })).errors, undefined);
  assert.deepEqual(services.callsOf('backups.list')[0]?.[1], { states: ['RUNNING', 'FAILED'], before: null });
  assert.deepEqual(services.callsOf('recoveries.list')[0]?.[0], { sourceId: null, states: ['RUNNING', 'FAILED'] });
});
