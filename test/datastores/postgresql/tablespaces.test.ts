/** A source with tablespaces: all of them come back below the new instance, and the source's directories are not touched. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, readlink } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import type pg from 'pg';
import { handOver, resolveRunAs } from '../../../src/datastores/postgresql/server/processes.js';
import { PlainArchive } from '../../support/postgresql/plainArchive.js';
import { PostgresRig, type Recovered, sourceNow, withoutPostgresql } from '../../support/postgresql/postgresRig.js';

describe('PostgreSQL: a source with tablespaces', { skip: withoutPostgresql, timeout: 180_000 }, () => {
  let rig: PostgresRig;
  let client: pg.Client;

  before(async () => {
    rig = await PostgresRig.alone({
      autovacuum: 'off',
    });
    client = await rig.connect();
  });

  after(async () => {
    await rig?.close();
  });

  const outside = () => path.join(rig.directory, 'outside');

  async function makeTablespace(name: string): Promise<void> {
    const directory = path.join(outside(), name);
    await mkdir(directory, { recursive: true });
    await handOver(directory, resolveRunAs(undefined));
    await client.query(`create tablespace ${name} location '${directory}'`);
  }

  /** Every file of the source's tablespaces with a hash of what is in it. */
  async function filesOutside(): Promise<Record<string, string>> {
    const entries = await readdir(outside(), { recursive: true, withFileTypes: true });
    const files = entries.filter((entry) => entry.isFile()).map((entry) => path.join(entry.parentPath, entry.name));
    const hashed = files.map(async (file) => [
      file,
      createHash('md5')
        .update(await readFile(file))
        .digest('hex'),
    ]);
    return Object.fromEntries(await Promise.all(hashed));
  }

  const tables = ['here', 'there', 'added'];
  async function contents(of: pg.Client, those = tables): Promise<Record<string, string>> {
    const all: Record<string, string> = {};
    for (const table of those) {
      const { rows } = await of.query(
        `select count(*) || ' ' || md5(string_agg(id || filler, ',' order by id)) as all from ${table}`,
      );
      all[table] = rows[0].all;
    }
    return all;
  }

  async function fill(table: string, tablespace: string, rows: number): Promise<void> {
    await client.query(`create table ${table} (id int primary key using index tablespace ${tablespace}, filler text)
      tablespace ${tablespace}`);
    await client.query(`insert into ${table} select i, md5(random()::text) from generate_series(1, ${rows}) i`);
  }

  /** Everything of it lies below its home. */
  async function assertInside(recovered: Recovered, names: string[]): Promise<void> {
    const home = recovered.handle.home;
    const { rows } = await recovered.client.query<{ name: string; place: string }>(
      `select spcname as name, pg_tablespace_location(oid) as place from pg_tablespace
        where spcname not in ('pg_default', 'pg_global') order by spcname`,
    );
    assert.deepEqual(
      rows.map(({ name }) => name),
      names,
    );
    for (const { place } of rows) assert.equal(path.dirname(place), path.join(home, 'tablespaces'));
    const links = path.join(home, 'data/pg_tblspc');
    const found = await readdir(links);
    assert.equal(found.length, names.length);
    for (const name of found) assert.ok((await readlink(path.join(links, name))).startsWith(home));
    assert.equal(existsSync(path.join(home, 'data/tablespace_map')), false);
  }

  test('a source with a tablespace is recovered to an instant, with those made and dropped in the log', async () => {
    await makeTablespace('first');
    await makeTablespace('second');
    await makeTablespace('doomed');
    await fill('here', 'first', 2_000);
    await fill('there', 'second', 2_000);
    const notices = (await rig.inspect()).notices;
    assert.ok(notices.some((notice) => /first, second, doomed are backed up too/.test(notice)));
    const capture = await rig.capture();
    const writing = client.query('update here set filler = md5(filler) where id % 3 = 0');
    const base = await rig.backup(capture);
    await writing;
    const archives = (base.facts.state.archives as { tablespace: number | null }[]).map((each) => each.tablespace);
    assert.equal(archives.length, 4);
    assert.equal(archives.at(-1), null);

    await client.query('update there set filler = md5(filler) where id % 2 = 0');
    // Replayed as it stands, this one would be made in the source's own directory.
    await makeTablespace('later');
    await fill('added', 'later', 1_000);
    await client.query('create database elsewhere tablespace later');
    await client.query('drop tablespace doomed');
    const expected = await contents(client);
    const at = await sourceNow(client);
    await client.query('truncate here');
    await client.query('drop table added');
    await client.query('drop database elsewhere');
    await client.query('drop tablespace later');
    await client.query('delete from there where id % 2 = 0');
    await capture.fence();
    await client.query('checkpoint');
    const before = await filesOutside();
    assert.ok(Object.keys(before).length > 4);

    const recovered = await rig.recover(base, at);
    assert.deepEqual(await contents(recovered.client), expected);
    await assertInside(recovered, ['first', 'later', 'second']);
    await recovered.client.query('update here set filler = null');
    await recovered.client.query('create table more tablespace later as select 1 as one');
    await recovered.client.query('checkpoint');
    assert.deepEqual(await filesOutside(), before, 'the source’s directories are as they were');

    // What was made in the log is dropped in it again.
    const present = await rig.locate(
      await sourceNow(client).then(async (now) => (await capture.fence()) && now),
      base.facts.replayAfter.stretch,
    );
    const newest = await rig.recover(base, present);
    assert.deepEqual(await contents(newest.client, ['here', 'there']), await contents(client, ['here', 'there']));
    await assertInside(newest, ['first', 'second']);
    await rig.drop(newest);

    // The copy has tablespaces like any other server.
    await mkdir(`${rig.directory}/archive-2`);
    const archive = new PlainArchive(`${rig.directory}/archive-2`);
    const own = await rig.driver.capture(recovered.handle, null, archive);
    const ownBase = await rig.backup(own, recovered.handle);
    await recovered.client.query("insert into more values (2); update there set filler = 'again' where id = 1");
    const after = await sourceNow(recovered.client);
    await recovered.client.query('drop table more');
    await own.fence();
    const again = await rig.recover(ownBase, after, archive);
    assert.deepEqual((await again.client.query('select one from more order by one')).rows, [{ one: 1 }, { one: 2 }]);
    assert.deepEqual(await contents(again.client, ['there']), await contents(recovered.client, ['there']));
    await assertInside(again, ['first', 'later', 'second']);
    await own.stop();
    await rig.drop(again);
    await rig.drop(recovered);
    assert.deepEqual(await readdir(recovered.handle.home), []);
    assert.deepEqual(await filesOutside(), before);
    await capture.stop();
  });
});
