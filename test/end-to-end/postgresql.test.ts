/** PostgreSQL through the service as its users have it: servers that somebody else runs, registered over HTTP. */
import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import type pg from 'pg';
import { handOver, run } from '../../src/datastores/postgresql/server/processes.js';
import { freePort, ManagedServer } from '../../src/datastores/postgresql/server/server.js';
import { writeOwned } from '../../src/datastores/postgresql/server/settings.js';
import { formatInstant, instant, parseInstant } from '../../src/instant.js';
import {
  type BackupSeen,
  backUp,
  beginRecovery,
  changeUri,
  column,
  type InstanceSeen,
  instance,
  plan,
  recover,
  recoveryEnded,
  register,
  remove,
} from '../support/postgresql/postgresCalls.js';
import { BIN, PostgresRig, sourceNow, withoutPostgresql } from '../support/postgresql/postgresRig.js';
import { type Service, startService } from '../support/service.js';
import { until } from '../support/sqlitePrograms.js';

describe('PostgreSQL: registered servers through the service', { skip: withoutPostgresql, timeout: 300_000 }, () => {
  let rig: PostgresRig;
  let service: Service;
  let client: pg.Client;
  let registered: InstanceSeen;
  let first: BackupSeen;
  let stopService = async (): Promise<void> => {};
  const context = {
    after: (stop: unknown) => {
      stopService = stop as typeof stopService;
    },
  };

  before(async () => {
    rig = await PostgresRig.alone({ autovacuum: 'off' });
    client = await rig.connect();
    await client.query('create table note (id serial primary key, text text not null)');
    service = await startService(context);
    registered = await register(service, 'orders', rig.instance.connectionUri);
    first = await backUp(service, registered.id);
  });

  after(async () => {
    // The service first: it is a client of the rig's server.
    await stopService();
    await rig?.close();
  });

  async function note(text: string): Promise<string> {
    await client.query('insert into note (text) values ($1)', [text]);
    return formatInstant(await sourceNow(client));
  }

  const notes = (uri: string) => column(uri, 'select text from note order by id');

  test('what the service does to the server is said when it is registered, and later', async () => {
    const [slot] = await column(rig.instance.connectionUri, 'select slot_name from pg_replication_slots');
    assert.ok(
      registered.notices.some((notice) => notice.includes(`replication slot named ${slot} `)),
      JSON.stringify(registered.notices),
    );
    assert.ok(registered.notices.some((notice) => notice.includes('max_slot_wal_keep_size')));
    assert.deepEqual((await instance(service, registered.id)).notices, registered.notices);
  });

  test('over TCP with a password: an instant, the present, and the passwords of that instant', async () => {
    const kept = await note('kept');
    await client.query('delete from note');
    const back = await recover(service, registered.id, { pointInTime: kept });
    assert.equal(back.state, 'ACTIVE');
    // The copy has the source's users, so the source's own credentials open it.
    assert.deepEqual(await notes(back.connectionUri), ['kept']);
    assert.ok(!back.endpoint.includes('@'), 'the endpoint bears no credentials');
    await note('the newest');
    const present = await recover(service, registered.id);
    assert.deepEqual(await notes(present.connectionUri), ['the newest']);
    await remove(service, back.id);
    await remove(service, present.id);
    const secret = decodeURIComponent(new URL(rig.instance.connectionUri).password);
    assert.ok(secret.length > 10);
    assert.ok(!JSON.stringify(service.log).includes(secret), 'the password is in no log line');
  });

  test('a position is an LSN with its stretch, or an LSN as PostgreSQL prints it', async () => {
    await note('before the position');
    const [lsn] = await column(rig.instance.connectionUri, 'select pg_current_wal_insert_lsn()::text');
    await note('after the position');
    await recoverable();
    const bare = await plan(service, registered.id, { position: String(lsn) });
    assert.equal(bare.code, null);
    assert.deepEqual(await plan(service, registered.id, { position: bare.cut ?? '' }), bare);
    const back = await recover(service, registered.id, { position: String(lsn) });
    assert.equal((await notes(back.connectionUri)).at(-1), 'before the position');
    await remove(service, back.id);
    assert.equal((await plan(service, registered.id, { position: '0/1' })).code, 'TARGET_TOO_EARLY');
    assert.equal((await plan(service, registered.id, { position: 'FF/1' })).code, 'TARGET_TOO_LATE');
    await assert.rejects(
      beginRecovery(service, registered.id, { position: '0/1000@tl9-20200101T000000.000Z' }),
      (error: { code?: string }) => error.code === 'INVALID_ARGUMENT',
    );
  });

  test('every LSN between two commits names the same cut, whatever segment it lies in', async () => {
    // Log without commits: what is rolled back fills whole segments.
    await note('the last commit for a while');
    const [from] = await column(rig.instance.connectionUri, 'select pg_current_wal_insert_lsn()::text');
    await client.query('begin');
    await client.query("insert into note (text) select repeat('x', 1000) from generate_series(1, 20000)");
    const [to] = await column(rig.instance.connectionUri, 'select pg_current_wal_insert_lsn()::text');
    await client.query('rollback');
    await note('the next commit');
    await recoverable();
    const [near, far] = [
      await plan(service, registered.id, { position: String(from) }),
      await plan(service, registered.id, { position: String(to) }),
    ];
    assert.equal(near.code, null);
    assert.deepEqual(far, near);
  });

  test('the future and the time before the first backup are refused with the nearest instant', async () => {
    const future = formatInstant(instant((await sourceNow(client)) + 3_600_000_000));
    const late = await plan(service, registered.id, { pointInTime: future });
    assert.equal(late.code, 'TARGET_TOO_LATE');
    const early = formatInstant(instant(parseInstant(first.consistentAt) - 1));
    const refused = await plan(service, registered.id, { pointInTime: early });
    assert.equal(refused.code, 'TARGET_TOO_EARLY');
    assert.ok(refused.hint?.includes(first.consistentAt));
    assert.equal((await plan(service, registered.id, { pointInTime: first.consistentAt })).base, first.id);
  });

  test('an instant between a backup’s start and its end starts from the backup before', async () => {
    const inside = await note('while the backup runs');
    const second = await backUp(service, registered.id);
    await recoverable();
    assert.ok(inside < second.consistentAt);
    const just = formatInstant(instant(parseInstant(second.consistentAt) - 1));
    assert.equal((await plan(service, registered.id, { pointInTime: just })).base, first.id);
    assert.equal((await plan(service, registered.id, { pointInTime: second.consistentAt })).base, second.id);
    const back = await recover(service, registered.id, { pointInTime: just });
    assert.equal((await notes(back.connectionUri)).at(-1), 'while the backup runs');
    await remove(service, back.id);
  });

  test('of two recoveries at once one is cancelled and the other succeeds', async () => {
    const at = await note('for both');
    const [kept, cancelled] = [
      await beginRecovery(service, registered.id, { pointInTime: at }),
      await beginRecovery(service, registered.id, { pointInTime: at }),
    ];
    await service.graphql('mutation ($id: ID!) { cancelRecovery(id: $id) { id } }', { id: cancelled });
    const [one, other] = [await recoveryEnded(service, kept), await recoveryEnded(service, cancelled)];
    assert.deepEqual([one.state, other.state, other.instance], ['SUCCEEDED', 'CANCELLED', null]);
    assert.equal((await notes(one.instance?.connectionUri ?? '')).at(-1), 'for both');
    await remove(service, one.instance?.id ?? '');
  });

  test('a prepared transaction counts from its COMMIT PREPARED on', async () => {
    await client.query("alter system set max_prepared_transactions = '5'");
    await client.end();
    await rig.restartSource();
    client = await rig.connect();
    await client.query('begin');
    await client.query("insert into note (text) values ('prepared')");
    await client.query("prepare transaction 'two phases'");
    const pending = await note('between the phases');
    await client.query("commit prepared 'two phases'");
    const done = formatInstant(await sourceNow(client));
    const early = await recover(service, registered.id, { pointInTime: pending });
    assert.equal((await notes(early.connectionUri)).at(-1), 'between the phases');
    // It is still pending there, and can be finished either way.
    assert.deepEqual(await column(early.connectionUri, 'select gid from pg_prepared_xacts'), ['two phases']);
    const late = await recover(service, registered.id, { pointInTime: done });
    assert.ok((await notes(late.connectionUri)).includes('prepared'));
    await remove(service, early.id);
    await remove(service, late.id);
  });

  test('a rotated password is taken, another database is not', async () => {
    const user = new URL(rig.instance.connectionUri);
    await client.query("alter role postgres password 'rotated and long'");
    user.password = 'rotated and long';
    const before = await note('the password was changed before');
    await changeUri(service, registered.id, user.href);
    rig.instance.connectionUri = user.href;
    await recoverable();
    const back = await recover(service, registered.id, { pointInTime: before });
    assert.equal((await notes(back.connectionUri)).at(-1), 'the password was changed before');
    // As any other server, the copy leads elsewhere.
    await assert.rejects(
      changeUri(service, registered.id, back.connectionUri),
      (error: { code?: string; message: string }) =>
        error.code === 'INVALID_ARGUMENT' && !error.message.includes('rotated'),
    );
    // Of a time before the change the source's present password opens nothing, and none is told.
    const old = await recover(service, registered.id, { pointInTime: first.consistentAt });
    assert.equal(new URL(old.connectionUri).password, '');
    await remove(service, old.id);
    await remove(service, back.id);
    assert.equal((await instance(service, registered.id)).recoveryWindows.length, 1);
  });

  test('kill -9 of the service leaves no gap, and a stop ends in time', async () => {
    await note('before the kill');
    await service.kill();
    const meanwhile = await note('while the service was down');
    await service.start();
    await recoverable();
    const back = await recover(service, registered.id, { pointInTime: meanwhile });
    assert.equal((await notes(back.connectionUri)).at(-1), 'while the service was down');
    assert.equal(await service.stop(), 0);
    await service.start();
    assert.equal((await notes(back.connectionUri)).at(-1), 'while the service was down');
    await remove(service, back.id);
    const { recoveryWindows, logArchive } = await instance(service, registered.id);
    assert.equal(recoveryWindows.length, 1);
    assert.deepEqual(logArchive.healthy, true);
  });

  test('its promoted standby takes its place: a new stretch, and the old one stays recoverable', async () => {
    const before = await note('on the old primary');
    await recoverable();
    const standby = await promotedCopy();
    await standby.start();
    const moved = new URL(rig.instance.connectionUri);
    moved.port = String(standby.place.port);
    try {
      // A hot standby answers before it is promoted.
      await until('it is promoted', async () => {
        const { socketDir, port, user } = standby.place;
        const there = `postgresql:///postgres?host=${socketDir}&port=${port}&user=${user}`;
        return (await column(there, 'select pg_is_in_recovery()'))[0] === false;
      });
      await changeUri(service, registered.id, moved.href);
      assert.deepEqual(await column(rig.instance.connectionUri, 'select slot_name from pg_replication_slots'), []);
      await column(moved.href, "insert into note (text) values ('on the new primary')");
      await until('the new stretch is recoverable', async () => {
        return (await instance(service, registered.id)).recoveryWindows.at(-1)?.startsBecause === 'TIMELINE_CHANGE';
      });
      const [old, present] = [
        await recover(service, registered.id, { pointInTime: before }),
        await recover(service, registered.id),
      ];
      assert.equal((await notes(old.connectionUri)).at(-1), 'on the old primary');
      assert.equal((await notes(present.connectionUri)).at(-1), 'on the new primary');
      await remove(service, old.id);
      await remove(service, present.id);
      await remove(service, registered.id);
      assert.deepEqual(await column(moved.href, 'select slot_name from pg_replication_slots'), []);
    } finally {
      await standby.stop();
    }
  });

  /** A copy of the source, made and promoted as its administrator would. */
  async function promotedCopy(): Promise<ManagedServer> {
    const { place } = rig.server;
    const home = path.join(rig.directory, 'standby');
    const data = path.join(home, 'data');
    await mkdir(home);
    await handOver(home, place.runAs);
    await run(`${BIN}/pg_basebackup`, ['-D', data, '-X', 'stream', '-c', 'fast', ...rig.whereItIs], {
      runAs: place.runAs,
      timeoutMs: 60_000,
    });
    await writeOwned(path.join(data, 'recovery.signal'), '', place.runAs);
    await writeFile(path.join(data, 'postgresql.auto.conf'), "restore_command = 'false'\n", { flag: 'a' });
    const socketDir = path.join(home, 'run');
    return new ManagedServer({ ...place, data, socketDir, port: await freePort(), logFile: path.join(home, 'log') });
  }

  test('released, the server keeps its data and no slot; then it is registered over its socket', async () => {
    const slots = () =>
      column(rig.instance.connectionUri, "select slot_name from pg_replication_slots where slot_name like 'pitr%'");
    const socket = `postgresql:///postgres?host=${rig.server.place.socketDir}&port=${rig.server.place.port}&user=postgres`;
    assert.deepEqual(await slots(), []);
    assert.ok((await notes(rig.instance.connectionUri)).length > 0);
    const again = await register(service, 'by socket', socket);
    await assert.rejects(
      register(service, 'twice', rig.instance.connectionUri),
      (error: { code?: string }) => error.code === 'INSTANCE_EXISTS',
    );
    await backUp(service, again.id);
    assert.equal((await slots()).length, 1);
    const at = await note('through the socket');
    const back = await recover(service, again.id, { pointInTime: at });
    assert.equal(
      (
        await column(
          `${back.connectionUri.replace('postgres@', 'postgres:rotated%20and%20long@')}`,
          'select text from note order by id',
        )
      ).at(-1),
      'through the socket',
    );
    await remove(service, back.id);
    await remove(service, again.id);
    assert.deepEqual(await slots(), []);
    // What was archived of the first stays recoverable, its database or not.
    const kept = await recover(service, registered.id, { pointInTime: first.consistentAt });
    assert.equal(kept.state, 'ACTIVE');
    await remove(service, kept.id);
  });

  /** Waits until the archive has caught up with the source, and is told of no trouble. */
  async function recoverable(): Promise<void> {
    const now = formatInstant(await sourceNow(client));
    await until('the source is captured', async () => {
      return (await plan(service, registered.id, { pointInTime: now })).code === null;
    });
  }
});
