/** OpenStack's own command line against the real services: it can do here what it can do with Trove. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openstack, openstackJson, openstackMissing } from '../../support/openstack.js';
import { runningService } from '../../support/runningService.js';
import { TestDatabase } from '../../support/sqliteDatabase.js';

type Row = Record<string, unknown>;

test('lists, shows, takes, restores and deletes', { skip: openstackMissing() }, async (t) => {
  const { root, rest, create, backUp, until } = await runningService(t);
  const { id, file } = await create('shop');
  const db = await TestDatabase.open(file);
  await db.run('CREATE TABLE orders (n INTEGER); INSERT INTO orders VALUES (1)');
  await db.close();
  const backups: Row[] = [];
  for (let n = 0; n < 3; n += 1) backups.unshift(await backUp(id));
  const newest = String(backups[0]?.id);

  const rows = await openstackJson<Row[]>(root, 'backup', 'list');
  assert.deepEqual(
    rows.map((row) => [row.ID, row['Instance ID'], row.Status, row['Project ID']]),
    backups.map((backup) => [backup.id, id, 'COMPLETED', 'demo']),
  );
  assert.deepEqual(rows[0]?.Name, backups[0]?.name);
  // By the name of the instance, and only one page of them.
  const page = await openstackJson<Row[]>(
    root,
    'backup',
    'list',
    '--instance',
    'shop',
    '--limit',
    '1',
    '--marker',
    newest,
  );
  assert.deepEqual(
    page.map((row) => row.ID),
    [backups[1]?.id],
  );
  const shown = await openstackJson<Row>(root, 'backup', 'show', newest);
  assert.deepEqual(
    [shown.id, shown.status, shown.datastore, shown.size],
    [newest, 'COMPLETED', 'sqlite', backups[0]?.size],
  );

  const taken = await openstackJson<Row>(root, 'backup', 'create', 'nightly', '--instance', 'shop');
  assert.deepEqual([taken.instance_id, taken.status, taken.size], [id, 'NEW', null]);
  await until(`/backups/${taken.id}`, ({ backup }) => backup.status === 'COMPLETED');

  const words = ['instance', 'create', 'again', '--flavor', 'any', '--backup', newest];
  const restored = await openstackJson<Row>(root, ...words);
  assert.deepEqual([restored.name, restored.status, restored.datastore], ['again', 'BUILD', 'sqlite']);
  const { instance } = await until(`/instances/${restored.id}`, (body) => body.instance.status === 'ACTIVE');

  const instances = await openstackJson<Row[]>(root, 'instance', 'list');
  assert.deepEqual(
    instances.map((row) => [row.ID, row.Name, row.Datastore, row.Status, row['Operating Status']]),
    [
      [instance.id, 'again', 'sqlite', 'ACTIVE', 'HEALTHY'],
      [id, 'shop', 'sqlite', 'ACTIVE', 'HEALTHY'],
    ],
  );
  const found = await openstackJson<Row>(root, 'instance', 'show', 'again');
  assert.deepEqual([found.id, found.status, found.recovered_from_instance], [instance.id, 'ACTIVE', id]);
  assert.match(String(found.datastore_version), /^3\./);

  await openstack(root, 'backup', 'delete', newest);
  assert.equal((await rest('GET', `/backups/${newest}`)).status, 404);
  await assert.rejects(openstack(root, 'backup', 'show', newest), /No backup with a name or ID of/i);
  await assert.rejects(openstack(root, 'instance', 'create', 'none', '--flavor', 'any'), /type is missing.*HTTP 400/s);
});
