/** What is looked at before a source is taken, and what is refused with the setting to change. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type pg from 'pg';
import { createPostgresqlDatastore } from '../../../src/datastores/postgresql/postgresql.js';
import { NetworkBounds } from '../../../src/datastores/postgresql/source/networks.js';
import { slotName } from '../../../src/datastores/postgresql/source/source.js';
import { SourceSession } from '../../../src/datastores/postgresql/source/sourceSession.js';
import { Fault } from '../../../src/errors.js';
import { PostgresRig, sourceNow, withoutPostgresql } from '../../support/postgresql/postgresRig.js';
import { until } from '../../support/sqlitePrograms.js';

describe('PostgreSQL: inspecting and taking a source', { skip: withoutPostgresql, timeout: 180_000 }, () => {
  let rig: PostgresRig;
  let client: pg.Client;

  before(async () => {
    rig = await PostgresRig.alone({ max_connections: '500', max_prepared_transactions: '7' });
    client = await rig.connect();
  });

  after(async () => {
    await rig?.close();
  });

  async function refusal(uri: string): Promise<Fault> {
    try {
      await rig.inspect(uri);
    } catch (error) {
      assert.ok(error instanceof Fault, String(error));
      return error;
    }
    return assert.fail('it was not refused');
  }

  /** The rig's URI with something replaced. */
  function uri(change: (url: URL) => void): string {
    const url = new URL(rig.instance.connectionUri);
    change(url);
    return url.href;
  }

  test('what can be taken is told, and inspecting changes nothing', async () => {
    const facts = await rig.inspect();
    assert.match(facts.datastoreVersion, /^15\.\d+$/);
    const { port, password } = new URL(rig.instance.connectionUri);
    assert.equal(facts.endpoint, `postgresql://127.0.0.1:${port}/postgres`);
    assert.ok(!JSON.stringify([facts.state, facts.notices, facts.identity, facts.endpoint]).includes(password));
    assert.equal((await client.query('select from pg_replication_slots')).rowCount, 0);
    const same = await rig.inspect(uri((url) => (url.pathname = '/template1')));
    assert.equal(same.identity, facts.identity);
  });

  test('a wrong password, user, database or address', async () => {
    const wrong = await refusal(uri((url) => (url.password = 'wrong-secret')));
    assert.deepEqual([wrong.code, wrong.details.argument], ['INVALID_ARGUMENT', 'connectionUri']);
    assert.ok(!JSON.stringify(wrong.toData()).includes('wrong-secret'));
    assert.equal((await refusal(uri((url) => (url.password = '')))).code, 'INVALID_ARGUMENT');
    assert.equal((await refusal(uri((url) => (url.username = 'nobody')))).code, 'INVALID_ARGUMENT');
    assert.equal((await refusal(uri((url) => (url.pathname = '/nowhere')))).code, 'INVALID_ARGUMENT');
    assert.equal((await refusal(uri((url) => (url.port = '1')))).code, 'DATASTORE_UNAVAILABLE');
    assert.equal((await refusal('mysql://somewhere')).code, 'INVALID_ARGUMENT');
  });

  test('a user without REPLICATION, then with it', async () => {
    await client.query("create role plain login password 'plain'");
    const plain = uri((url) => {
      url.username = 'plain';
      url.password = 'plain';
    });
    const fault = await refusal(plain);
    assert.equal(fault.code, 'DATASTORE_NOT_SUPPORTED');
    assert.match(fault.hint ?? '', /ALTER ROLE … REPLICATION/);
    await client.query('alter role plain replication');
    // Such a user is enough for everything: slot, fence, log and backup.
    const instance = { ...rig.instance, connectionUri: (await rig.inspect(plain)).connectionUri };
    const capture = await rig.driver.capture(instance, null, rig.archive);
    const base = await rig.backup(capture, instance);
    // It is not a superuser: the settings that it may see came along.
    assert.equal((base.facts.state.settings as Record<string, string>).max_connections, '500');
    await client.query('create table taken as select 1 as one');
    const at = await sourceNow(client);
    // What would hang or break a copy that inherited it.
    await client.query("alter system set synchronous_standby_names = 'nobody'");
    await client.query("alter system set archive_command = 'false'");
    await capture.fence();
    await capture.stop();
    const recovered = await rig.recover(base, at);
    const { rows } = await recovered.client.query(
      `select current_setting('max_connections') as connections, current_setting('max_prepared_transactions') as prepared,
              current_setting('synchronous_standby_names') as standbys, current_setting('archive_mode') as archiving,
              current_setting('fsync') as fsync,
              (select one from taken) as one`,
    );
    assert.deepEqual(rows[0], {
      connections: '500',
      prepared: '7',
      standbys: '',
      archiving: 'off',
      fsync: 'on',
      one: 1,
    });
    await recovered.client.query('create table writable ()');
    await rig.driver.release(instance);
    await rig.driver.release(instance);
    assert.equal((await client.query('select from pg_replication_slots')).rowCount, 0);
    assert.equal((await client.query('select one from taken')).rowCount, 1, 'the data was not touched');
  });

  test('whether commits wait for a slot shows to a user who may not see other sessions, and while nobody streams', async () => {
    await client.query('create role blind login replication');
    await client.query("select pg_create_physical_replication_slot('pitr_a', true)");
    const session = new SourceSession({ ...rig.server.address, user: 'blind' }, 'blind');
    for (const [names, awaited] of [
      ['"PITR_a"', true],
      ['other, pitr_b', false],
      ['FIRST 1 (other, pitr_a)', true],
      ['', false],
      ['ANY 1 (*)', true],
    ] as const) {
      await client.query(`alter system set synchronous_standby_names = '${names}'`);
      await client.query('select pg_reload_conf()');
      await until(`it is seen in ${names}`, async () => {
        const { synchronous, named } = await session.slotState('pitr_a');
        return synchronous === awaited && named === awaited;
      });
    }
    await session.close();
    await client.query('alter system reset synchronous_standby_names');
    await client.query('select pg_reload_conf()');
    await client.query("select pg_drop_replication_slot('pitr_a')");
  });

  test('a session of an earlier user that does not end is told of, and is left no slot', async () => {
    await client.query("create role later login replication password 'later'");
    const later = uri((url) => {
      url.username = 'later';
      url.password = 'later';
    });
    const slot = slotName(rig.instance.id);
    await client.query('select pg_create_physical_replication_slot($1, true)', [slot]);
    const earlier = await rig.connect();
    await earlier.query(`set application_name = '${slot}'`);
    const instance = { ...rig.instance, connectionUri: later };
    await assert.rejects(rig.driver.release(instance), { code: 'DATASTORE_UNAVAILABLE', message: /does not end/ });
    assert.equal((await client.query('select from pg_replication_slots')).rowCount, 0);
    await earlier.query('reset application_name');
    await rig.driver.release(instance);
  });

  test('settings that stand in the way are named', async () => {
    await client.query("alter system set synchronous_standby_names = '*'");
    await client.query('select pg_reload_conf()');
    const other = await rig.connect();
    await other.query('set synchronous_commit = local');
    assert.match((await refusal(rig.instance.connectionUri)).message, /synchronous_standby_names/);
    await other.query('alter system reset synchronous_standby_names');
    await other.query("alter system set wal_level = 'minimal'");
    await other.query('alter system set max_wal_senders = 0');
    await rig.restartSource();
    assert.match((await refusal(rig.instance.connectionUri)).hint ?? '', /wal_level = replica/);
    client = await rig.connect();
    await client.query('alter system reset wal_level');
    await client.query('alter system set max_wal_senders = 1');
    await rig.restartSource();
    assert.match((await refusal(rig.instance.connectionUri)).hint ?? '', /max_wal_senders = 2 or more/);
    client = await rig.connect();
    await client.query('alter system reset max_wal_senders');
    await client.query('alter system set max_replication_slots = 0');
    await rig.restartSource();
    assert.match((await refusal(rig.instance.connectionUri)).hint ?? '', /max_replication_slots = 1 or more/);
    client = await rig.connect();
  });

  test('the name of a slot fits PostgreSQL', () => {
    assert.match(slotName('3F2504E0-4F89-11D3-9A0C-0305E82C3301'), /^pitr_[a-z0-9_]{36}$/);
    assert.ok(slotName('x'.repeat(100)).length <= 63);
  });

  test('a version that is not there is refused before anything is made', async () => {
    const driver = createPostgresqlDatastore({
      bounds: new NetworkBounds(['loopback', 'sockets']),
      realPath: async () => null,
    });
    await assert.rejects(driver.provision({ id: 'x', home: '/nowhere', datastoreVersion: '9.6' }), {
      code: 'DATASTORE_NOT_SUPPORTED',
    });
    await driver.close();
  });
});
