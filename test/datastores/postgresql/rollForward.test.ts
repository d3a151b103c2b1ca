/**
 * Full backups made of older ones and the archive: a recovery from one equals that from the backup it was made of, and
 * both equal the source's log, whatever lies around the point at which the server that made it had stopped.
 */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import type pg from 'pg';
import type {
  LogCapture,
  RollForwardRequest,
  StoredBackup,
  StoredPart,
  StoredSegment,
} from '../../../src/datastores/datastore.js';
import { handOver, resolveRunAs } from '../../../src/datastores/postgresql/server/processes.js';
import { Fault } from '../../../src/errors.js';
import { formatInstant, type Instant, instant } from '../../../src/instant.js';
import {
  keptBy,
  PostgresRig,
  type Recovered,
  sourceNow,
  withoutPostgresql,
} from '../../support/postgresql/postgresRig.js';
import { seeded, seeds } from '../../support/seed.js';

describe('PostgreSQL: full backups made of the archive', { skip: withoutPostgresql, timeout: 300_000 }, () => {
  let rig: PostgresRig;
  let client: pg.Client;
  let capture: LogCapture;
  let base: StoredBackup;

  before(async () => {
    rig = await PostgresRig.alone({ autovacuum: 'off', max_prepared_transactions: '10' });
    client = await rig.connect();
    await client.query(`create table account (id int primary key, balance int not null);
      insert into account select i, 0 from generate_series(1, 50) i;
      create table entry (xid bigint primary key, account int not null, delta int not null, filler text);
      create unlogged table fleeting as select 1 as one`);
    capture = await rig.capture();
    base = await rig.backup(capture);
  });

  after(async () => {
    await rig?.close();
  });

  /** Transfers of several writers at once; every tenth is rolled back. */
  async function write(transactions: number, seed: number): Promise<void> {
    const random = seeded(seed);
    await Promise.all(
      Array.from({ length: 4 }, async () => {
        const own = await rig.connect();
        for (let i = 0; i < transactions; i++) {
          const account = 1 + Math.floor(random() * 50);
          const delta = Math.floor(random() * 200) - 100;
          await own.query('begin');
          await own.query('update account set balance = balance + $1 where id = $2', [delta, account]);
          await own.query(
            `insert into entry select pg_current_xact_id()::text::bigint, $1, $2, repeat(md5($3::text), 20)`,
            [account, delta, i],
          );
          await own.query(i % 10 === 9 ? 'rollback' : 'commit');
        }
        await own.end();
      }),
    );
  }

  /** A file of log that holds a checkpoint. */
  async function checkpoint(): Promise<void> {
    await client.query('select pg_switch_wal()');
    await client.query('checkpoint');
  }

  /** The archive covers it, and no later commit can change what it means. */
  async function archivedNow(): Promise<Instant> {
    const at = await sourceNow(client);
    await capture.fence();
    return at;
  }

  const everything = `select 'entry' as of, xid as id, account || ' ' || delta || ' ' || md5(filler) as row from entry
    union all select 'account', id, balance::text from account order by 1, 2`;

  async function rows(recovered: Recovered): Promise<unknown[]> {
    return (await recovered.client.query({ text: everything, rowMode: 'array' })).rows;
  }

  /** Recovers to an instant from each; answers with the rows, which are the log's prefix. */
  async function assertSame(at: Instant, ...backups: StoredBackup[]): Promise<void> {
    const kept = keptBy(await rig.oracle(), at);
    const { rows: all } = await client.query('select xid::int as xid from entry order by xid');
    const expected = all.map((row) => row.xid).filter((xid) => kept.has(xid));
    let first: unknown[] | null = null;
    for (const backup of backups) {
      const recovered = await rig.recover(backup, at);
      const found = await rows(recovered);
      const xids = (await recovered.client.query('select xid::int as xid from entry order by xid')).rows;
      assert.deepEqual(
        xids.map((row) => row.xid),
        expected,
        formatInstant(at),
      );
      first ??= found;
      assert.deepEqual(found, first, 'the same rows from either backup');
      assert.equal((await recovered.client.query('select * from fleeting')).rowCount, 0, 'unlogged rows are gone');
      await recovered.client.query('insert into fleeting values (2)');
      await rig.drop(recovered);
    }
  }

  test('random instants after it, from it and from what it was made of, and from one made of it', async (t) => {
    const seed = seeds(t).at(-1) ?? 1;
    const random = seeded(seed);
    await write(100, seed);
    await checkpoint();
    await write(60, seed + 1);
    const at = await archivedNow();
    const rolled = await rig.roll(base, at);
    assert.ok(rolled.facts.replayAfter.ordinal > base.facts.replayAfter.ordinal, 'there is less log to replay');
    assert.equal(rolled.facts.consistentAt, at);
    assert.deepEqual(rolled.facts.consistent, (await rig.locate(at, base.facts.replayAfter.stretch)).position);

    await write(60, seed + 2);
    await client.query('create unlogged table fleeting_too as select 1 as one');
    await checkpoint();
    await write(60, seed + 3);
    const later = await archivedNow();
    const twice = await rig.roll(rolled, later);
    assert.ok(twice.facts.replayAfter.ordinal > rolled.facts.replayAfter.ordinal);
    await write(40, seed + 4);
    const end = await archivedNow();

    const between = (from: number, to: number) => instant(Math.floor(from + random() * (to - from)));
    await assertSame(at, base, rolled);
    await assertSame(between(at, later), base, rolled);
    await assertSame(later, base, rolled, twice);
    await assertSame(between(later, end), base, twice);
    await assertSame(end, base, twice);
  });

  test('a commit that changes no page of its own is not kept by a target before it', async () => {
    const open = await rig.connect();
    await open.query('begin');
    await open.query('update account set balance = 4711 where id = 1');
    // Its row is in the backup and its checkpoint; of its commit there is nothing but a bit of pg_xact.
    const started = await rig.backup(capture);
    await checkpoint();
    // A commit behind the checkpoint, for the target to end at.
    await capture.fence();
    const early = await archivedNow();
    await open.query('commit');
    await open.end();
    const at = await archivedNow();
    const rolled = await rig.roll(started, at);
    // A target in between is not one of its own: PostgreSQL itself would take it, and keep what it was to leave out.
    const cut = await rig.locate(early, started.facts.replayAfter.stretch);
    assert.ok(rolled.facts.consistent.ordinal > cut.position.ordinal);
    assert.ok(rolled.facts.consistentAt > early);
    await assert.rejects(rig.recover(rolled, early), { code: 'RECOVERY_INCOMPLETE', message: /of a later point/ });
    for (const [backup, target, balance] of [
      [started, early, false],
      [started, at, true],
      [rolled, at, true],
    ] as const) {
      const recovered = await rig.recover(backup, target);
      const found = await recovered.client.query('select 1 from account where id = 1 and balance = 4711');
      assert.equal(found.rowCount === 1, balance);
      await rig.drop(recovered);
    }
    await client.query(
      'update account set balance = (select coalesce(sum(delta), 0) from entry where account = 1) where id = 1',
    );
  });

  test('with prepared transactions before and after the restart point, pending, committed and rolled back', async () => {
    const prepare = async (name: string) => {
      await client.query('begin');
      await client.query(`create table ${name} as select 1 as one`);
      await client.query(`prepare transaction '${name}'`);
    };
    for (const name of ['early_kept', 'early_committed', 'early_undone', 'early_later']) await prepare(name);
    await checkpoint();
    for (const name of ['late_kept', 'late_committed', 'late_later']) await prepare(name);
    await client.query("commit prepared 'early_committed'");
    await client.query("rollback prepared 'early_undone'");
    await client.query("commit prepared 'late_committed'");
    const at = await archivedNow();
    const rolled = await rig.roll(base, at);
    await client.query("commit prepared 'early_later'");
    await client.query("commit prepared 'late_later'");
    const later = await archivedNow();
    const pendingAt = ['early_kept', 'early_later', 'late_kept', 'late_later'];
    for (const [target, pending, tables] of [
      [at, pendingAt, ['early_committed', 'late_committed']],
      [later, ['early_kept', 'late_kept'], ['early_committed', 'early_later', 'late_committed', 'late_later']],
    ] as const) {
      for (const backup of [base, rolled]) {
        const recovered = await rig.recover(backup, target);
        const { rows: gids } = await recovered.client.query('select gid from pg_prepared_xacts order by gid');
        assert.deepEqual(
          gids.map(({ gid }) => gid),
          pending,
        );
        const { rows: found } = await recovered.client.query(
          `select relname from pg_class where relname ~ '^(early|late)_' order by relname`,
        );
        assert.deepEqual(
          found.map(({ relname }) => relname),
          tables,
        );
        // What is pending can still be ended either way.
        await recovered.client.query("commit prepared 'early_kept'");
        await recovered.client.query("rollback prepared 'late_kept'");
        assert.equal((await recovered.client.query('select one from early_kept')).rows[0].one, 1);
        await rig.drop(recovered);
      }
    }
    await client.query("rollback prepared 'early_kept'");
    await client.query("rollback prepared 'late_kept'");
  });

  test('with tablespaces from before the backup, from the log, and dropped in it', async () => {
    const outside = path.join(rig.directory, 'outside');
    const make = async (name: string) => {
      const directory = path.join(outside, name);
      await mkdir(directory, { recursive: true });
      await handOver(directory, resolveRunAs(undefined));
      await client.query(`create tablespace ${name} location '${directory}'`);
      await client.query(`create table in_${name} tablespace ${name} as select i from generate_series(1, 500) i`);
    };
    await make('older');
    await make('doomed');
    const started = await rig.backup(capture);
    await make('newer');
    await checkpoint();
    await make('newest');
    await client.query('drop table in_doomed');
    await client.query('drop tablespace doomed');
    await client.query('update in_older set i = i + 1000 where i % 2 = 0');
    const at = await archivedNow();
    const rolled = await rig.roll(started, at);
    await client.query('delete from in_newest where i > 100');
    const later = await archivedNow();
    for (const [target, newest] of [
      [at, 500],
      [later, 100],
    ] as const) {
      const found = await Promise.all(
        [started, rolled].map(async (backup) => {
          const recovered = await rig.recover(backup, target);
          const sums: unknown[] = [];
          for (const table of ['in_older', 'in_newer', 'in_newest']) {
            const { rows: of } = await recovered.client.query(
              `select count(*)::int as count, sum(i)::int as sum from ${table}`,
            );
            sums.push(of[0]);
          }
          const { rows: places } = await recovered.client.query(
            `select spcname, pg_tablespace_location(oid) as place from pg_tablespace where spcname !~ '^pg_' order by 1`,
          );
          assert.deepEqual(
            places.map(({ spcname }) => spcname),
            ['newer', 'newest', 'older'],
          );
          for (const { place } of places) assert.ok(place.startsWith(path.join(recovered.handle.home, 'tablespaces')));
          await rig.drop(recovered);
          return sums;
        }),
      );
      assert.deepEqual(found[1], found[0]);
      assert.equal((found[0]?.[2] as { count: number } | undefined)?.count, newest);
    }
    for (const name of ['older', 'newer', 'newest']) {
      await client.query(`drop table in_${name}`);
      await client.query(`drop tablespace ${name}`);
    }
  });

  test('none where the log holds no checkpoint that would shorten it', async () => {
    const started = await rig.backup(capture);
    await write(5, 7);
    const at = await archivedNow();
    await assert.rejects(rig.roll(started, at), (error: Fault) => {
      assert.equal(error.code, 'INSTANCE_NOT_READY');
      assert.match(error.message, /no checkpoint/);
      assert.match(error.hint ?? '', /checkpoint_timeout/);
      return true;
    });
  });

  describe('what goes wrong', () => {
    let at: Instant;

    before(async () => {
      await checkpoint();
      await write(20, 11);
      await checkpoint();
      await write(20, 12);
      at = await archivedNow();
    });

    /** However it is read. */
    function unreadable<T extends StoredPart | StoredSegment>(object: T, fault: Fault): T {
      return {
        ...object,
        // biome-ignore lint/correctness/useYield: it fails before it has anything
        async *read() {
          throw fault;
        },
        pour: async () => {
          throw fault;
        },
      };
    }

    /** Every process whose arguments name a directory. */
    function runningIn(directory: string): string[] {
      return readdirSync('/proc').filter((pid) => {
        try {
          return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(directory);
        } catch {
          return false;
        }
      });
    }

    async function failing(change: (segments: StoredSegment[]) => StoredSegment[]): Promise<Fault> {
      let scratch = '';
      const fault = await rig
        .roll(base, at, (request) => {
          scratch = request.scratch;
          return {
            ...request,
            async *segments(order) {
              const all: StoredSegment[] = [];
              for await (const segment of request.segments('oldest-first')) all.push(segment);
              const changed = change(all);
              yield* order === 'oldest-first' ? changed : [...changed].reverse();
            },
          };
        })
        .then(
          () => assert.fail('a backup was made of it'),
          (error: unknown) => Fault.from(error),
        );
      assert.deepEqual(runningIn(scratch), [], 'nothing runs on');
      return fault;
    }

    test('a hole in the log, a log without its end, a segment cut short', async () => {
      const holed = await failing((all) => all.filter((_, i) => i !== 3));
      assert.equal(holed.code, 'RECOVERY_INCOMPLETE');
      const short = await failing((all) => all.slice(0, -1));
      assert.equal(short.code, 'RECOVERY_INCOMPLETE');
      const fault = new Fault('LOG_CORRUPT', 'A stored object is damaged', { details: { object: 'this one' } });
      const damaged = await failing((all) => all.map((segment, i) => (i === 2 ? unreadable(segment, fault) : segment)));
      assert.deepEqual([damaged.code, damaged.details.object], ['LOG_CORRUPT', 'this one']);
    });

    test('a part of the base that is damaged or missing', async () => {
      const damage = new Fault('BACKUP_CORRUPT', 'A stored object is damaged', { details: { object: 'that one' } });
      const last = base.parts.length - 1;
      const broken = { ...base, parts: base.parts.map((part, i) => (i === last ? unreadable(part, damage) : part)) };
      const fault = await rig.roll(broken, at).then(
        () => assert.fail('a backup was made of it'),
        (error: unknown) => Fault.from(error),
      );
      assert.deepEqual([fault.code, fault.details.object], ['BACKUP_CORRUPT', 'that one']);
      await assert.rejects(rig.roll({ ...base, parts: base.parts.slice(0, -1) }, at), { code: 'BACKUP_CORRUPT' });
    });

    test('interrupted while it replays and while it is stored, it ends and leaves nothing', async () => {
      for (const when of ['replay', 'store'] as const) {
        const interrupt = new AbortController();
        let scratch = '';
        const stop = (during: typeof when) => {
          if (during === when) interrupt.abort(new Error('stopped by the test'));
        };
        const change = (request: RollForwardRequest): RollForwardRequest => {
          scratch = request.scratch;
          return {
            ...request,
            signal: interrupt.signal,
            async *segments(order) {
              let given = 0;
              for await (const segment of request.segments(order)) {
                if (order === 'oldest-first' && given++ === 3) stop('replay');
                yield segment;
              }
            },
          };
        };
        const rolling = rig.roll(base, at, change, () => stop('store'));
        await assert.rejects(rolling, /stopped by the test/);
        assert.deepEqual(runningIn(scratch), []);
        assert.equal(existsSync(scratch), false);
      }
    });
  });
});
