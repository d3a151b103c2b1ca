/** Servers of several majors in one service at once, and what is refused where a major's programs are not here. */
import assert from 'node:assert/strict';
import { mkdtemp, readdir, rename, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Binaries } from '../../src/datastores/postgresql/server/binaries.js';
import { resolveRunAs, run } from '../../src/datastores/postgresql/server/processes.js';
import { freePort, ManagedServer } from '../../src/datastores/postgresql/server/server.js';
import { binOf, withoutMajor } from '../support/postgresql/majors.js';
import {
  backUp,
  beginRecovery,
  column,
  create,
  type InstanceSeen,
  instance,
  plan,
  recover,
  register,
  remove,
} from '../support/postgresql/postgresCalls.js';
import { PostgresRig } from '../support/postgresql/postgresRig.js';
import { type Service, startService } from '../support/service.js';

const MAJORS = [16, 17, 18];
const missing = [...MAJORS, 15].map(withoutMajor).find((reason) => reason !== false) ?? false;
const NOW = `select to_char(clock_timestamp() at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`;

describe('PostgreSQL: several majors in one service', { skip: missing, timeout: 300_000 }, () => {
  let service: Service;
  /** Has a directory of each major's programs, which a test may take away. */
  let programs: string;
  let rig: PostgresRig;
  let newest: InstanceSeen;
  let older: InstanceSeen;
  const cleanups: (() => unknown)[] = [];

  before(async () => {
    programs = await mkdtemp(path.join(tmpdir(), 'pitr-test-'));
    cleanups.push(() => rm(programs, { recursive: true, force: true }));
    // PostgreSQL's user passes through it.
    await run('chmod', ['755', programs], { runAs: null, timeoutMs: 5_000 });
    for (const major of MAJORS) await symlink(binOf(major), path.join(programs, String(major)));
    const directories = MAJORS.map((major) => path.join(programs, String(major)));
    service = await startService(
      { after: (work: unknown) => cleanups.push(work as () => unknown) },
      { env: { PITR_POSTGRESQL_BIN: directories.join(':') } },
    );
    rig = await PostgresRig.alone({ autovacuum: 'off' }, 17);
    newest = await create(service, 'the newest');
    older = await create(service, 'an older one', '16');
  });

  after(async () => {
    for (const cleanup of cleanups.reverse()) await cleanup();
    await rig?.close();
  });

  /** What refuses an operation. */
  async function refusal(work: Promise<unknown>): Promise<{ code?: string; hint: string | null; message: string }> {
    return await work.then(
      () => assert.fail('it was not refused'),
      (error) => error,
    );
  }

  const instances = async () =>
    (await service.graphql<{ instances: { id: string }[] }>('{ instances { id } }')).instances.length;

  async function hidden(major: number, work: () => Promise<void>): Promise<void> {
    const there = path.join(programs, String(major));
    await rename(there, `${there}-away`);
    await work().finally(() => rename(`${there}-away`, there));
  }

  test('made of the newest major or of the one asked for, registered of a third, recovered at once', async () => {
    assert.match(newest.datastoreVersion, /^18\./);
    assert.match(older.datastoreVersion, /^16\./);
    const usual = await create(service, 'Debian’s own', '15');
    assert.match(usual.datastoreVersion, /^15\./);
    const registered = await register(service, 'registered', rig.instance.connectionUri);
    assert.match(registered.datastoreVersion, /^17\./);
    const all = [newest, older, usual, registered];
    for (const { connectionUri } of all) await column(connectionUri, 'create table note (text text)');
    for (const { id } of all) await backUp(service, id);
    const targets: string[] = [];
    for (const { connectionUri, datastoreVersion } of all) {
      await column(connectionUri, `insert into note values ('kept by ${datastoreVersion}')`);
      targets.push(String((await column(connectionUri, NOW))[0]));
      await column(connectionUri, 'truncate note');
    }
    const copies: InstanceSeen[] = [];
    for (const pair of [
      [0, 1],
      [2, 3],
    ]) {
      const both = pair.map((i) => recover(service, all[i]?.id ?? '', { pointInTime: targets[i] }));
      copies.push(...(await Promise.all(both)));
    }
    for (const [i, { connectionUri, datastoreVersion }] of copies.entries()) {
      assert.equal(datastoreVersion, all[i]?.datastoreVersion);
      assert.deepEqual(await column(connectionUri, 'select text from note'), [`kept by ${datastoreVersion}`]);
      const [said] = await column(connectionUri, 'show server_version');
      assert.ok(String(said).startsWith(datastoreVersion));
      assert.deepEqual(await column(all[i]?.connectionUri ?? '', 'select text from note'), []);
    }
    // They are there again after a sudden end, each under its own major's server.
    await service.restart();
    for (const { connectionUri, datastoreVersion } of copies) {
      const [said] = await column(connectionUri, 'show server_version');
      assert.ok(String(said).startsWith(datastoreVersion));
    }
    for (const { id } of [...copies, usual, registered]) await remove(service, id);
  });

  test('versions that are not here, or not offered, are refused with those that are', async () => {
    const before = await instances();
    for (const [wanted, hint] of [
      ['14', /Ask for 15, 16, 17 or 18/],
      ['19', /Ask for 15, 16, 17 or 18/],
      ['18.0', /Ask for 18\.\d+, or for 18\./],
      ['17; drop', /Ask for 15, 16, 17 or 18/],
      ['17x', /Ask for 15, 16, 17 or 18/],
    ] as const) {
      const refused = await refusal(create(service, 'refused', wanted));
      assert.equal(refused.code, 'DATASTORE_NOT_SUPPORTED', wanted);
      assert.match(refused.hint ?? '', hint);
    }
    await hidden(17, async () => {
      const refused = await refusal(create(service, 'refused', '17'));
      assert.equal(refused.code, 'DATASTORE_NOT_SUPPORTED');
      assert.match(refused.hint ?? '', /Install PostgreSQL 17 .*PITR_POSTGRESQL_BIN/);
    });
    assert.equal(await instances(), before);
  });

  test('a server whose major has no programs here is not registered, and nothing is done to it', async () => {
    const before = await instances();
    await hidden(17, async () => {
      const refused = await refusal(register(service, 'refused', rig.instance.connectionUri));
      assert.equal(refused.code, 'DATASTORE_NOT_SUPPORTED');
      assert.match(refused.message, /PostgreSQL 17/);
      assert.match(refused.hint ?? '', /Install PostgreSQL 17 .*PITR_POSTGRESQL_BIN/);
    });
    assert.equal(await instances(), before);
    assert.deepEqual(await column(rig.instance.connectionUri, 'select slot_name from pg_replication_slots'), []);
    // With them it is, without a restart of the service.
    const registered = await register(service, 'taken', rig.instance.connectionUri);
    await remove(service, registered.id);
  });

  test('a server of a major that is not supported is refused', { skip: withoutMajor(14) }, async () => {
    const home = await mkdtemp(path.join(tmpdir(), 'pitr-test-'));
    const runAs = resolveRunAs(undefined);
    const data = path.join(home, 'data');
    const socketDir = path.join(home, 'run');
    const bin = binOf(14);
    if (runAs) await run('chown', [`${runAs.uid}:${runAs.gid}`, home], { runAs: null, timeoutMs: 5_000 });
    const options = { runAs, timeoutMs: 60_000 };
    await run(`${bin}/initdb`, ['-D', data, '-U', 'postgres', '-A', 'trust', '--locale=C.UTF-8'], options);
    const place = { data, socketDir, port: await freePort(), user: 'postgres', runAs, logFile: path.join(home, 'log') };
    const server = new ManagedServer({ ...place, postgres: await new Binaries([bin]).find('postgres', 14, runAs) });
    await server.start();
    try {
      const uri = `postgresql://postgres@127.0.0.1:${place.port}/postgres`;
      const refused = await refusal(register(service, 'refused', uri));
      assert.equal(refused.code, 'DATASTORE_NOT_SUPPORTED');
      assert.match(refused.message, /PostgreSQL 14/);
      assert.equal(refused.hint, 'Use 15, 16, 17 or 18.');
      assert.deepEqual(await column(uri, 'select slot_name from pg_replication_slots'), []);
    } finally {
      await server.stop();
      await rm(home, { recursive: true, force: true });
    }
  });

  test('once a major’s programs are gone its recoveries are refused, and those of others go on', async () => {
    for (const { id, connectionUri } of [newest, older]) {
      await column(connectionUri, "create table late as select 'late' as text");
      await backUp(service, id);
    }
    const homes = () => readdir(path.join(service.home, 'instances'));
    const before = await homes();
    await hidden(16, async () => {
      const planned = await plan(service, older.id, {});
      assert.equal(planned.code, 'VERSION_MISMATCH');
      assert.match(planned.hint ?? '', /Install PostgreSQL 16 .*PITR_POSTGRESQL_BIN/);
      const refused = await refusal(beginRecovery(service, older.id));
      assert.equal(refused.code, 'VERSION_MISMATCH');
      assert.match(refused.hint ?? '', /Install PostgreSQL 16 .*PITR_POSTGRESQL_BIN/);
      assert.deepEqual(await homes(), before);
      const other = await recover(service, newest.id);
      assert.deepEqual(await column(other.connectionUri, 'select text from late'), ['late']);
      await remove(service, other.id);
      // Its log goes on being captured.
      assert.equal((await instance(service, older.id)).logArchive.healthy, true);
    });
    const back = await recover(service, older.id);
    assert.deepEqual(await column(back.connectionUri, 'select text from late'), ['late']);
    await remove(service, back.id);
  });
});
