/** Captured, backed up, recovered: the rows of a recovery equal the prefix of the source's log, on a real server. */
import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';
import type pg from 'pg';
import type { LogCapture, StoredBackup } from '../../../src/datastores/datastore.js';
import { formatInstant, type Instant, instant } from '../../../src/instant.js';
import { PlainArchive } from '../../support/postgresql/plainArchive.js';
import {
  keptBy,
  type OracleCommit,
  PostgresRig,
  sourceNow,
  withoutPostgresql,
} from '../../support/postgresql/postgresRig.js';

const WRITERS = 6;
const SEED = Number(process.env.PITR_TEST_SEED ?? Date.now() % 1_000_000);

/** Park–Miller, so that a failing run can be repeated with its seed. */
function randomFrom(seed: number): () => number {
  let state = (seed % 2147483646) + 1;
  return () => {
    state = (state * 48271) % 2147483647;
    return state / 2147483647;
  };
}

describe('PostgreSQL: recovery against the log of the source', { skip: withoutPostgresql, timeout: 180_000 }, () => {
  let rig: PostgresRig;
  let capture: LogCapture;
  let base: StoredBackup;
  let client: pg.Client;

  before(async () => {
    // Some tests tell commits by their order, so nobody else may commit.
    rig = await PostgresRig.alone({ autovacuum: 'off' });
    client = await rig.connect();
    await client.query(`create table account (id int primary key, balance int not null);
      insert into account select i, 0 from generate_series(1, 50) i;
      create table entry (xid bigint primary key, account int not null, delta int not null, filler text)`);
    capture = await rig.capture();
    // The backup is taken while others write.
    const writing = write(150);
    base = await rig.backup(capture);
    await writing;
    await write(150);
    await client.query('select pg_switch_wal()');
    await write(50);
    await capture.fence();
  });

  after(async () => {
    await rig?.close();
  });

  /** Transfers of several writers at once; every tenth is rolled back, some are large. */
  async function write(transactions: number): Promise<void> {
    await Promise.all(
      Array.from({ length: WRITERS }, async (_, writer) => {
        const own = await rig.connect();
        const random = randomFrom(SEED + writer);
        for (let i = 0; i < transactions; i++) {
          const account = 1 + Math.floor(random() * 50);
          const delta = Math.floor(random() * 200) - 100;
          const filler = random() < 0.05 ? 20_000 : 10;
          await own.query('begin');
          await own.query('update account set balance = balance + $1 where id = $2', [delta, account]);
          await own.query(
            `insert into entry select pg_current_xact_id()::text::bigint, $1, $2, string_agg(md5(i::text), '')
               from generate_series(1, $3::int / 32 + 1) i`,
            [account, delta, filler],
          );
          await own.query(i % 10 === 9 ? 'rollback' : 'commit');
        }
        await own.end();
      }),
    );
  }

  async function assertPrefix(recovered: pg.Client, commits: OracleCommit[], at: Instant): Promise<void> {
    const kept = keptBy(commits, at);
    const { rows: all } = await client.query('select xid::int as xid from entry');
    const expected = all
      .map((row) => Number(row.xid))
      .filter((xid) => kept.has(xid))
      .sort((a, b) => a - b);
    const { rows } = await recovered.query('select xid::int as xid from entry order by xid');
    assert.deepEqual(
      rows.map((row) => row.xid),
      expected,
      `seed ${SEED}, target ${formatInstant(at)}`,
    );
    const { rows: wrong } = await recovered.query(
      `select id from account full join (select account as id, sum(delta) as total from entry group by account) e
         using (id) where coalesce(balance, 0) <> coalesce(total, 0)`,
    );
    assert.deepEqual(wrong, [], 'balances and entries agree');
  }

  test('random instants keep exactly the prefix of the log', async () => {
    const commits = await rig.oracle();
    const covered = rig.archive.resumePoint()?.coveredTo ?? instant(0);
    const random = randomFrom(SEED);
    const between = (from: number, to: number) => instant(Math.floor(from + random() * (to - from)));
    const eligible = commits.filter((commit) => commit.at > base.facts.consistentAt && commit.at <= covered);
    assert.ok(eligible.length > 500, `${eligible.length} commits to choose from`);
    const someCommit = eligible[Math.floor(random() * eligible.length)] as OracleCommit;
    const targets: Instant[] = [
      base.facts.consistentAt,
      between(base.facts.consistentAt, covered),
      between(base.facts.consistentAt, covered),
      someCommit.at,
      instant(someCommit.at - 1),
      covered,
    ];
    for (const at of targets) {
      const recovered = await rig.recover(base, at);
      await assertPrefix(recovered.client, commits, at);
      assert.equal(
        (await rig.locate(at, base.facts.replayAfter.stretch)).position.ordinal,
        recovered.cut.position.ordinal,
      );
      await rig.drop(recovered);
    }
  });

  test('the cut of any instant is the one that pg_waldump shows', async () => {
    const commits = await rig.oracle();
    const stretch = base.facts.replayAfter.stretch;
    const covered = rig.archive.resumePoint()?.coveredTo ?? instant(0);
    const random = randomFrom(SEED + 99);
    let inversions = 0;
    for (let i = 1; i < commits.length; i++) if ((commits[i]?.at ?? 0) < (commits[i - 1]?.at ?? 0)) inversions++;
    for (let i = 0; i < 60; i++) {
      const commit = commits[Math.floor(random() * commits.length)] as OracleCommit;
      for (const at of [instant(commit.at - 1), commit.at, instant(commit.at + 1)]) {
        if (at < base.facts.consistentAt || at > covered) continue;
        const cut = await rig.locate(at, stretch);
        const kept = keptBy(commits, at);
        const dropped = commits[kept.size];
        const last = commits[kept.size - 1];
        assert.equal(cut.lastKeptNotBefore, last?.at, `seed ${SEED}, ${inversions} inversions`);
        assert.equal(cut.firstDroppedAt, dropped?.at);
        const again = await rig.driver.locate(
          { position: cut.position },
          rig.archive.aroundPosition(cut.position.ordinal, stretch),
        );
        assert.deepEqual(again.position, cut.position);
        assert.deepEqual(rig.driver.parsePosition(cut.position.text), cut.position);
      }
    }
    const archived = rig.archive.segments.reduce((sum, segment) => sum + segment.transactions, 0);
    const first = rig.archive.segments[0]?.after ?? 0;
    assert.ok(
      first > 0 && archived <= commits.length && archived > 1500,
      `${archived} of ${commits.length} commits indexed`,
    );
  });

  test('one microsecond before TRUNCATE and before DROP DATABASE everything is there', async () => {
    await client.query("create table doomed as select i, repeat('x', 100) as filler from generate_series(1, 5000) i");
    await client.query('create database doomed_too');
    await client.query('truncate doomed');
    await client.query('drop database doomed_too');
    await capture.fence();
    const commits = (await rig.oracle()).slice(-3);
    const [truncated, dropped] = commits as [OracleCommit, OracleCommit, OracleCommit];
    for (const [at, rows, databases] of [
      [instant(truncated.at - 1), 5000, 1],
      [truncated.at, 0, 1],
      [instant(dropped.at - 1), 0, 1],
    ] as const) {
      const recovered = await rig.recover(base, at);
      assert.equal(Number((await recovered.client.query('select count(*) from doomed')).rows[0].count), rows);
      const found = await recovered.client.query("select 1 from pg_database where datname = 'doomed_too'");
      assert.equal(found.rowCount, databases);
      const socket = `postgresql:///doomed_too?host=${recovered.handle.home}/run&port=${recovered.handle.state.port}&user=postgres`;
      const other = await rig.connect(socket);
      await other.query('create table works ()');
      await other.end();
      await rig.drop(recovered);
    }
  });

  test('after the last commit of an idle source, once a fence has covered it', async () => {
    await client.query('create table late as select 42 as answer');
    const at = await sourceNow(client);
    const { coveredTo } = await capture.fence();
    assert.ok(coveredTo >= at, 'the fence covers the instant before it');
    const recovered = await rig.recover(base, at);
    assert.equal((await recovered.client.query('select answer from late')).rows[0].answer, 42);
    assert.ok(recovered.facts.connectionUri.startsWith('postgresql://postgres@127.0.0.1:'));
    await rig.drop(recovered);
  });

  test('a recovered server is captured, written to and recovered again', async () => {
    const recovered = await rig.recover(base, base.facts.consistentAt);
    await mkdir(`${rig.directory}/archive-2`);
    const archive = new PlainArchive(`${rig.directory}/archive-2`);
    const second = await rig.driver.capture(recovered.handle, null, archive);
    const cloneBase = await rig.backup(second, recovered.handle);
    await recovered.client.query('create table written_in_the_clone as select 1 as one');
    const at = await sourceNow(recovered.client);
    await recovered.client.query('drop table written_in_the_clone');
    await second.fence();
    assert.match(cloneBase.facts.replayAfter.stretch, /^tl2-/);
    const again = await rig.recover(cloneBase, at, archive);
    assert.equal((await again.client.query('select one from written_in_the_clone')).rows[0].one, 1);
    await second.stop();
    await rig.drop(again);
    await rig.drop(recovered);
    // The parent's archive knows nothing of it.
    assert.deepEqual(rig.archive.stretches.length, 1);
  });
});
