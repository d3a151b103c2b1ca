/**
 * Every supported major on a real server of it: its log is read as the server itself reads it, and recoveries around
 * commits hold exactly what that log says. The oracle is the server's own reading of its log, not the driver's.
 */
import assert from 'node:assert/strict';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import type pg from 'pg';
import type { LogCapture, StoredBackup } from '../../../src/datastores/datastore.js';
import { ControlFileError, parseControlFile } from '../../../src/datastores/postgresql/formats/controlFile.js';
import { crc32c } from '../../../src/datastores/postgresql/formats/crc32c.js';
import { segmentFloor, serverLsn, walFileName } from '../../../src/datastores/postgresql/formats/lsn.js';
import { supportedMajors } from '../../../src/datastores/postgresql/formats/majors.js';
import { WalReader } from '../../../src/datastores/postgresql/formats/walReader.js';
import {
  type WalCheckpoint,
  type WalCommit,
  WalFormatError,
} from '../../../src/datastores/postgresql/formats/walRecord.js';
import { handOver, resolveRunAs } from '../../../src/datastores/postgresql/server/processes.js';
import { instant } from '../../../src/instant.js';
import { withoutMajor } from '../../support/postgresql/majors.js';
import { PlainArchive } from '../../support/postgresql/plainArchive.js';
import { PostgresRig, sourceNow } from '../../support/postgresql/postgresRig.js';
import { recordsOf } from '../../support/postgresql/walOracle.js';

const SEGMENT = 16 * 2 ** 20;

