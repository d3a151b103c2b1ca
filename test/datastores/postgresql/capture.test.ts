/** What happens to a capture when its connection, its slot, its source or its archive fails, on a real server. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import pg from 'pg';
import { Handover } from '../../../src/datastores/postgresql/capture/handover.js';
import { slotName } from '../../../src/datastores/postgresql/source/source.js';
import { Fault } from '../../../src/errors.js';
import { keptBy, PostgresRig, sourceNow, withoutPostgresql } from '../../support/postgresql/postgresRig.js';
import { until } from '../../support/sqlitePrograms.js';

describe('PostgreSQL: capture over faults', { skip: withoutPostgresql, timeout: 300_000 }, () => {
  let rig: PostgresRig;
  let client: pg.Client;

  beforeEach(async () => {
    rig = await PostgresRig.alone();
    client = await rig.connect();
    await client.query('create table entry (xid bigint primary key, filler text)');
  });

  afterEach(async () => {
    await rig.close();
  });

  async function write(transactions: number): Promise<void> {
    for (let i = 0; i < transactions; i++) {
      await client.query("insert into entry select pg_current_xact_id()::text::bigint, repeat('x', 500)");
    }
  }

  async function xids(of: pg.Client): Promise<number[]> {
    const { rows } = await of.query('select xid::int as xid from entry order by xid');
    return rows.map((row) => row.xid);
  }

  /** Recovers to this moment and compares with the source. */
  async function assertWhole(
    capture: Awaited<ReturnType<PostgresRig['capture']>>,
    base: Awaited<ReturnType<PostgresRig['backup']>>,
  ) {
    const at = await sourceNow(client);
    await capture.fence();
    const kept = keptBy(await rig.oracle(), at);
    const recovered = await rig.recover(base, at);
    const all = await xids(client);
    assert.deepEqual(
      await xids(recovered.client),
      all.filter((xid) => kept.has(xid)),
    );
    assert.ok(all.length > 0);
    await rig.drop(recovered);
  }

  test('a killed connection and a service that starts again go on without a break', async () => {
    const capture = await rig.capture();
    const base = await rig.backup(capture);
    await write(20);
    const beats = rig.archive.healths.length;
    await client.query("select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'walsender'");
    await rig.archive.until(
      'it notices and comes back',
      () => rig.archive.healths.slice(beats).some((h) => !h.healthy) && rig.archive.healths.at(-1)?.healthy === true,
    );
    await write(20);
    await capture.fence();
    await write(20);
    await capture.stop();
    const stopped = rig.archive.segments.length;
    await write(20);
    const again = await rig.capture();
    await assertWhole(again, base);
    assert.ok(rig.archive.segments.length > stopped);
    assert.equal(rig.archive.stretches.length, 1, 'one stretch throughout');
    await again.stop();
  });

  test('a source that is killed and comes back loses nothing', async () => {
    const capture = await rig.capture();
    const base = await rig.backup(capture);
    await write(50);
    const pid = Number((await readFile(path.join(rig.directory, 'source/data/postmaster.pid'), 'utf8')).split('\n')[0]);
    process.kill(pid, 'SIGKILL');
    await rig.archive.until('the capture notices', () => rig.archive.healths.at(-1)?.healthy === false);
    await assert.rejects(capture.fence(AbortSignal.timeout(500)));
    // The server's own watch brings it back.
    await rig.archive.until('the capture is back', () => rig.archive.healths.at(-1)?.healthy === true);
    client = await rig.connect();
    await write(50);
    await assertWhole(capture, base);
    assert.equal(rig.archive.stretches.length, 1);
    await capture.stop();
  });

  test('an archive that refuses is asked again and nothing is lost', async () => {
    const capture = await rig.capture();
    const base = await rig.backup(capture);
    rig.archive.refuse = new Fault('STORAGE_FULL', 'The storage is full');
    await write(20);
    await assert.rejects(capture.fence(), { code: 'STORAGE_FULL' });
    await write(20);
    rig.archive.refuse = null;
    await assertWhole(capture, base);
    assert.equal(capture.health().healthy, true);
    await capture.stop();
  });

  test('what a fence was refused is archived once the archive takes log again, without another word from the source', async () => {
    await client.query("alter system set autovacuum = 'off'");
    await client.query('select pg_reload_conf()');
    const capture = await rig.capture();
    await capture.fence();
    const before = rig.archive.segments.length;
    rig.archive.refuse = new Fault('STORAGE_FULL', 'The storage is full');
    await write(5);
    await assert.rejects(capture.fence(), { code: 'STORAGE_FULL' });
    assert.equal(capture.health().healthy, false);
    assert.equal(capture.health().message, 'The storage is full');
    rig.archive.refuse = null;
    await rig.archive.until('it is archived', () => rig.archive.segments.length > before);
    await rig.archive.until('it is healthy', () => rig.archive.healths.at(-1)?.healthy === true);
    await capture.stop();
  });

  /** An archive that does not answer before it is told to. */
  function hang() {
    const hung = { calls: 0, answer: (): void => {} };
    rig.archive.segment = () => {
      hung.calls++;
      return new Promise((resolve) => {
        hung.answer = resolve;
      });
    };
    return hung;
  }

  test('a fence ends with its caller or its deadline where the archive does not answer', async (t) => {
    const capture = await rig.capture();
    await capture.fence();
    const hung = hang();
    await write(5);
    const caller = new AbortController();
    const left = assert.rejects(capture.fence(caller.signal), { message: 'the caller has gone' });
    await until('the archive is asked', () => hung.calls === 1);
    caller.abort(new Error('the caller has gone'));
    await left;

    const deadline = new AbortController();
    const asked = t.mock.method(Handover.prototype, 'now');
    const limits = t.mock.method(AbortSignal, 'timeout', () => deadline.signal);
    const late = assert.rejects(capture.fence(), {
      code: 'DATASTORE_UNAVAILABLE',
      message: 'The archive did not take the log of the fence in time',
    });
    limits.mock.restore();
    // Its commit has arrived then; nothing else than the archive is missing.
    await until('the fence waits for the archive', () => asked.mock.calls.some((call) => call.arguments[0]));
    deadline.abort();
    await late;
    rig.archive.segment = async () => {};
    hung.answer();
    await capture.stop();
  });

  test('an archive that does not answer holds up nobody who stops the capture, and gets nothing afterwards', async () => {
    const capture = await rig.capture();
    await capture.fence();
    const hung = hang();
    await write(5);
    const fence = capture.fence().catch(() => {});
    await until('the archive is asked', () => hung.calls === 1);
    // Another segment's worth, for which the first one's answer would make room.
    await write(5);
    await capture.stop();
    hung.answer();
    await new Promise(setImmediate);
    assert.equal(hung.calls, 1);
    await fence;
  });

  test('a busy source fills its segments: none is cut for what came while another one was stored', async () => {
    const capture = await rig.capture();
    await capture.fence();
    const before = rig.archive.segments.length;
    const begun = performance.now();
    for (let i = 0; i < 4000; i++) {
      await client.query("select pg_logical_emit_message(true, 'busy', repeat('x', 10000))");
    }
    // What has waited for ten seconds goes without being full, and so does the last.
    const aged = Math.floor((performance.now() - begun) / 10_000);
    await capture.fence();
    const made = rig.archive.segments.slice(before);
    assert.ok(made.length >= 4, `${made.length} segments of 40 MB`);
    const short = made.filter(({ after, last }) => last - after < 8 << 20);
    assert.ok(short.length <= 1 + aged, `${short.length} of ${made.length} segments are short`);
    await capture.stop();
  });

  test('a record larger than what is held in memory is taken in to its end', async () => {
    const capture = await rig.capture();
    const base = await rig.backup(capture);
    await write(3);
    await client.query("select length(pg_logical_emit_message(true, 'large', repeat('x', 40000000))::text)");
    await write(3);
    await assertWhole(capture, base);
    assert.equal(rig.archive.stretches.length, 1);
    await capture.stop();
  });

  test('a dropped slot is made again, without a gap while the log is still there', async () => {
    const capture = await rig.capture();
    const base = await rig.backup(capture);
    await capture.stop();
    await write(20);
    await client.query('select pg_drop_replication_slot($1)', [slotName(rig.instance.id)]);
    await client.query('select pg_switch_wal()');
    await write(20);
    const again = await rig.capture();
    await assertWhole(again, base);
    assert.equal(rig.archive.stretches.length, 1);
    await again.stop();
  });

  test('log that the server removed is a gap, and a backup opens the next window', async () => {
    const capture = await rig.capture();
    await rig.backup(capture);
    await write(20);
    await capture.stop();
    await client.query('select pg_drop_replication_slot($1)', [slotName(rig.instance.id)]);
    await client.query("alter system set wal_keep_size = '0'");
    await client.query('select pg_reload_conf()');
    for (let i = 0; i < 4; i++) {
      await write(5);
      await client.query('select pg_switch_wal()');
      await client.query('checkpoint');
    }
    const again = await rig.capture();
    await rig.archive.until('a new stretch', () => rig.archive.stretches.length === 2);
    assert.equal(rig.archive.stretches[1]?.because, 'LOG_GAP');
    assert.match(rig.archive.stretches[1]?.reason ?? '', /removed log/);
    const base = await rig.backup(again);
    assert.equal(base.facts.replayAfter.stretch, rig.archive.stretches[1]?.stretch);
    await write(20);
    const at = await sourceNow(client);
    await again.fence();
    const recovered = await rig.recover(base, at);
    assert.deepEqual(await xids(recovered.client), await xids(client));
    await again.stop();
  });

  test('a source that is let go while the server still makes the slot keeps none', async (t) => {
    await client.query("create role keeper login replication password 'keeper'");
    const uri = new URL(rig.instance.connectionUri);
    uri.username = 'keeper';
    uri.password = 'keeper';
    const instance = { ...rig.instance, connectionUri: uri.href };
    const slot = slotName(instance.id);
    // The server comes to it only when the lock is free, as one does whose disk is slow.
    await client.query('select pg_advisory_lock(1)');
    const { query } = pg.Client.prototype;
    t.mock.method(pg.Client.prototype, 'query', function (this: pg.Client, ...[text, ...rest]: unknown[]) {
      const making = typeof text === 'string' && text.includes('pg_create_physical_replication_slot');
      return Reflect.apply(query, this, [making ? `${text} from pg_advisory_lock(1)` : text, ...rest]);
    });
    const capture = await rig.driver.capture(instance, null, rig.archive);
    const sessions = async (waiting: boolean) => {
      const { rowCount } = await client.query(
        "select from pg_stat_activity where application_name = $1 and (not $2 or wait_event = 'advisory')",
        [slot, waiting],
      );
      return rowCount;
    };
    await until('the slot is being made', async () => (await sessions(true)) === 1);
    await capture.stop();
    await rig.driver.release(instance);
    await client.query('select pg_advisory_unlock(1)');
    await until('the server is done with all that it was asked', async () => (await sessions(false)) === 0);
    assert.equal((await client.query('select from pg_replication_slots')).rowCount, 0);
  });

  test('another cluster at the same address, or an archive from elsewhere, begins a new stretch', async () => {
    const capture = await rig.capture();
    await capture.fence();
    await capture.stop();
    const resume = rig.archive.resumePoint();
    assert.ok(resume);
    const foreign = await rig.capture({ ...resume, continuation: { ...resume.continuation, systemId: '1234567890' } });
    await rig.archive.until('a new stretch', () => rig.archive.stretches.length === 2);
    assert.match(rig.archive.stretches[1]?.reason ?? '', /Another database cluster/);
    await foreign.stop();
    // The same place, with another record there: as after a restore from an older copy of the disk.
    const mark = { ...(resume.continuation.mark as { start: number; crc: number }), crc: 1 };
    const diverged = await rig.capture({ ...resume, continuation: { ...resume.continuation, mark } });
    await rig.archive.until('another one', () => rig.archive.stretches.length === 3);
    assert.match(rig.archive.stretches[2]?.reason ?? '', /not the archived one/);
    await diverged.stop();
    // The instance stays the cluster that was registered, so that its address can be corrected.
    rig.archive.identity = null;
    const registered = { ...rig.instance, state: { systemId: '1234567890' } };
    const other = await rig.driver.capture(registered, rig.archive.resumePoint(), rig.archive);
    await other.fence();
    await other.stop();
    assert.equal(rig.archive.identity, null);
  });
});
