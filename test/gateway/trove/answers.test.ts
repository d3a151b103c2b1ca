/** What Trove's clients are sent: shapes, pages, how many calls a list costs, and nothing that is secret. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { BackupState, InstanceState } from '../../../src/model.js';
import { backupRow, instanceRow, noon, password, recoveryRow } from '../../support/gatewayRows.js';
import { gatewayUnderTest } from '../../support/gatewayUnderTest.js';
import { restAt } from '../../support/rest.js';

async function trove(t: TestContext) {
  const gateway = await gatewayUnderTest(t);
  const root = `${gateway.url}/v1.0/a%20b`;
  return { ...gateway, root, rest: restAt(root) };
}

test('a backup, alone and in both lists', async (t) => {
  const { rest, services } = await trove(t);
  const shape = {
    id: 'full',
    name: 'full-2026-11-22T12:00:00.000001Z',
    description: null,
    locationRef: 'file',
    instance_id: 'shop',
    created: '2026-11-22T12:00:00',
    updated: '2026-11-22T12:00:00',
    size: 8388608,
    status: 'COMPLETED',
    parent_id: null,
    project_id: 'a b',
    incremental: false,
    datastore: { type: 'postgresql', version: '15.18', version_number: '15.18', version_id: '15.18' },
  };
  assert.deepEqual((await rest('GET', '/backups/full')).body, { backup: shape });
  for (const address of ['/backups', '/backups?instance_id=shop', '/instances/shop/backups']) {
    assert.deepEqual((await rest('GET', address)).body, { backups: [shape] });
  }
  services.backupRows.splice(0, 1, backupRow({ sizeBytes: 53_687_091, type: 'INCREMENTAL', parentId: 'p' }));
  const { backup } = (await rest('GET', '/backups/full')).body;
  assert.deepEqual([backup.size, backup.incremental, backup.parent_id], [0.05, true, 'p']);
});

test('the states of a backup in the words of Trove', async (t) => {
  const { rest, services } = await trove(t);
  const cases: [state: BackupState, percent: number, status: string | undefined][] = [
    ['RUNNING', 0, 'NEW'],
    ['RUNNING', 1, 'BUILDING'],
    ['COMPLETED', 100, 'COMPLETED'],
    ['FAILED', 50, 'FAILED'],
    ['DELETING', 100, 'DELETE_FAILED'],
    ['DELETED', 100, undefined],
  ];
  for (const [state, percent, status] of cases) {
    services.backupRows.splice(0, 1, backupRow({ state, percent, sizeBytes: null }));
    const answer = await rest('GET', '/backups/full');
    assert.equal(answer.status, status === undefined ? 404 : 200);
    assert.equal(answer.body.backup?.status, status, state);
  }
  await rest('GET', '/backups');
  const [filter] = services.callsOf('backups.listAll')[0] ?? [];
  assert.deepEqual(filter, { states: ['RUNNING', 'COMPLETED', 'FAILED', 'DELETING'] });
});

test('an instance, alone and in both lists, without its credentials', async (t) => {
  const { rest, root } = await trove(t);
  const href = `${root}/instances/shop`;
  const shape = {
    id: 'shop',
    name: 'The shop',
    status: 'ACTIVE',
    operating_status: 'HEALTHY',
    flavor: { id: null, links: [] },
    volume: { size: 10 },
    datastore: { type: 'postgresql', version: '15.18', version_number: '15.18', version_id: '15.18' },
    region: null,
    tenant_id: 'a b',
    links: [
      { href, rel: 'self' },
      { href, rel: 'bookmark' },
    ],
    addresses: [{ address: '127.0.0.1', type: 'private' }],
    endpoint: 'postgresql://127.0.0.1:5432/shop',
    created: '2026-11-22T12:00:00',
    updated: '2026-11-22T12:00:00',
  };
  assert.deepEqual((await rest('GET', '/instances/shop')).body, { instance: shape });
  for (const address of ['/instances', '/instances/detail?include_clustered=False']) {
    const { body } = await rest('GET', address);
    assert.deepEqual(body, { instances: [shape] });
    assert.ok(!JSON.stringify(body).includes(password));
  }
  assert.equal((await fetch(href, { headers: { connection: 'close' } })).status, 200);
});

test('the states of an instance in the words of Trove', async (t) => {
  const { rest, services } = await trove(t);
  const cases: [state: InstanceState, status: string | undefined, operating: string | undefined][] = [
    ['PROVISIONING', 'BUILD', 'BUILDING'],
    ['ACTIVE', 'ACTIVE', 'HEALTHY'],
    ['STOPPED', 'SHUTDOWN', 'SHUTDOWN'],
    ['FAILED', 'ERROR', 'ERROR'],
    ['DELETED', undefined, undefined],
  ];
  for (const [state, status, operating] of cases) {
    services.instanceRows.splice(0, 1, instanceRow({ state, volumeSizeGiB: null }));
    const { body } = await rest('GET', '/instances/shop');
    assert.deepEqual([body.instance?.status, body.instance?.operating_status], [status, operating], state);
    assert.ok(!('volume' in (body.instance ?? {})));
  }
});

test('an instance that is being recovered, under the id of the recovery', async (t) => {
  const { rest, services } = await trove(t);
  const error = { code: 'STORAGE_FULL', message: 'The disk is full', hint: 'Make room.', retryable: true, details: {} };
  const set = (change: Parameters<typeof recoveryRow>[0]) => services.recoveryRows.splice(0, 1, recoveryRow(change));

  set({ state: 'QUEUED' });
  const { instance } = (await rest('GET', '/instances/rescue')).body;
  assert.deepEqual([instance.id, instance.status, instance.name], ['rescue', 'BUILD', 'The shop (recovered)']);
  assert.equal(instance.closest_point_in_time, '2026-11-22T12:00:00.000001Z');
  assert.equal(instance.recovered_from_instance, 'shop');

  const failed = { error: { ...error, code: 'STORAGE_FULL' as const }, finishedAt: noon };
  set({ state: 'FAILED', ...failed });
  const broken = (await rest('GET', '/instances/rescue')).body.instance;
  assert.equal(broken.status, 'ERROR');
  assert.deepEqual(broken.fault, {
    message: 'The disk is full. Make room.',
    created: '2026-11-22T12:00:00',
    details: null,
  });

  // Nothing can be done with what will never be there.
  assert.equal((await rest('GET', '/instances/rescue/backups')).status, 404);

  set({ state: 'CANCELLED' });
  assert.equal((await rest('GET', '/instances/rescue')).status, 404);

  // Reserved: the instance speaks for itself, unless its recovery is stuck.
  const made = { id: 'copy', origin: 'RECOVERED', createdByRecoveryId: 'rescue', recoveredFromId: 'shop' } as const;
  services.instanceRows.push(instanceRow({ ...made, state: 'PROVISIONING', endpoint: null }));
  for (const id of ['rescue', 'copy']) {
    set({ state: 'RUNNING', targetId: 'copy' });
    const building = (await rest('GET', `/instances/${id}`)).body.instance;
    assert.deepEqual([building.id, building.status, building.addresses], ['copy', 'BUILD', []]);
    set({ state: 'STUCK', targetId: 'copy', ...failed });
    assert.equal((await rest('GET', `/instances/${id}`)).body.instance.status, 'ERROR');
  }
});

test('the longest ids, tenants and flavors can be asked for, encoded too', async (t) => {
  const { url, services } = await gatewayUnderTest(t);
  const id = 'i'.repeat(128);
  services.instanceRows.push(instanceRow({ id }));
  for (const tenant of ['t'.repeat(128), encodeURIComponent(':'.repeat(128))]) {
    const { status, body } = await restAt(`${url}/v1.0/${tenant}`)('GET', `/instances/${id}`);
    assert.deepEqual([status, body.instance?.id, body.instance?.tenant_id], [200, id, decodeURIComponent(tenant)]);
  }
  for (const flavor of ['f'.repeat(255), '/'.repeat(255), 'ü'.repeat(255)]) {
    const { status, body } = await restAt(`${url}/v1.0/t`)('GET', `/flavors/${encodeURIComponent(flavor)}`);
    assert.deepEqual([status, body.flavor?.id], [200, flavor]);
  }
});

test('a list costs the same few calls however long it is', async (t) => {
  const { rest, services } = await trove(t);
  services.instanceRows.length = 0;
  services.backupRows.length = 0;
  for (let n = 0; n < 7; n += 1) services.instanceRows.push(instanceRow({ id: `i${n}` }));
  for (let n = 0; n < 50; n += 1) services.backupRows.push(backupRow({ id: `b${n}`, instanceId: `i${n % 7}` }));
  const cost = async (address: string) => {
    services.calls.length = 0;
    const { body } = await rest('GET', address);
    return [Object.values(body as Record<string, unknown[]>)[0]?.length, services.calls.map(({ name }) => name)];
  };
  assert.deepEqual(await cost('/backups?limit=50'), [50, ['backups.listAll', 'instances.byIds']]);
  assert.deepEqual(await cost('/backups?instance_id=i3'), [7, ['instances.byIds', 'backups.list']]);
  assert.deepEqual(await cost('/instances/i3/backups'), [7, ['instances.byIds', 'backups.list']]);
  assert.deepEqual(await cost('/instances'), [7, ['instances.list']]);
});

test('pages: a link to the next one where there is one, and only there', async (t) => {
  const { rest, services, root } = await trove(t);
  for (let n = 0; n < 3; n += 1) services.backupRows.push(backupRow({ id: `b${n}` }));
  const { body } = await rest('GET', '/backups?limit=2&marker=b9');
  assert.deepEqual(
    body.backups.map(({ id }: { id: string }) => id),
    ['full', 'b0'],
  );
  assert.deepEqual(body.links, [{ rel: 'next', href: `${root}/backups?limit=2&marker=b0` }]);
  assert.deepEqual(services.callsOf('backups.listAll')[0]?.[1], { first: 3, after: 'b9' });
  assert.ok(!('links' in (await rest('GET', '/backups?limit=4')).body));
  const ofOne = await rest('GET', '/backups?instance_id=shop&limit=1');
  assert.equal(ofOne.body.links[0].href, `${root}/backups?instance_id=shop&limit=1&marker=full`);
  await rest('GET', '/instances?limit=100000');
  assert.deepEqual(services.callsOf('instances.list')[0]?.[1], { first: 501, after: null });
  for (const query of [
    'limit=0',
    'limit=-1',
    'limit=1.5',
    'limit=x',
    'limit=',
    'marker=a/b',
    `marker=${'x'.repeat(129)}`,
  ]) {
    assert.equal((await rest('GET', `/backups?${query}`)).body.badRequest?.code, 400, query);
  }
});