for (const major of supportedMajors) {
  describe(`PostgreSQL ${major}`, { skip: withoutMajor(major), timeout: 300_000 }, () => {
    let rig: PostgresRig;
    let client: pg.Client;
    let capture: LogCapture;
    let base: StoredBackup;

    before(async () => {
      // Nobody else may commit.
      const settings = { autovacuum: 'off', max_prepared_transactions: '5', track_commit_timestamp: 'on' };
      const ofNewer: Record<string, string> = major >= 17 ? { summarize_wal: 'on' } : {};
      rig = await PostgresRig.alone({ ...settings, ...ofNewer }, major);
      client = await rig.connect();
      await client.query('create extension pg_walinspect');
      await client.query("set statement_timeout = '30s'");
      await client.query('create table entry (number int primary key, filler text); create table held (number int)');
      await makeTablespace('apart');
      await client.query('create table elsewhere (number int) tablespace apart');
      capture = await rig.capture();
      base = await rig.backup(capture);
    });

    after(async () => {
      await rig?.close();
    });

    const source = () => path.join(rig.directory, 'source/data');
    const stretch = () => base.facts.replayAfter.stretch;

    async function makeTablespace(name: string): Promise<void> {
      const directory = path.join(rig.directory, 'outside', name);
      await mkdir(directory, { recursive: true });
      await handOver(directory, resolveRunAs(undefined));
      await client.query(`create tablespace ${name} location '${directory}'`);
    }

    async function flushed(): Promise<string> {
      return (await client.query('select pg_current_wal_flush_lsn()::text as lsn')).rows[0].lsn;
    }

    async function numbers(of: pg.Client, table = 'entry'): Promise<number[]> {
      const { rows } = await of.query<{ number: number }>(`select number from ${table} order by number`);
      return rows.map(({ number }) => number);
    }

    /** What the server itself reads in its control file. */
    async function controlAsTold() {
      const { rows } = await client.query(
        `select system_identifier::text as system, timeline_id as timeline, redo_lsn::text as redo,
                min_recovery_end_lsn::text as least, min_recovery_end_timeline as "leastTimeline",
                backup_start_lsn::text as start, backup_end_lsn::text as end, end_of_backup_record_required as required
           from pg_control_system(), pg_control_checkpoint(), pg_control_recovery()`,
      );
      const [said] = rows;
      return {
        systemId: said.system,
        timeline: said.timeline,
        redo: serverLsn(said.redo),
        minRecovery: { lsn: serverLsn(said.least), timeline: said.leastTimeline },
        backup: { start: serverLsn(said.start), end: serverLsn(said.end), endRequired: said.required },
      };
    }

    /** One transaction; answers with the time of its commit record as the server's own log has it. */
    async function commit(...statements: string[]) {
      const from = await flushed();
      for (const statement of statements) await client.query(statement);
      await client.query("select pg_logical_emit_message(true, 'test', 'flush')");
      const found = (await recordsOf(client, from, await flushed())).find((record) => record.commit !== null);
      assert.ok(found?.commit);
      return { at: found.commit.at, end: found.end };
    }

    /** The log on the server's disk, from the beginning of the file that holds `from`, up to `to`. */
    async function logOnDisk(from: number, to: number): Promise<Buffer> {
      const pieces: Buffer[] = [];
      for (let at = segmentFloor(from, SEGMENT); at < to; at += SEGMENT) {
        pieces.push(await readFile(path.join(source(), 'pg_wal', walFileName(1, at, SEGMENT))));
      }
      return Buffer.concat(pieces).subarray(0, to - segmentFloor(from, SEGMENT));
    }

    test('its log is read record for record as the server reads it, and its times are the transactions’', async () => {
      const from = await flushed();
      // Every kind of end of a transaction, alone and at once, with records over pages and files.
      await client.query(
        "begin; insert into entry values (-1, 'a'); savepoint one; insert into entry values (-2, 'b')",
      );
      await client.query("rollback to one; savepoint two; insert into entry values (-3, 'c'); commit");
      await client.query('begin; insert into entry values (-4); rollback');
      await client.query("begin; insert into entry values (-5); prepare transaction 'kept'");
      await client.query("begin; insert into entry values (-6); prepare transaction 'dropped'");
      await client.query('create table truncated as select * from generate_series(1, 2000)');
      await client.query("commit prepared 'kept'");
      await client.query("rollback prepared 'dropped'");
      await client.query('truncate truncated');
      await client.query('select pg_switch_wal()');
      await Promise.all(
        [1, 2, 3, 4].map(async (writer) => {
          const own = await rig.connect();
          for (let i = 0; i < 50; i++) {
            const number = -1000 * writer - i;
            await own.query("insert into entry select $1, string_agg(md5(i::text), '') from generate_series(1, $2) i", [
              number,
              i % 10 === 0 ? 500 : 3,
            ]);
          }
          await own.end();
        }),
      );
      await client.query('drop table truncated; checkpoint');
      await client.query("select pg_logical_emit_message(true, 'test', 'flush')");
      const to = await flushed();
      const expected = await recordsOf(client, from, to);
      assert.ok(expected.length > 500 && serverLsn(to) - serverLsn(from) > SEGMENT, `${expected.length} records`);

      const log = await logOnDisk(serverLsn(from), serverLsn(to));
      const found: { start: number; end: number; commit: WalCommit | null }[] = [];
      const commits: WalCommit[] = [];
      const checkpoints: WalCheckpoint[] = [];
      const read = (bytes: Buffer, size: number) => {
        found.length = 0;
        commits.length = 0;
        checkpoints.length = 0;
        const reader = new WalReader(
          segmentFloor(serverLsn(from), SEGMENT),
          SEGMENT,
          (one) => commits.push(one),
          (start, end) => found.push({ start, end, commit: null }),
          () => {},
          (one) => checkpoints.push(one),
        );
        for (let at = 0; at < bytes.length; at += size) reader.push(bytes.subarray(at, at + size));
        return reader;
      };
      for (const size of [log.length, 8192, 1021]) {
        assert.equal(read(log, size).major, major);
        const records = found.filter(({ start }) => start >= serverLsn(from));
        assert.deepEqual(
          records.map(({ start, end }) => [start, end]),
          expected.map(({ start, end }) => [start, end]),
          `in pieces of ${size}`,
        );
        assert.deepEqual(
          commits.filter(({ start }) => start >= serverLsn(from)),
          expected.flatMap(({ start, end, commit: made }) => (made ? [{ start, end, at: made.at }] : [])),
        );
      }
      assert.deepEqual(
        checkpoints.filter(({ end }) => end > serverLsn(from)),
        expected.flatMap(({ end, redo }) => (redo === null ? [] : [{ end, redo }])),
      );
      assert.ok(checkpoints.length > 0);
      // And what the server remembers of each transaction, apart from its log.
      const made = expected.flatMap(({ commit: one }) => (one ? [one] : []));
      assert.ok(made.length >= 200);
      const { rows } = await client.query<{ at: string }>(
        `select (extract(epoch from pg_xact_commit_timestamp(xid::text::xid)) * 1000000)::bigint as at
           from unnest($1::bigint[]) with ordinality as given (xid, place) order by place`,
        [made.map(({ xid }) => xid)],
      );
      assert.deepEqual(
        rows.map(({ at }) => Number(at)),
        made.map(({ at }) => at),
      );

      // A page of any other version is refused, and so is one of another major in the midst of this one's.
      const unknown = [0x0000, 0xd10d, 0xd111, 0xd120, 0x10d1];
      for (const [page, magics] of [
        [0, unknown],
        [8192, [...unknown, major === 15 ? 0xd118 : 0xd110]],
      ] as const) {
        for (const magic of magics) {
          const other = Buffer.from(log.subarray(0, 4 * 8192));
          other.writeUInt16LE(magic, page);
          assert.throws(() => read(other, other.length), WalFormatError, `${magic.toString(16)} at ${page}`);
        }
      }
    });

    test('recoveries around commits hold what was committed, and nothing else', async () => {
      await client.query('delete from entry');
      const one = await commit("insert into entry values (1, 'one')");
      const two = await commit("insert into entry values (2, 'two')");
      await client.query("begin; insert into held values (3); prepare transaction 'pending'");
      await makeTablespace('later');
      await client.query('create table made tablespace later as select 7 as number');
      await client.query('insert into elsewhere values (5)');
      const truncated = await commit('truncate entry, elsewhere');
      const committed = await commit("commit prepared 'pending'");
      await capture.fence();

      for (const { at, end } of [one, two, truncated, committed]) {
        assert.equal((await rig.locate(at, stretch())).position.ordinal, end);
        assert.equal((await rig.locate(instant(at + 1), stretch())).position.ordinal, end);
        assert.ok((await rig.locate(instant(at - 1), stretch())).position.ordinal < end);
      }
      const justBefore = await rig.recover(base, instant(one.at - 1));
      assert.deepEqual(await numbers(justBefore.client), []);
      await rig.drop(justBefore);
      const exactly = await rig.recover(base, one.at);
      assert.deepEqual(await numbers(exactly.client), [1]);
      await rig.drop(exactly);

      const beforeTruncate = await rig.recover(base, instant(truncated.at - 1));
      assert.match(beforeTruncate.facts.datastoreVersion, new RegExp(`^${major}\\.`));
      assert.deepEqual(await numbers(beforeTruncate.client), [1, 2]);
      assert.deepEqual(await numbers(beforeTruncate.client, 'elsewhere'), [5]);
      assert.deepEqual(await numbers(beforeTruncate.client, 'made'), [7]);
      assert.deepEqual(await numbers(beforeTruncate.client, 'held'), []);
      const { rows } = await beforeTruncate.client.query('select gid from pg_prepared_xacts');
      assert.deepEqual(rows, [{ gid: 'pending' }]);
      const { home } = beforeTruncate.handle;
      assert.deepEqual((await readdir(path.join(home, 'tablespaces'))).length, 2);
      const places = await beforeTruncate.client.query(
        "select pg_tablespace_location(oid) as at from pg_tablespace where spcname in ('apart', 'later')",
      );
      for (const { at } of places.rows) assert.ok(at.startsWith(home), at);
      await beforeTruncate.client.query("commit prepared 'pending'");
      assert.deepEqual(await numbers(beforeTruncate.client, 'held'), [3]);
      await rig.drop(beforeTruncate);
      assert.deepEqual(await numbers(client), [], 'the source is as it was');
    });

    test('an idle source to its present, and its copy captured and recovered in turn', async () => {
      await client.query("insert into entry values (10, 'ten')");
      // Locales of its own, without the machine's library, came with 17.
      const locale = major >= 17 ? "locale_provider builtin builtin_locale 'C.UTF-8'" : "locale 'C'";
      await client.query(`create database other template template0 ${locale}`);
      const present = await sourceNow(client);
      const { coveredTo } = await capture.fence();
      assert.ok(coveredTo >= present);
      const copy = await rig.recover(base, present);
      const expected = await numbers(client);
      assert.deepEqual(await numbers(copy.client), expected);
      const { rows } = await copy.client.query("select current_setting('data_checksums') as checksums");
      assert.deepEqual(rows, [{ checksums: 'on' }]);
      const { home, state } = copy.handle;
      const other = await rig.connect(`postgresql:///other?host=${home}/run&port=${state.port}&user=postgres`);
      const { rows: provider } = await other.query(
        'select datlocprovider::text as by from pg_database where datname = current_database()',
      );
      assert.deepEqual(provider, [{ by: major >= 17 ? 'b' : 'c' }]);
      await other.end();

      await mkdir(`${rig.directory}/archive-2`);
      const archive = new PlainArchive(`${rig.directory}/archive-2`);
      const own = await rig.driver.capture(copy.handle, null, archive);
      const ownBase = await rig.backup(own, copy.handle);
      assert.match(ownBase.facts.replayAfter.stretch, /^tl2-/);
      await copy.client.query("insert into entry values (11, 'of the copy')");
      const then = await sourceNow(copy.client);
      await copy.client.query('truncate entry');
      await own.fence();
      const again = await rig.recover(ownBase, then, archive);
      assert.deepEqual(await numbers(again.client), [...expected, 11]);
      await own.stop();
      await rig.drop(again);
      await rig.drop(copy);
    });

    test('a full backup made of the archive leads to the same as what it was made of, around its consistent point', async () => {
      await client.query('delete from entry; delete from held; delete from elsewhere');
      await client.query('create unlogged table fleeting as select 1 as number');
      await client.query("begin; insert into held values (20); prepare transaction 'early'");
      await client.query('select pg_switch_wal()');
      await client.query('checkpoint');
      await client.query('insert into elsewhere values (21)');
      await client.query("begin; insert into held values (22); prepare transaction 'late'");
      const last = await commit("insert into entry values (23, 'the last')");
      await capture.fence();
      const rolled = await rig.roll(base, last.at);
      assert.equal(rolled.facts.consistent.ordinal, last.end);
      assert.ok(rolled.facts.replayAfter.ordinal > base.facts.replayAfter.ordinal);
      const next = await commit("insert into entry values (24, 'the next')");
      const committed = await commit("commit prepared 'early'");
      await capture.fence();
      for (const [at, entries, held, pending] of [
        [last.at, [23], [], ['early', 'late']],
        [instant(next.at - 1), [23], [], ['early', 'late']],
        [next.at, [23, 24], [], ['early', 'late']],
        [committed.at, [23, 24], [20], ['late']],
      ] as const) {
        for (const backup of at === next.at ? [rolled] : [base, rolled]) {
          const copy = await rig.recover(backup, at);
          assert.deepEqual(await numbers(copy.client), entries);
          assert.deepEqual(await numbers(copy.client, 'held'), held);
          assert.deepEqual(await numbers(copy.client, 'elsewhere'), [21]);
          assert.deepEqual(await numbers(copy.client, 'fleeting'), []);
          const { rows } = await copy.client.query('select gid from pg_prepared_xacts order by gid');
          assert.deepEqual(
            rows.map(({ gid }) => gid),
            pending,
          );
          await copy.client.query("commit prepared 'late'");
          assert.deepEqual(await numbers(copy.client, 'held'), [...held, 22]);
          await rig.drop(copy);
        }
      }
      await client.query("rollback prepared 'late'");
    });

    test('its control file is read, and one that is not whole or of another major is refused', async () => {
      await client.query('checkpoint');
      const file = path.join(source(), 'global/pg_control');
      const bytes = await readFile(file);
      const told = { ...(await controlAsTold()), state: 'in production' };
      assert.deepEqual(parseControlFile(bytes, major), told);
      // As in a recovery: every number another, and the server reads them too.
      const recovering = Buffer.from(bytes);
      for (const [at, lsn] of [
        [40, 0x1_2345_6780n],
        [136, 0x2_3456_7890n],
        [152, 0x3_4567_89a0n],
        [160, 0x4_5678_9ab0n],
      ] as const) {
        recovering.writeBigUInt64LE(lsn, at);
      }
      recovering.writeUInt32LE(7, 48);
      recovering.writeUInt32LE(8, 144);
      recovering.writeUInt8(1, 168);
      const checksumAt = major === 18 ? 292 : 288;
      recovering.writeUInt32LE(crc32c(recovering.subarray(0, checksumAt)), checksumAt);
      await writeFile(file, recovering);
      const toldThen = await controlAsTold().finally(() => writeFile(file, bytes));
      assert.deepEqual(parseControlFile(recovering, major), { ...toldThen, state: 'in production' });
      assert.equal(toldThen.minRecovery.timeline, 8);
      for (const at of [0, 8, 16, 48, 200, 256, 288]) {
        const damaged = Buffer.from(bytes);
        damaged.writeUInt8(damaged.readUInt8(at) ^ 1, at);
        assert.throws(() => parseControlFile(damaged, major), ControlFileError, `byte ${at}`);
      }
      assert.throws(() => parseControlFile(bytes.subarray(0, 290), major), ControlFileError);
      assert.throws(() => parseControlFile(Buffer.alloc(0), major), ControlFileError);
      const others = supportedMajors.filter((other) => other !== major && !(major < 17 && other < 17));
      for (const other of [...others, 14]) {
        assert.throws(() => parseControlFile(bytes, other), ControlFileError, `as of ${other}`);
      }
    });
  });
}
