/** What came with later majors and touches capture and recovery, and sources that become of another major. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type pg from 'pg';
import { ManagedServer } from '../../../src/datastores/postgresql/server/server.js';
import { slotName } from '../../../src/datastores/postgresql/source/source.js';
import { withoutMajor } from '../../support/postgresql/majors.js';
import { PostgresRig, sourceNow } from '../../support/postgresql/postgresRig.js';
import { until } from '../../support/sqlitePrograms.js';

describe('PostgreSQL 18: settings that are new', { skip: withoutMajor(18), timeout: 180_000 }, () => {
  let rig: PostgresRig;
  let client: pg.Client;

  before(async () => {
    rig = await PostgresRig.alone(
      { autovacuum: 'off', idle_replication_slot_timeout: '1s', max_active_replication_origins: '20' },
      18,
    );
    client = await rig.connect();
    await client.query('create table entry (number int primary key)');
  });

  after(async () => {
    await rig?.close();
  });

  test('a slot that the server takes away while nobody uses it is made again, without a gap', async () => {
    const { notices } = await rig.inspect();
    assert.ok(
      notices.some((notice) => /longer than idle_replication_slot_timeout, 1s/.test(notice)),
      JSON.stringify(notices),
    );
    const capture = await rig.capture();
    const base = await rig.backup(capture);
    await capture.stop();
    await client.query('insert into entry values (1)');
    const slot = slotName(rig.instance.id);
    await until('the server takes the slot away', async () => {
      // It does at checkpoints.
      await client.query('checkpoint');
      const { rows } = await client.query(
        'select wal_status, invalidation_reason as why from pg_replication_slots where slot_name = $1',
        [slot],
      );
      assert.equal(rows.length, 1);
      return rows[0].wal_status === 'lost' && rows[0].why === 'idle_timeout';
    });
    const again = await rig.capture();
    await again.fence();
    const at = await sourceNow(client);
    await again.fence();
    assert.equal(rig.archive.stretches.length, 1, 'the log was still there');
    const recovered = await rig.recover(base, at);
    assert.deepEqual((await recovered.client.query('select number from entry')).rows, [{ number: 1 }]);
    const { rows } = await client.query('select wal_status from pg_replication_slots where slot_name = $1', [slot]);
    assert.equal(rows[0]?.wal_status, 'reserved');
    await rig.drop(recovered);
    await again.stop();
  });

  test('a copy has room for as many replication origins as its parent uses', async () => {
    await client.query(
      "select pg_replication_origin_advance('origin ' || i, '0/1') from generate_series(1, 15) i, " +
        "lateral pg_replication_origin_create('origin ' || i)",
    );
    const capture = await rig.capture();
    const base = await rig.backup(capture);
    const recovered = await rig.recover(base, base.facts.consistentAt);
    const { rows } = await recovered.client.query('select count(*)::int as origins from pg_replication_origin_status');
    assert.deepEqual(rows, [{ origins: 15 }]);
    await rig.drop(recovered);
    await capture.stop();
  });
});

describe('PostgreSQL: a source that becomes of another major', {
  skip: withoutMajor(16) || withoutMajor(18),
  timeout: 180_000,
}, () => {
  test('a new stretch begins, and both sides of it are recovered by their own major’s server', async () => {
    const rig = await PostgresRig.alone({ autovacuum: 'off' }, 16);
    const grown = await PostgresRig.alone({ autovacuum: 'off' }, 18);
    try {
      const { username, password, port } = new URL(rig.instance.connectionUri);
      const [before, after] = [await rig.connect(), await grown.connect()];
      await before.query('create table entry as select 16 as major');
      await after.query('create table entry as select 18 as major');
      await after.query(`alter role ${username} password '${decodeURIComponent(password)}'`);
      const capture = await rig.capture();
      const base = await rig.backup(capture);
      const old = await sourceNow(before);
      await before.query('truncate entry');
      await capture.fence();
      // As after pg_upgrade: at the same address, with the same users, and another cluster all the same.
      await rig.endClients();
      await rig.server.stop();
      await grown.endClients();
      await grown.server.stop();
      const moved = new ManagedServer({ ...grown.server.place, port: Number(port) });
      await moved.start();
      try {
        await rig.archive.until('the new stretch', () => rig.archive.stretches.length === 2);
        assert.equal(rig.archive.stretches[1]?.because, 'LOG_GAP');
        await rig.archive.until('the capture is back', () => rig.archive.healths.at(-1)?.healthy === true);
        const newBase = await rig.backup(capture);
        for (const [from, at, major, rows] of [
          [base, old, 16, [{ major: 16 }]],
          [newBase, newBase.facts.consistentAt, 18, [{ major: 18 }]],
        ] as const) {
          const recovered = await rig.recover(from, at);
          assert.match(recovered.facts.datastoreVersion, new RegExp(`^${major}\\.`));
          assert.deepEqual((await recovered.client.query('select major from entry')).rows, rows);
          await rig.drop(recovered);
        }
        await capture.stop();
      } finally {
        await moved.stop();
      }
    } finally {
      await rig.close();
      await grown.close();
    }
  });
});

describe('PostgreSQL 14: not supported', { skip: withoutMajor(14), timeout: 180_000 }, () => {
  test('a source that has become of such a major is not captured, and says why', async () => {
    const rig = await PostgresRig.alone({}, 14);
    try {
      const client = await rig.connect();
      const capture = await rig.capture();
      await rig.archive.until('it is told', () => capture.health().message?.includes('PostgreSQL 14') === true);
      assert.equal(capture.health().healthy, false);
      assert.deepEqual(rig.archive.stretches, []);
      assert.equal((await client.query('select from pg_replication_slots')).rowCount, 0);
      await capture.stop();
    } finally {
      await rig.close();
    }
  });
});
