/** An archive that takes nothing for long: the source keeps log up to a cap, then its own disk comes first. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import type pg from 'pg';
import { slotName } from '../../../src/datastores/postgresql/source/source.js';
import { Fault } from '../../../src/errors.js';
import { PostgresRig, sourceNow, withoutPostgresql } from '../../support/postgresql/postgresRig.js';
import { until } from '../../support/sqlitePrograms.js';

const FULL = new Fault('STORAGE_FULL', 'The storage is full');

describe('PostgreSQL: log that a source has to keep', { skip: withoutPostgresql, timeout: 180_000 }, () => {
  let rig: PostgresRig;
  let client: pg.Client;

  beforeEach(async () => {
    rig = await PostgresRig.alone({
      autovacuum: 'off',
      min_wal_size: '32MB',
      max_wal_size: '64MB',
    });
    client = await rig.connect();
    await client.query('create table entry (number serial primary key, filler text)');
    // Compressed it would come to next to nothing.
    await client.query('alter table entry alter filler set storage external');
  });

  afterEach(async () => {
    await rig.close();
  });

  /** About 4 MB of log in one commit. */
  const write = () =>
    client.query('insert into entry (filler) select repeat(md5(i::text), 100) from generate_series(1, 1100) i');

  const count = async (of: pg.Client) => Number((await of.query('select count(*) from entry')).rows[0].count);

  const slots = async () =>
    (await client.query('select from pg_replication_slots where slot_name = $1', [slotName(rig.instance.id)])).rowCount;

  async function assertPresent(capture: Awaited<ReturnType<PostgresRig['capture']>>) {
    const base = await rig.backup(capture);
    await write();
    const at = await sourceNow(client);
    await capture.fence();
    const recovered = await rig.recover(base, at);
    assert.equal(await count(recovered.client), await count(client));
    await rig.drop(recovered);
  }

  test('is told, and told to be gone when it is archived', async () => {
    const capture = await rig.capture();
    await capture.fence();
    rig.archive.refuse = FULL;
    await write();
    await until('the retained bytes are told', () => (capture.health().retainedBytes ?? 0) > 3_000_000);
    assert.equal(await slots(), 1, 'below the cap the slot stays');
    rig.archive.refuse = null;
    await capture.fence();
    await until('they are gone', () => (capture.health().retainedBytes ?? Number.MAX_VALUE) < 1_000_000);
    assert.equal(rig.archive.stretches.length, 1);
    await capture.stop();
  });

  test('past the cap the slot is let go while the application writes on, and a new stretch heals it', async () => {
    await client.query("alter system set wal_keep_size = '0'");
    await client.query('select pg_reload_conf()');
    const capture = await rig.capture();
    await rig.backup(capture);
    rig.archive.refuse = FULL;
    for (let i = 0; i < 8; i++) await write();
    await until('the slot is gone', async () => (await slots()) === 0);
    await until('it is told', () => /takes no log.*let go of the source/.test(capture.health().message ?? ''));
    assert.equal(capture.health().healthy, false);
    // The application has gone on all the while, and the server may remove its log.
    for (let i = 0; i < 8; i++) {
      await write();
      await client.query('checkpoint');
    }
    assert.equal(await slots(), 0);
    assert.equal(rig.archive.stretches.length, 1);
    rig.archive.refuse = null;
    await rig.archive.until('a new stretch', () => rig.archive.stretches.length === 2);
    assert.equal(rig.archive.stretches[1]?.because, 'LOG_GAP');
    await rig.archive.until('it is healthy', () => rig.archive.healths.at(-1)?.healthy === true);
    await assertPresent(capture);
    await capture.stop();
  });

  test('past the cap there is no gap if the source still has the log when the archive takes it again', async () => {
    const capture = await rig.capture();
    const base = await rig.backup(capture);
    rig.archive.refuse = FULL;
    for (let i = 0; i < 8; i++) await write();
    await until('the slot is gone', async () => (await slots()) === 0);
    await write();
    rig.archive.refuse = null;
    await rig.archive.until('it is healthy', () => rig.archive.healths.at(-1)?.healthy === true);
    const at = await sourceNow(client);
    await capture.fence();
    assert.equal(rig.archive.stretches.length, 1);
    const recovered = await rig.recover(base, at);
    assert.equal(await count(recovered.client), await count(client));
    await rig.drop(recovered);
    await capture.stop();
  });
});
