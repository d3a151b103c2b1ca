/**
 * Eight clients of pgbench write while backups are taken, and random instants are recovered: each holds exactly the
 * prefix of the log before the first later commit, by pg_waldump of the source's own log. The long run takes hundreds.
 */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import type { LogCapture, StoredBackup } from '../../../src/datastores/datastore.js';
import { formatInstant, type Instant, instant } from '../../../src/instant.js';
import { keptBy, type OracleCommit, PostgresRig, withoutPostgresql } from '../../support/postgresql/postgresRig.js';
import { seeded, seeds } from '../../support/seed.js';

const long = process.env.PITR_TEST_LONG === '1';
const TARGETS = long ? 300 : 4;
const SECONDS = long ? 20 : 4;
const CLIENTS = 8;

/** pgbench's own transaction, which leaves its number in its line of history. */
const SCRIPT = `\\set aid random(1, 100000 * :scale)
\\set bid random(1, 1 * :scale)
\\set tid random(1, 10 * :scale)
\\set delta random(-5000, 5000)
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
UPDATE pgbench_tellers SET tbalance = tbalance + :delta WHERE tid = :tid;
UPDATE pgbench_branches SET bbalance = bbalance + :delta WHERE bid = :bid;
INSERT INTO entry VALUES (pg_current_xact_id()::text::bigint, :delta);
END;
`;

describe('PostgreSQL: random instants under pgbench', { skip: withoutPostgresql, timeout: 3_600_000 }, () => {
  let rig: PostgresRig;
  let capture: LogCapture;
  let client: pg.Client;
  /** The newest last. */
  const bases: StoredBackup[] = [];

  before(async () => {
    rig = await PostgresRig.alone({ max_wal_size: '128MB' });
    await rig.pgbench('--initialize', '--quiet', '--scale=2');
    client = await rig.connect();
    await client.query('create table entry (xid bigint primary key, delta int not null)');
    capture = await rig.capture();
    bases.push(await rig.backup(capture));
    const script = path.join(rig.directory, 'source', 'script.sql');
    await writeFile(script, SCRIPT, { mode: 0o644 });
    const writing = rig.pgbench(
      '--no-vacuum',
      `--file=${script}`,
      '--scale=2',
      `--client=${CLIENTS}`,
      `--time=${SECONDS}`,
    );
    await delay((SECONDS * 1000) / 3);
    bases.push(await rig.backup(capture));
    await writing;
  });

  after(async () => {
    await rig?.close();
  });

  async function assertPrefix(recovered: pg.Client, commits: OracleCommit[], at: Instant, where: string) {
    const kept = keptBy(commits, at);
    const { rows: all } = await client.query<{ xid: string }>('select xid from entry order by xid');
    const { rows } = await recovered.query<{ xid: string }>('select xid from entry order by xid');
    const expected = all.filter(({ xid }) => kept.has(Number(xid)));
    assert.equal(rows.map(({ xid }) => xid).join(), expected.map(({ xid }) => xid).join(), where);
    const { rows: sums } = await recovered.query(
      `select (select sum(abalance) from pgbench_accounts) as accounts, (select sum(tbalance) from pgbench_tellers) as
         tellers, (select sum(bbalance) from pgbench_branches) as branches, coalesce(sum(delta), 0) as entries from entry`,
    );
    const { accounts, tellers, branches, entries } = sums[0];
    assert.deepEqual([accounts, tellers, branches], [entries, entries, entries], `${where}: the sums agree`);
    return rows.length;
  }

  test(`${TARGETS} of them equal the log`, async (t) => {
    const covered = (await capture.fence()).coveredTo;
    const commits = await rig.oracle();
    const from = bases[0]?.facts.consistentAt ?? instant(0);
    const eligible = commits.filter(({ at }) => from < at && at <= covered);
    assert.ok(eligible.length > 100 * SECONDS, `${eligible.length} commits to choose from`);
    const counts = new Set<number>();
    const each = seeds(t);
    for (const seed of each) {
      const random = seeded(seed);
      for (let i = 0; i < TARGETS / each.length; i++) {
        const commit = eligible[Math.floor(random() * eligible.length)];
        assert.ok(commit);
        // At a commit, a microsecond before it, or anywhere.
        const kind = random();
        const anywhere = from + Math.floor(random() * (covered - from));
        const at = instant(kind < 0.4 ? commit.at : kind < 0.7 ? commit.at - 1 : anywhere);
        const base = bases.findLast(({ facts }) => facts.consistentAt <= at);
        if (!base) continue;
        const recovered = await rig.recover(base, at);
        counts.add(await assertPrefix(recovered.client, commits, at, `seed ${seed}, ${i}: ${formatInstant(at)}`));
        await rig.drop(recovered);
      }
    }
    assert.ok(counts.size > 1, 'the targets differ in what they keep');
    await capture.stop();
  });
});
