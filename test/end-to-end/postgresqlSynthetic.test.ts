/**
 * Full backups that the service makes of older ones and the archive, as its users have them: without the source, planned
 * with like any other, standing on nothing, and never half.
 */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import type pg from 'pg';
import { formatInstant, parseInstant } from '../../src/instant.js';
import {
  backUp,
  backupEnded,
  backupsOf,
  beginBackup,
  column,
  type InstanceSeen,
  instance,
  plan,
  recover,
  register,
  remove,
} from '../support/postgresql/postgresCalls.js';
import { PostgresRig, sourceNow, withoutPostgresql } from '../support/postgresql/postgresRig.js';
import { GraphqlError, processesOf, type Service, startService } from '../support/service.js';
import { until } from '../support/sqlitePrograms.js';

describe('PostgreSQL: full backups made of the archive by the service', {
  skip: withoutPostgresql,
  timeout: 600_000,
}, () => {
  let rig: PostgresRig;
  let client: pg.Client;
  let service: Service;
  let source: InstanceSeen;
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
    source = await register(service, 'orders', rig.instance.connectionUri);
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

  /** A file of log with a checkpoint in it. */
  async function checkpoint(): Promise<void> {
    await client.query('select pg_switch_wal()');
    await client.query('checkpoint');
  }

  /** Makes the archive hold everything up to now. */
  async function archived(): Promise<void> {
    const now = formatInstant(await sourceNow(client));
    await until('the archive has caught up', async () => {
      return (await plan(service, source.id, { pointInTime: now })).code === null;
    });
  }

  /** What was lost is replaced by a full backup that the service takes by itself. */
  async function mended(): Promise<void> {
    await until('the growing log has a full backup', async () => {
      const last = (await instance(service, source.id)).recoveryWindows.at(-1);
      const running = (await backupsOf(service, source.id)).some(({ state }) => state === 'RUNNING');
      return last?.endsBecause === 'LATEST_ARCHIVED' && !running;
    });
  }

  const notes = (uri: string) => column(uri, 'select text from note order by id');
  const archive = () => path.join(service.home, 'storage/instances', source.id);
  const scratch = () => readdirSync(path.join(service.home, 'scratch'));

  function flip(file: string): void {
    const bytes = readFileSync(file);
    const at = Math.floor(bytes.length / 2);
    bytes.writeUInt8(bytes.readUInt8(at) ^ 0x10, at);
    writeFileSync(file, bytes);
  }

  async function notesAt(target: { pointInTime?: string }): Promise<unknown[]> {
    const back = await recover(service, source.id, target);
    const found = await notes(back.connectionUri);
    await remove(service, back.id);
    return found;
  }

  /** Nothing is left of a backup but its record. */
  function assertNothingOf(id: string): void {
    assert.equal(existsSync(path.join(archive(), 'backups', id)), false, 'it has no objects');
    assert.deepEqual(
      scratch().filter((name) => name.includes(id)),
      [],
    );
    assert.deepEqual(
      processesOf(service.home).filter((each) => each.includes(id)),
      [],
    );
  }

  test('the plan takes it like any other, and an older one for what comes before its consistent point', async () => {
    const older = await backUp(service, source.id);
    const early = await note('early');
    await note('before the checkpoint');
    await checkpoint();
    await note('behind it');
    await archived();
    const made = await backUp(service, source.id, true);
    assert.deepEqual([made.type, made.percent, made.madeFrom?.id], ['FULL', 100, older.id]);
    assert.equal(older.madeFrom, null);
    assert.ok(parseInstant(made.consistentAt) > parseInstant(early));
    const late = await note('late');
    await archived();

    assert.equal((await plan(service, source.id, { pointInTime: late })).base, made.id);
    assert.equal((await plan(service, source.id, { pointInTime: made.consistentAt })).base, made.id);
    assert.equal((await plan(service, source.id, { pointInTime: early })).base, older.id);
    const justBefore = formatInstant((parseInstant(made.consistentAt) - 1) as ReturnType<typeof parseInstant>);
    assert.equal((await plan(service, source.id, { pointInTime: justBefore })).base, older.id);
    assert.deepEqual(await notesAt({ pointInTime: late }), await notes(rig.instance.connectionUri));
    assert.deepEqual(await notesAt({ pointInTime: made.consistentAt }), [
      'early',
      'before the checkpoint',
      'behind it',
    ]);
    assert.deepEqual(await notesAt({ pointInTime: early }), ['early']);

    // It stands on nothing.
    await service.graphql('mutation ($id: ID!) { deleteBackup(id: $id) { id } }', { id: older.id });
    assert.deepEqual(await notesAt({ pointInTime: late }), await notes(rig.instance.connectionUri));
    assert.equal((await plan(service, source.id, { pointInTime: early })).code, 'TARGET_TOO_EARLY');
  });

  test('refused where there is nothing to make it of, or nothing to win', async () => {
    const refused = (code: string, argument?: string) => (error: unknown) => {
      assert.ok(error instanceof GraphqlError);
      assert.deepEqual([error.code, error.details.argument], [code, argument], error.message);
      assert.ok(error.hint);
      return true;
    };
    await assert.rejects(beginBackup(service, 'nobody', true), refused('INSTANCE_NOT_FOUND'));
    const bare = await service.graphql<{ createInstance: { id: string } }>(
      'mutation { createInstance(input: { name: "bare", datastore: "postgresql" }) { id } }',
    );
    await assert.rejects(beginBackup(service, bare.createInstance.id, true), refused('NO_BACKUP'));
    await remove(service, bare.createInstance.id);
    const { createInstance } = await service.graphql<{ createInstance: { id: string } }>(
      'mutation { createInstance(input: { name: "other", datastore: "sqlite" }) { id } }',
    );
    await assert.rejects(beginBackup(service, createInstance.id, true), refused('INVALID_ARGUMENT', 'instanceId'));

    await backUp(service, source.id);
    await note('without a checkpoint behind it');
    await archived();
    const idle = await backupEnded(service, await beginBackup(service, source.id, true));
    assert.deepEqual([idle.state, idle.error?.code], ['FAILED', 'INSTANCE_NOT_READY']);
    assertNothingOf(idle.id);
  });

  test('stopped or killed while it is made, nothing is left of it and the next one is whole', async () => {
    await checkpoint();
    await client.query("insert into note (text) select repeat('x', 2000) from generate_series(1, 20000)");
    await client.query("delete from note where text like 'x%'");
    await checkpoint();
    await archived();
    for (const end of ['kill', 'stop'] as const) {
      const id = await beginBackup(service, source.id, true);
      await until('a server replays', async () =>
        processesOf(service.home).some((each) => each.includes(`backup-${id}/data`)),
      );
      const { base } = await plan(service, source.id, {});
      const deleting = service.graphql('mutation ($id: ID!) { deleteBackup(id: $id) { id } }', { id: base });
      await assert.rejects(deleting, (error: GraphqlError) => {
        assert.equal(error.code, 'BACKUP_IN_USE');
        assert.deepEqual(error.details.backupIds, [id]);
        return true;
      });
      const code = await service[end]();
      if (end === 'stop') assert.equal(code, 0);
      await service.start();
      const ended = await backupEnded(service, id);
      assert.equal(ended.state, 'FAILED');
      assert.match(ended.error?.hint ?? '', /again/);
      assertNothingOf(id);
    }
    await archived();
    const made = await backUp(service, source.id, true);
    assert.equal((await plan(service, source.id, {})).base, made.id);
    assert.deepEqual(await notesAt({}), await notes(rig.instance.connectionUri));
  });

  test('a damaged base or a damaged log is told and written down, and no half backup is shown', async () => {
    await backUp(service, source.id);
    await note('before the damage');
    await checkpoint();
    const logged = () => readdirSync(path.join(archive(), 'log'), { recursive: true, encoding: 'utf8' });
    const seen = new Set(logged());
    await note('in the damage');
    await client.query('select pg_switch_wal()');
    await archived();
    const [lost] = logged().filter((name) => !seen.has(name));
    await note('behind the damage');
    await checkpoint();
    await note('the end');
    await archived();
    assert.ok(lost);
    flip(path.join(archive(), 'log', lost));
    const failed = await backupEnded(service, await beginBackup(service, source.id, true));
    assert.deepEqual([failed.state, failed.error?.code], ['FAILED', 'LOG_CORRUPT'], JSON.stringify(failed.error));
    assertNothingOf(failed.id);
    const { recoveryWindows } = await instance(service, source.id);
    assert.ok(recoveryWindows.some(({ endsBecause }) => endsBecause === 'CORRUPT_LOG'));

    await mended();
    await note('healed');
    await checkpoint();
    await note('and on');
    await archived();
    const { base } = await plan(service, source.id, {});
    flip(path.join(archive(), 'backups', base ?? '', 'parts/00000000'));
    const again = await backupEnded(service, await beginBackup(service, source.id, true));
    assert.deepEqual([again.state, again.error?.code], ['FAILED', 'BACKUP_CORRUPT']);
    assertNothingOf(again.id);
    const damaged = (await backupsOf(service, source.id)).find(({ id }) => id === base);
    assert.deepEqual([damaged?.state, damaged?.error?.code], ['FAILED', 'BACKUP_CORRUPT']);
  });

  test('without the source: it is down, and no instance of the service any more', async () => {
    await mended();
    await note('for the last backup');
    await checkpoint();
    await note('the end of it');
    await archived();
    const expected = await notes(rig.instance.connectionUri);
    const { base } = await plan(service, source.id, {});
    await remove(service, source.id);
    await rig.endClients();
    await rig.server.stop();
    const made = await backUp(service, source.id, true);
    assert.equal(made.madeFrom?.id, base);
    assert.equal((await plan(service, source.id, {})).base, made.id);
    const back = await recover(service, source.id);
    // Nobody knows the passwords any more; whoever may enter its directory needs none.
    const socket = path.join(service.home, 'instances', back.id, 'run');
    const { port, username } = new URL(back.connectionUri);
    assert.deepEqual(await notes(`postgresql:///postgres?host=${socket}&port=${port}&user=${username}`), expected);
    await remove(service, back.id);
  });
});

