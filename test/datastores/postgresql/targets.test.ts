/** What a recovery to an instant keeps and leaves out, and what must not lead it astray, on a real server. */
import assert from 'node:assert/strict';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import type pg from 'pg';
import type { LogCapture, StoredBackup } from '../../../src/datastores/datastore.js';
import { type Instant, instant } from '../../../src/instant.js';
import { PostgresRig, withoutPostgresql } from '../../support/postgresql/postgresRig.js';
import { poured } from '../../support/poured.js';

/** The parts of a backup whose data directory says that it is of another major. */
async function withMajor(base: StoredBackup, major: string): Promise<StoredBackup['parts']> {
  const bytes: Buffer[] = [];
  for (const part of base.parts) for await (const chunk of part.read()) bytes.push(chunk);
  const content = Buffer.concat(bytes);
  const header = content.indexOf('PG_VERSION\0');
  content.write(`${major}\n`, header + 512);
  const read = async function* () {
    yield content;
  };
  return [{ offset: 0, plainBytes: content.length, read, pour: (to, passed) => poured(read(), to, passed) }];
}

describe('PostgreSQL: targets', { skip: withoutPostgresql, timeout: 180_000 }, () => {
  let rig: PostgresRig;
  let capture: LogCapture;
  let base: StoredBackup;
  let client: pg.Client;

  before(async () => {
    rig = await PostgresRig.alone({
      autovacuum: 'off',
    });
    client = await rig.connect();
    await client.query('create table entry (number int primary key)');
    capture = await rig.capture();
    base = await rig.backup(capture);
  });

  after(async () => {
    await rig?.close();
  });

  const numbers = async (of: pg.Client) =>
    (await of.query<{ number: number }>('select number from entry order by number')).rows.map(({ number }) => number);

  /** Inserts a number in a transaction of its own and answers with the microsecond of its commit record. */
  async function insert(number: number): Promise<Instant> {
    const { rows } = await client.query<{ xid: string }>(
      'insert into entry values ($1) returning pg_current_xact_id()::text as xid',
      [number],
    );
    const commit = (await rig.oracle()).find(({ xid }) => xid === Number(rows[0]?.xid));
    assert.ok(commit);
    return commit.at;
  }

  async function recoveredNumbers(at: Instant): Promise<number[]> {
    const recovered = await rig.recover(base, at);
    const found = await numbers(recovered.client);
    await rig.drop(recovered);
    return found;
  }

  test('T = a commit’s microsecond keeps it, T - 1 µs leaves it out, T + 1 µs keeps it', async () => {
    const before = await numbers(client);
    const at = await insert(1);
    await insert(2);
    await capture.fence();
    assert.deepEqual(await recoveredNumbers(at), [...before, 1]);
    assert.deepEqual(await recoveredNumbers(instant(at - 1)), before);
    assert.deepEqual(await recoveredNumbers(instant(at + 1)), [...before, 1]);
  });

  test('DROP TABLE, then other commits: the instant before has the table and none of the others', async () => {
    await client.query('create table doomed as select i, md5(i::text) as filler from generate_series(1, 3000) i');
    const kept = await numbers(client);
    await client.query('drop table doomed');
    const dropped = (await rig.oracle()).at(-1);
    assert.ok(dropped);
    for (let number = 10; number < 20; number++) await insert(number);
    await capture.fence();
    const recovered = await rig.recover(base, instant(dropped.at - 1));
    assert.equal((await recovered.client.query('select from doomed where filler = md5(i::text)')).rowCount, 3000);
    assert.deepEqual(await numbers(recovered.client), kept);
    await rig.drop(recovered);
  });

  test('writes in the clone, then a second recovery of the source: it holds none of them', async () => {
    const at = await insert(30);
    await capture.fence();
    const expected = await numbers(client);
    const first = await rig.recover(base, at);
    await first.client.query('delete from entry; insert into entry values (-1); create table clones_own ()');
    await first.client.query('select pg_switch_wal()');
    const second = await rig.recover(base, at);
    assert.deepEqual(await numbers(second.client), expected);
    assert.equal((await second.client.query("select to_regclass('clones_own') as own")).rows[0].own, null);
    assert.deepEqual(await numbers(first.client), [-1], 'the first one is as it was left');
    assert.deepEqual(await numbers(client), expected, 'and so is the source');
    await rig.drop(first);
    await rig.drop(second);
  });

  test('a foreign 00000002.history leads no recovery onto its timeline', async () => {
    const at = await insert(40);
    await capture.fence();
    const expected = await numbers(client);
    // Where an archive shared with a clone would have it: in the source's log directory, in the archive's, and in the
    // directory that the replay is fed from.
    const foreign = '1\t0/1000028\tno recovery target specified\n';
    const name = '00000002.history';
    await writeFile(path.join(rig.directory, 'source/data/pg_wal', name), foreign, { mode: 0o644 });
    await writeFile(path.join(rig.archive.directory, name), foreign);
    const later = await rig.backup(capture);
    const afterwards = await insert(41);
    await capture.fence();
    for (const [from, target, rows] of [
      [base, at, expected],
      [later, afterwards, [...expected, 41]],
    ] as const) {
      const cut = await rig.locate(target, from.facts.replayAfter.stretch);
      const context = await rig.context(from, cut);
      const { recovery } = rig.driver;
      await recovery.restoreBase(context);
      await writeFile(path.join(context.scratch, name), foreign);
      await recovery.replayLog(context);
      assert.deepEqual(await recovery.verify(context), cut);
      const wal = path.join(context.scratch, 'data/pg_wal');
      const histories = (await readdir(wal)).filter((file) => file.endsWith('.history'));
      assert.deepEqual(histories, [name], 'its own new timeline and no other');
      assert.notEqual(await readFile(path.join(wal, name), 'utf8'), foreign);
      await recovery.discard({ ...context.target, scratch: context.scratch });
      assert.deepEqual(await recoveredNumbers(target), rows);
    }
    assert.equal(rig.archive.stretches.length, 1);
  });

  test('a wrong major: the backup of another one is refused before anything is unpacked', async () => {
    const cut = await rig.locate(
      await insert(50).then(async (at) => (await capture.fence()) && at),
      base.facts.replayAfter.stretch,
    );
    const said = { ...base, facts: { ...base.facts, state: { ...base.facts.state, major: 14 } } };
    const context = await rig.context(said, cut);
    await assert.rejects(rig.driver.recovery.restoreBase(context), (error: { code: string; hint: string }) => {
      assert.equal(error.code, 'VERSION_MISMATCH');
      assert.match(error.hint, /Install PostgreSQL 14 .*PITR_POSTGRESQL_BIN/);
      return true;
    });
    assert.deepEqual(await readdir(context.scratch), []);
    // And files that are of another major than the backup says are not given to a server.
    const data = path.join(context.scratch, 'data');
    const other = { ...base, parts: await withMajor(base, '14') };
    await assert.rejects(rig.driver.recovery.restoreBase({ ...context, base: other }), { code: 'VERSION_MISMATCH' });
    assert.equal(await readFile(path.join(data, 'PG_VERSION'), 'utf8'), '14\n');
  });
});
