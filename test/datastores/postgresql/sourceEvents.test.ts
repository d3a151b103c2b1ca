/** What a captured server goes through in its life: shut down, lost for good, reached over TLS. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chown, copyFile, mkdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import type pg from 'pg';
import type { StoredBackup } from '../../../src/datastores/datastore.js';
import { resolveRunAs, run } from '../../../src/datastores/postgresql/server/processes.js';
import { slotName } from '../../../src/datastores/postgresql/source/source.js';
import { BIN, PostgresRig, sourceNow, withoutPostgresql } from '../../support/postgresql/postgresRig.js';
import { serviceUnderTest } from '../../support/serviceUnderTest.js';
import { until } from '../../support/sqlitePrograms.js';

describe('PostgreSQL: events in the life of a source', { skip: withoutPostgresql, timeout: 180_000 }, () => {
  let rig: PostgresRig;
  let client: pg.Client;

  beforeEach(async () => {
    rig = await PostgresRig.alone({
      autovacuum: 'off',
    });
    client = await rig.connect();
    await client.query('create table entry (number int primary key)');
  });

  afterEach(async () => {
    await rig.close();
  });

  const data = () => path.join(rig.directory, 'source/data');

  async function clusterState(): Promise<string> {
    const said = await run(`${BIN}/pg_controldata`, [data()], { runAs: resolveRunAs(undefined), timeoutMs: 30_000 });
    return /^Database cluster state:\s+(.*)$/m.exec(said)?.[1] ?? '';
  }

  const numbers = async (of: pg.Client) =>
    (await of.query<{ number: number }>('select number from entry order by number')).rows.map(({ number }) => number);

  test('it shuts down in an orderly way while it is captured, and goes on without a gap', async () => {
    const capture = await rig.capture();
    const base = await rig.backup(capture);
    for (let round = 1; round <= 3; round++) {
      await client.query('insert into entry values ($1)', [round]);
      await rig.endClients();
      // It is ended the hard way where it does not end by itself, and then its state says so.
      await rig.server.stop();
      assert.equal(await clusterState(), 'shut down');
      await rig.server.start();
      client = await rig.connect();
    }
    await rig.archive.until('the capture is back', () => rig.archive.healths.at(-1)?.healthy === true);
    const at = await sourceNow(client);
    await capture.fence();
    const recovered = await rig.recover(base, at);
    assert.deepEqual(await numbers(recovered.client), [1, 2, 3]);
    assert.equal(rig.archive.stretches.length, 1);
    await rig.drop(recovered);
    await capture.stop();
  });

  /** kill -9; its disk is never seen again: stopping ends the watch that would bring it back. */
  async function killForGood(): Promise<void> {
    const pid = Number((await readFile(path.join(data(), 'postmaster.pid'), 'utf8')).split('\n')[0]);
    process.kill(pid, 'SIGKILL');
    await rig.server.stop();
  }

  /** To the end of what is archived. */
  async function recoverAll(base: StoredBackup) {
    const end = rig.archive.resumePoint()?.position;
    assert.ok(end);
    const cut = await rig.driver.locate({ position: end }, rig.archive.aroundPosition(end.ordinal, end.stretch));
    return await rig.recover(base, cut);
  }

  test('killed for good without synchronous mode, what had arrived of its commits is there and nothing else', async () => {
    const capture = await rig.capture();
    const base = await rig.backup(capture);
    let acknowledged = 0;
    const own = await rig.connect();
    const writing = (async () => {
      try {
        for (; ; acknowledged++) await own.query('insert into entry values ($1)', [acknowledged]);
      } catch {
        // The server is gone.
      }
    })();
    await until('there are some commits', () => acknowledged >= 60, 120);
    const before = acknowledged;
    await capture.fence();
    const more = acknowledged + 60;
    await until('there are more', () => acknowledged >= more, 120);
    await killForGood();
    await writing;
    await rig.archive.until('the capture notices', () => rig.archive.healths.at(-1)?.healthy === false);
    await capture.stop();
    const recovered = await recoverAll(base);
    const kept = await numbers(recovered.client);
    // Of the last one the server may have sent the commit and not the answer.
    assert.ok(kept.length >= before && kept.length <= acknowledged + 1, `${before} ${kept.length} ${acknowledged}`);
    assert.deepEqual(
      kept,
      kept.map((_, i) => i),
    );
    await rig.drop(recovered);
  });

  for (const commit of ['on', 'remote_write']) {
    test(`with synchronous_commit = ${commit} no acknowledged commit is lost with the source`, async () => {
      const capture = await rig.capture();
      const base = await rig.backup(capture);
      await client.query(`alter system set synchronous_standby_names = '"${slotName(rig.instance.id)}"'`);
      await client.query('select pg_reload_conf()');
      await until('commits wait for the capture', async () => {
        const { rows } = await client.query("select sync_state from pg_stat_replication where sync_state = 'sync'");
        return rows.length > 0;
      });
      const acknowledged: number[] = [];
      const writers = [0, 1, 2].map(async (writer) => {
        const own = await rig.connect();
        try {
          await own.query(`set synchronous_commit = '${commit}'`);
          for (let i = writer; ; i += 3) {
            await own.query('insert into entry values ($1)', [i]);
            acknowledged.push(i);
          }
        } catch {
          // The server is gone.
        }
      });
      await until('commits go through', () => acknowledged.length >= 60, 120);
      await killForGood();
      await Promise.all(writers);
      await rig.archive.until('the capture notices', () => rig.archive.healths.at(-1)?.healthy === false);
      await capture.stop();
      const recovered = await recoverAll(base);
      const kept = new Set(await numbers(recovered.client));
      assert.deepEqual(
        acknowledged.filter((number) => !kept.has(number)),
        [],
      );
      await rig.drop(recovered);
    });
  }

  /** A certificate that vouches for itself. */
  function selfSigned(name: string, hosts: string): { certificate: string; key: string } {
    const certificate = path.join(rig.directory, `${name}.crt`);
    const key = path.join(rig.directory, `${name}.key`);
    const names = ['-subj', `/CN=${name}`, '-addext', `subjectAltName=${hosts}`];
    const kind = ['-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2'];
    const made = spawnSync('openssl', ['req', ...kind, ...names, '-keyout', key, '-out', certificate]);
    assert.equal(made.status, 0, String(made.stderr));
    return { certificate, key };
  }

  /** Where the server looks for its certificate. */
  async function install(certificate: string, key: string): Promise<void> {
    const runAs = resolveRunAs(undefined);
    const files = { 'server.crt': certificate, 'server.key': key };
    for (const [name, file] of Object.entries(files)) {
      const copy = path.join(data(), name);
      await copyFile(file, copy);
      if (runAs) await chown(copy, runAs.uid, runAs.gid);
    }
  }

  test('a certificate’s name matters only where that is asked for', async () => {
    const { certificate, key } = selfSigned('elsewhere', 'DNS:elsewhere');
    await install(certificate, key);
    await client.query("alter system set ssl = 'on'");
    await client.query('select pg_reload_conf()');
    const named = (mode: string) =>
      `${rig.instance.connectionUri.split('?')[0]}?sslmode=${mode}&sslrootcert=${encodeURIComponent(certificate)}`;
    await until('it speaks TLS', async () =>
      rig.inspect(named('require')).then(
        () => true,
        () => false,
      ),
    );
    await rig.inspect(named('verify-ca'));
    await assert.rejects(rig.inspect(named('verify-full')), { code: 'DATASTORE_UNAVAILABLE' });
  });

  test('it is reached over TLS, its certificate verified where that is asked for', async () => {
    const { certificate, key } = selfSigned('server', 'DNS:localhost,IP:127.0.0.1');
    await install(certificate, key);
    await client.query("alter system set ssl = 'on'");
    await client.query('select pg_reload_conf()');
    await writeFile(
      path.join(data(), 'pg_hba.conf'),
      'local all all trust\nhostssl all all 127.0.0.1/32 md5\nhostssl replication all 127.0.0.1/32 md5\n',
    );
    await client.query('select pg_reload_conf()');
    const uri = (query: string) => `${rig.instance.connectionUri.split('?')[0]}?${query}`;
    const verified = uri(`sslmode=verify-full&sslrootcert=${encodeURIComponent(certificate)}`);
    await until('only TLS is let in', async () =>
      rig.inspect(uri('sslmode=disable')).then(
        () => false,
        (error: { code?: string }) => error.code === 'INVALID_ARGUMENT',
      ),
    );
    await rig.inspect(uri('sslmode=require'));
    await rig.inspect(verified);
    // Signed by nobody that is known.
    await assert.rejects(rig.inspect(uri('sslmode=verify-full')));
    await rig.inspect(uri(`sslmode=require&sslrootcert=${encodeURIComponent(certificate)}`));
    // An authority that is named is asked, and vouches for no such server.
    const other = selfSigned('other', 'DNS:elsewhere').certificate;
    await assert.rejects(rig.inspect(uri(`sslmode=require&sslrootcert=${encodeURIComponent(other)}`)), {
      code: 'DATASTORE_UNAVAILABLE',
    });
    rig.instance.connectionUri = verified;
    const capture = await rig.capture();
    const base = await rig.backup(capture);
    await client.query('insert into entry values (7)');
    const at = await sourceNow(client);
    await capture.fence();
    const { rows } = await client.query(
      "select bool_and(ssl) as all from pg_stat_ssl join pg_stat_activity using (pid) where backend_type = 'walsender'",
    );
    assert.equal(rows[0].all, true);
    const recovered = await rig.recover(base, at);
    assert.deepEqual(await numbers(recovered.client), [7]);
    await rig.drop(recovered);
    await capture.stop();
  });

  test('a file of its registration that becomes a link to another tenant’s is not used for the next connection', async (t) => {
    const { certificate, key } = selfSigned('server', 'DNS:localhost');
    await install(certificate, key);
    await client.query("alter system set ssl = 'on'");
    await client.query('select pg_reload_conf()');
    const files = path.join(rig.directory, 'files');
    for (const tenant of ['shop', 'rival']) {
      await mkdir(path.join(files, tenant), { recursive: true });
      await copyFile(certificate, path.join(files, tenant, 'ca.pem'));
    }
    const own = path.join(files, 'shop/ca.pem');
    const service = await serviceUnderTest(t, ['shop'], {
      PITR_REGISTER_FILES: path.join(files, '{tenant}'),
      PITR_REGISTER_NETWORKS: 'loopback',
      PITR_POSTGRESQL_BIN: BIN,
    });
    const uri = `${rig.instance.connectionUri.split('?')[0]}?sslmode=verify-ca&sslrootcert=${encodeURIComponent(own)}`;
    const registering =
      'mutation ($uri: String!) { registerInstance(input: { id: "i", name: "n", datastore: "postgresql", connectionUri: $uri }) { id } }';
    await until('it is registered, over TLS', async () =>
      (await service.ask('shop', registering, { uri })).text.includes('"id":"i"'),
    );
    const state = async () => {
      const { data } = await service.ask('shop', '{ instance(id: "i") { logArchive { healthy message } } }');
      return (data as { instance: { logArchive: { healthy: boolean; message: string | null } } }).instance.logArchive;
    };
    const connectAnew = () =>
      client.query("select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'pitr%'");
    await until('it is captured', async () => (await state()).healthy);
    await rename(own, `${own}.old`);
    await symlink(path.join(files, 'rival/ca.pem'), own);
    await connectAnew();
    await until('it is refused', async () => {
      const { healthy, message } = await state();
      return !healthy && /sslrootcert .* may not be registered from/.test(message ?? '');
    });
    await rm(own);
    await rename(`${own}.old`, own);
    await until('it is captured again', async () => (await state()).healthy);
  });
});