test('PostgreSQL: made by itself where there is more log than backup, unless that is switched off', {
  skip: withoutPostgresql,
  timeout: 300_000,
}, async (t) => {
  const rig = await PostgresRig.alone({ autovacuum: 'off' });
  // Switched off there, as for every test.
  const service = await startService(t);
  t.after(() => rig.close());
  const client = await rig.connect();
  await client.query('create table note (id serial primary key, text text not null)');
  const { id } = await register(service, 'orders', rig.instance.connectionUri);
  const given = await backUp(service, id);
  // Twice the size of the backup, which is about that of an empty server.
  for (let i = 0; i < 4; i++) {
    await client.query('insert into note (text) select repeat(md5(i::text), 60) from generate_series(1, 8000) i');
    await client.query('truncate note');
    await client.query('select pg_switch_wal()');
    await client.query('checkpoint');
  }
  await client.query("insert into note (text) values ('the newest')");
  const now = formatInstant(await sourceNow(client));
  const archived = () =>
    until('the archive has caught up', async () => (await plan(service, id, { pointInTime: now })).code === null);
  await archived();
  await service.stop();
  await service.start();
  await archived();
  await remove(service, (await recover(service, id)).id);
  assert.deepEqual(
    (await backupsOf(service, id)).map((backup) => backup.id),
    [given.id],
  );

  await service.stop();
  await service.start({ PITR_SYNTHETIC_BACKUPS: 'on' });
  await until(
    'one was made',
    async () => {
      const backups = await backupsOf(service, id);
      return backups.length > 1 && backups.every(({ state }) => state === 'COMPLETED');
    },
    120,
  );
  const [made, ...others] = await backupsOf(service, id);
  assert.deepEqual([made?.type, made?.madeFrom?.id, others.map((backup) => backup.id)], ['FULL', given.id, [given.id]]);
  assert.equal((await plan(service, id, {})).base, made?.id);
  const back = await recover(service, id);
  assert.deepEqual(await column(back.connectionUri, 'select text from note'), ['the newest']);
  await remove(service, back.id);
});
