/** Recoveries through the REST interface, on the real services with SQLite: what comes back is compared row by row. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { fileOf, runningService } from '../../support/runningService.js';
import { TestDatabase } from '../../support/sqliteDatabase.js';

/** An instance with rows 1 and 2, of which the backup has only the first, and the instants at which each was there. */
async function twoRows(t: TestContext) {
  const service = await runningService(t);
  const { id, file } = await service.create('shop');
  const db = await TestDatabase.open(file);
  t.after(() => db.close());
  await db.run('CREATE TABLE orders (n INTEGER PRIMARY KEY); INSERT INTO orders VALUES (1)');
  const backup = await service.backUp(id);
  const second = await service.committed(id, () => db.run('INSERT INTO orders VALUES (2)'));
  await service.committed(id, () => db.run('DELETE FROM orders'));

  /** The rows of an instance once it is there. */
  async function rowsOf(restored: string): Promise<unknown[]> {
    const { instance } = await service.until(`/instances/${restored}`, ({ instance: { status, fault } }) => {
      assert.notEqual(status, 'ERROR', JSON.stringify(fault));
      return status === 'ACTIVE';
    });
    const copy = await TestDatabase.open(fileOf(instance));
    const rows = await copy.all('SELECT n FROM orders ORDER BY n');
    await copy.close();
    return rows.map(({ n }) => n);
  }
  return { ...service, id, backup, second, rowsOf };
}

test('the blueprint: to an instant, written with and without a zone, and to the latest point', async (t) => {
  const { rest, id, second, rowsOf } = await twoRows(t);
  const zoneless = second.replace('Z', '');
  const { status, body } = await rest('POST', `/instances/${id}/restore`, {
    recovery: { instance: id, point_in_time: zoneless },
  });
  assert.equal(status, 202, JSON.stringify(body));
  const { recovery } = body;
  assert.equal(recovery.recoverd_from_instance, id);
  assert.equal(recovery.recovered_from_instance, id);
  assert.match(recovery.name, /^shop-recovered-/);
  assert.equal(recovery.datastore, 'sqlite');
  assert.match(recovery.datastore_version, /^3\./);
  assert.equal(recovery.point_in_time, second);
  assert.equal(recovery.closest_point_in_time, second);
  assert.equal(recovery.time_zone, 'UTC');
  assert.deepEqual(await rowsOf(recovery.id), [1, 2]);

  const latest = await rest('POST', `/instances/${id}/restore`, { recovery: {} });
  assert.equal(latest.body.recovery.point_in_time, null);
  assert.deepEqual(await rowsOf(latest.body.recovery.id), []);

  const later = await rest('POST', `/instances/${id}/restore`, { recovery: { point_in_time: '2100-01-01T00:00:00' } });
  assert.equal(later.status, 422);
  assert.match(later.body.unprocessableEntity.message, /lies in the future\. Ask for \d{4}-\S+Z or earlier/);
  assert.equal(later.body.unprocessableEntity.fault.code, 'TARGET_TOO_LATE');
  assert.match(later.body.unprocessableEntity.fault.details.nearestBefore, /Z$/);
});

test('a restorePoint: an instant of an instance, and exactly the state of a backup', async (t) => {
  const { rest, id, backup, second, rowsOf, until } = await twoRows(t);
  const restore = (restorePoint: unknown) =>
    rest('POST', '/instances', { instance: { name: 'again', flavorRef: 'any', restorePoint } });

  const instant = await restore({ instanceRef: id, point_in_time: second.replace('Z', '+00:00') });
  assert.equal(instant.status, 200, JSON.stringify(instant.body));
  assert.equal(instant.body.instance.status, 'BUILD');
  assert.equal(instant.body.instance.name, 'again');
  assert.equal(instant.body.instance.point_in_time, second);
  assert.deepEqual(await rowsOf(instant.body.instance.id), [1, 2]);

  const whole = await restore({ backupRef: backup.id });
  assert.equal(whole.status, 200, JSON.stringify(whole.body));
  assert.deepEqual(await rowsOf(whole.body.instance.id), [1]);
  const { instance } = (await rest('GET', `/instances/${whole.body.instance.id}`)).body;
  assert.equal(instance.recovered_from_instance, id);
  assert.equal(instance.operating_status, 'HEALTHY');

  // The id that the restore was answered with stays good for the instance that came of it.
  assert.notEqual(instance.id, whole.body.instance.id);
  assert.equal((await rest('DELETE', `/instances/${whole.body.instance.id}`)).status, 202);
  for (const gone of [instance.id, whole.body.instance.id]) {
    await until(`/instances/${gone}`, (body) => body.itemNotFound?.code === 404);
  }

  // A deleted source can still be recovered; a deleted backup can't.
  assert.equal((await rest('DELETE', `/instances/${id}`)).status, 202);
  const listed = (await rest('GET', '/instances')).body.instances as { id: string }[];
  assert.ok(!listed.some((each) => each.id === id));
  const after = await restore({ instanceRef: id, point_in_time: second });
  assert.deepEqual(await rowsOf(after.body.instance.id), [1, 2]);
  assert.equal((await rest('DELETE', `/backups/${backup.id}`)).status, 202);
  assert.equal((await restore({ backupRef: backup.id })).status, 404);
  assert.deepEqual((await rest('GET', `/instances/${id}/backups`)).body, { backups: [] });
});
