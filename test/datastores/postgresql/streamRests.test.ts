/**
 * A source whose stream is ended whenever everything is received and begun again after a rest: nothing of its log is
 * left out or comes twice, whoever ends what in such a rest, and nobody who waits for a commit waits for its end.
 */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { mkdir, open, readFile } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, describe, test } from 'node:test';
import type pg from 'pg';
import type { LogCapture } from '../../../src/datastores/datastore.js';
import { segmentFloor, serverLsn, walFileName } from '../../../src/datastores/postgresql/formats/lsn.js';
import { SegmentBytes } from '../../../src/datastores/postgresql/formats/segmentFormat.js';
import { endProcess, handOver, launch } from '../../../src/datastores/postgresql/server/processes.js';
import type { ManagedServer } from '../../../src/datastores/postgresql/server/server.js';
import { ReplicationStream } from '../../../src/datastores/postgresql/source/replicationStream.js';
import { slotName } from '../../../src/datastores/postgresql/source/source.js';
import { SourceSession } from '../../../src/datastores/postgresql/source/sourceSession.js';
import { Fault } from '../../../src/errors.js';
import { BIN, PostgresRig, withoutPostgresql } from '../../support/postgresql/postgresRig.js';
import { standbyOf } from '../../support/postgresql/standby.js';
import { until } from '../../support/sqlitePrograms.js';

/** Longer than fences, stops and tests wait: what is there at their end did not wait for the end of a rest. */
const FOREVER = 600_000;
/** As the server makes them. */
const WAL_FILE = 16 * 2 ** 20;

describe('PostgreSQL: rests between streams', { skip: withoutPostgresql, timeout: 240_000 }, () => {
  let rig: PostgresRig;
  let client: pg.Client;
  let slot: string;

  /** A source that nobody writes to but the test. */
  async function begin(streamRestMs: number): Promise<void> {
    rig = await PostgresRig.alone({ autovacuum: 'off', log_replication_commands: 'on' }, undefined, streamRestMs);
    client = await rig.connect();
    slot = slotName(rig.instance.id);
    await client.query('create table entry (number serial primary key, filler text)');
    // Compressed it would come to next to nothing.
    await client.query('alter table entry alter filler set storage external');
  }

  /** The same, captured up to the present. */
  async function beginCapture(streamRestMs: number): Promise<LogCapture> {
    await begin(streamRestMs);
    const capture = await rig.capture();
    await capture.fence();
    return capture;
  }

  afterEach(async () => {
    await rig.close();
  });

  const write = () => client.query("insert into entry (filler) values (repeat('x', 500))");

  async function logEnd(): Promise<number> {
    const { rows } = await client.query('select pg_current_wal_flush_lsn()::text as lsn');
    return serverLsn(rows[0].lsn);
  }

  /** Somebody streams through the slot. */
  async function streaming(): Promise<boolean> {
    const { rows } = await client.query('select active from pg_replication_slots where slot_name = $1', [slot]);
    return rows[0]?.active === true;
  }

  /** Connections of the capture. */
  async function connections(): Promise<number[]> {
    const { rows } = await client.query('select pid from pg_stat_activity where application_name = $1', [slot]);
    return rows.map(({ pid }) => pid);
  }

  /** Writes until the capture has ended its stream, and still has its connection. */
  async function intoRest(): Promise<void> {
    await until('the stream rests', async () => {
      await write();
      const { rows } = await client.query(
        "select from pg_stat_replication where application_name = $1 and state = 'startup'",
        [slot],
      );
      return rows.length === 1 && !(await streaming());
    });
  }

  async function streamsBegun(): Promise<number> {
    const log = await readFile(rig.server.place.logFile, 'utf8');
    return log.split('received replication command: START_REPLICATION').length - 1;
  }

  const told = (message: RegExp) =>
    rig.archive.healths.some(({ healthy, message: m }) => !healthy && message.test(m ?? ''));
  const healthy = () => rig.archive.healths.at(-1)?.healthy === true;

  /** One stretch, up to the log's end of a moment ago, and byte for byte what the server wrote. */
  async function assertExact(capture: LogCapture): Promise<void> {
    const end = await logEnd();
    await capture.fence();
    const { segments, stretches } = rig.archive;
    assert.equal(stretches.length, 1);
    assert.equal(segments[0]?.after, stretches[0]?.position.ordinal);
    assert.ok((segments.at(-1)?.last ?? 0) >= end);
    let compared = 0;
    for (const segment of segments) {
      const pieces: [number, Buffer][] = [];
      const bytes = new SegmentBytes(segment, {
        header: () => {},
        bytes: (lsn, piece) => void pieces.push([lsn, Buffer.from(piece)]),
      });
      for await (const chunk of segment.read()) bytes.push(chunk);
      bytes.end();
      for (const [lsn, piece] of pieces) {
        assert.ok(piece.equals(await written(lsn, piece.length)), `the log from ${lsn} on`);
        compared += piece.length;
      }
    }
    assert.equal(compared, (segments.at(-1)?.last ?? 0) - (segments[0]?.after ?? 0));
  }

  /** What the source has in its files. */
  async function written(lsn: number, length: number): Promise<Buffer> {
    const bytes = Buffer.alloc(length);
    for (let at = 0; at < length; ) {
      const file = path.join(rig.server.place.data, 'pg_wal', walFileName(1, lsn + at, WAL_FILE));
      const offset = lsn + at - segmentFloor(lsn + at, WAL_FILE);
      const handle = await open(file);
      const { bytesRead } = await handle.read(bytes, at, Math.min(length - at, WAL_FILE - offset), offset);
      await handle.close();
      assert.ok(bytesRead > 0, file);
      at += bytesRead;
    }
    return bytes;
  }

  test('all that many clients commit is archived, once', async () => {
    await begin(100);
    await rig.pgbench('--initialize', '--quiet', '--scale=1');
    const capture = await rig.capture();
    await capture.fence();
    const before = await streamsBegun();
    const writing = rig.pgbench('--client=4', '--transactions=1500');
    let over = false;
    void writing.finally(() => {
      over = true;
    });
    // Fences come at any moment of a stream and of a rest.
    while (!over) await capture.fence();
    await writing;
    await rig.pgbench('--client=4', '--transactions=1500');
    assert.ok((await streamsBegun()) > before + 1);
    await assertExact(capture);
    await capture.stop();
  });

  test('a fence ends a rest, and so does each of several at once; then it rests again', async () => {
    const capture = await beginCapture(FOREVER);
    for (let round = 0; round < 3; round++) {
      await intoRest();
      await write();
      const end = await logEnd();
      const fenced = await Promise.all([capture.fence(), capture.fence()]);
      for (const { position } of fenced) assert.ok(position.ordinal >= end);
    }
    const base = await rig.backup(capture);
    assert.ok(base.facts.consistent.ordinal > 0);
    await intoRest();
    await assertExact(capture);
    await capture.stop();
  });

  // Others than superusers and members of pg_read_all_stats are not told whom commits wait for.
  for (const rights of ['superuser', 'replication']) {
    test(`where commits wait for the service it stays in the stream, as a user with ${rights}`, async () => {
      await begin(FOREVER);
      const who = `with_${rights}`;
      await client.query(`create role ${who} login ${rights}`);
      rig.instance.connectionUri = uriOf(rig.server.place, who);
      const capture = await rig.capture();
      await capture.fence();
      await intoRest();
      await client.query(`alter system set synchronous_standby_names = '"${slot}"'`);
      await client.query('select pg_reload_conf()');
      await until('it notices', streaming);
      // So that what waits is not left to fill a segment.
      const session = new SourceSession({ ...rig.server.address, user: who }, 'looking');
      const { synchronous, named } = await session.slotState(slot);
      await session.close();
      assert.deepEqual({ synchronous, named }, { synchronous: true, named: true });
      // Each waits until it is archived.
      for (let i = 0; i < 10; i++) {
        await write();
        assert.ok(await streaming());
      }
      // From the first moment on, too.
      await capture.stop();
      const again = await rig.capture();
      await until('it streams', streaming);
      await write();
      assert.ok(await streaming());
      await client.query('alter system reset synchronous_standby_names');
      await client.query('select pg_reload_conf()');
      await intoRest();
      await assertExact(again);
      await again.stop();
    });
  }

  test('a source that is killed in a rest is missed at once, and goes on where it was', async () => {
    const capture = await beginCapture(FOREVER);
    await intoRest();
    for (let i = 0; i < 20; i++) await write();
    const beats = rig.archive.healths.length;
    const pid = Number((await readFile(path.join(rig.server.place.data, 'postmaster.pid'), 'utf8')).split('\n')[0]);
    process.kill(pid, 'SIGKILL');
    await rig.archive.until('it is missed', () => rig.archive.healths.slice(beats).some((h) => !h.healthy));
    // The server's own watch brings it back.
    await rig.archive.until('it is back', healthy);
    client = await rig.connect();
    await assertExact(capture);
    await capture.stop();
  });

  test('a source that is shut down in a rest sends its last moment when it is back', async () => {
    const capture = await beginCapture(FOREVER);
    await intoRest();
    await write();
    const last = await logEnd();
    const beats = rig.archive.healths.length;
    await rig.endClients();
    await rig.server.stop();
    await rig.archive.until('it is missed', () => rig.archive.healths.slice(beats).some((h) => !h.healthy));
    assert.ok((rig.archive.resumePoint()?.position.ordinal ?? 0) < last);
    await rig.server.start();
    await rig.archive.until('it is back', healthy);
    client = await rig.connect();
    await assertExact(capture);
    await capture.stop();
  });

  test('an idle source is followed in its stream, and shuts down only when its last word is kept', async () => {
    const capture = await beginCapture(100);
    await until('what was under way is received', streaming);
    await rig.endClients();
    await rig.server.stop();
    await rig.server.start();
    client = await rig.connect();
    await rig.archive.until('it is back', healthy);
    await assertExact(capture);
    await capture.stop();
  });

  test('a slot that is dropped in a rest is told and made again', async () => {
    const capture = await beginCapture(FOREVER);
    await intoRest();
    await client.query('select pg_drop_replication_slot($1)', [slot]);
    await assertExact(capture);
    assert.ok(told(/does not exist/));
    await rig.archive.until('it is well again', healthy);
    await capture.stop();
  });

  test('a slot that somebody takes in a rest is told, and used again when it is free', async () => {
    const capture = await beginCapture(FOREVER);
    await intoRest();
    const received = path.join(rig.directory, 'source', 'received');
    await mkdir(received);
    const { runAs } = rig.server.place;
    await handOver(received, runAs);
    const thief = launch(`${BIN}/pg_receivewal`, ['-D', received, `--slot=${slot}`, ...rig.whereItIs], {
      runAs,
      stdio: 'ignore',
    });
    try {
      await until('it is taken', streaming);
      const fence = capture.fence().catch(() => {});
      await rig.archive.until('it is told', () => told(/is active for PID/));
      await endProcess(thief, 'SIGINT', 30_000);
      await fence;
    } finally {
      await endProcess(thief, 'SIGKILL', 30_000);
    }
    await rig.archive.until('it is well again', healthy);
    await assertExact(capture);
    await capture.stop();
  });

  test('an archive without room holds up a source’s stream and its rests, and loses nothing', async (t) => {
    const capture = await beginCapture(20);
    const take = rig.archive.segment.bind(rig.archive);
    let makeRoom = (): void => {};
    const room = new Promise<void>((resolve) => {
      makeRoom = resolve;
    });
    rig.archive.segment = async (segment) => {
      await room;
      await take(segment);
    };
    const held = t.mock.method(ReplicationStream.prototype, 'pause');
    // About 40 MB, more than is held in memory.
    for (let i = 0; i < 10; i++) {
      await client.query('insert into entry (filler) select repeat(md5(i::text), 100) from generate_series(1, 1100) i');
    }
    await until('there is no room', () => held.mock.callCount() > 0);
    for (let i = 0; i < 50; i++) await write();
    makeRoom();
    await assertExact(capture);
    await intoRest();
    await capture.stop();
  });

  test('while the archive takes nothing it stays in the stream, and rests again afterwards', async () => {
    const capture = await beginCapture(1);
    await intoRest();
    rig.archive.refuse = new Fault('STORAGE_FULL', 'The storage is full');
    await assert.rejects(capture.fence(), { code: 'STORAGE_FULL' });
    for (let i = 0; i < 20; i++) {
      await write();
      assert.ok(await streaming());
    }
    await assert.rejects(capture.fence(), { code: 'STORAGE_FULL' });
    rig.archive.refuse = null;
    await assertExact(capture);
    await intoRest();
    await capture.stop();
  });

  test('it is stopped at any moment, leaves no connection and goes on from there', async () => {
    const capture = await beginCapture(1);
    await intoRest();
    await capture.stop();
    await until('it has gone', async () => (await connections()).length === 0);
    const writing = rig.pgbench('--initialize', '--quiet', '--scale=3');
    for (let round = 0; round < 12; round++) {
      const next = await rig.capture();
      await next.fence();
      await new Promise((resolve) => setTimeout(resolve, round * 3));
      await next.stop();
    }
    await writing;
    await until('it has gone', async () => (await connections()).length === 0);
    const last = await rig.capture();
    await assertExact(last);
    await last.stop();
  });

  test('the server’s process keeps few files open, however often a stream begins', async () => {
    const capture = await beginCapture(1);
    const senders = new Set<number>();
    let most = 0;
    while ((await streamsBegun()) < 250) {
      for (let i = 0; i < 20; i++) await write();
      const { rows } = await client.query('select pid from pg_stat_replication where application_name = $1', [slot]);
      for (const { pid } of rows) {
        senders.add(pid);
        most = Math.max(most, openFiles(pid));
      }
    }
    assert.ok(senders.size >= 2);
    assert.ok(most < 150, `${most} open files`);
    assert.ok(rig.archive.healths.every((health, i) => i === 0 || health.healthy));
    await assertExact(capture);
    await capture.stop();
  });

  test('a stream begins again when there is room, and tells what was kept meanwhile', async (t) => {
    await begin(0);
    await client.query('select pg_create_physical_replication_slot($1, true)', [slot]);
    const stream = await ReplicationStream.open(rig.server.address, slot);
    t.after(() => stream.close());
    const { timeline, flushed } = await stream.identify();
    let received = flushed;
    const data = (start: number, bytes: Buffer) => {
      assert.equal(start, received);
      received += bytes.length;
    };
    const followed = stream.follow(slot, flushed, timeline, { data, heartbeat() {}, asked() {}, async usedUp() {} });
    followed.catch(() => {});
    stream.setStreamRest(FOREVER);
    await intoRest();
    stream.pause();
    stream.acknowledge(received);
    stream.setStreamRest(0);
    for (let i = 0; i < 20; i++) await write();
    assert.equal(await streaming(), false);
    const end = await logEnd();
    const kept = received;
    assert.ok(kept < end);
    stream.resume();
    await until('it is told and received', async () => {
      const { rows } = await client.query('select restart_lsn from pg_replication_slots where slot_name = $1', [slot]);
      return serverLsn(rows[0].restart_lsn) === kept && received >= end;
    });
    stream.close();
    await assert.rejects(followed);
  });

  test('a server that was promoted in a rest is another timeline', async (t) => {
    await begin(0);
    const standby: ManagedServer = await standbyOf(rig);
    t.after(() => standby.stop());
    client = await rig.connect();
    await standby.start();
    const onStandby = await rig.connect(uriOf(standby.place, standby.place.user));
    await onStandby.query("select pg_create_physical_replication_slot('rests', true)");
    const stream = await ReplicationStream.open(standby.address, 'rests');
    t.after(() => stream.close());
    const { timeline, flushed } = await stream.identify();
    const followed = stream.follow('rests', flushed, timeline, {
      data() {},
      heartbeat() {},
      asked() {},
      async usedUp() {},
    });
    followed.catch(() => {});
    stream.setStreamRest(FOREVER);
    await until('it rests', async () => {
      await write();
      const { rows } = await onStandby.query(
        `select from pg_replication_slots, pg_stat_replication
           where slot_name = 'rests' and not active and application_name = 'rests' and state = 'startup' and sent_lsn > '0/0'`,
      );
      return rows.length === 1;
    });
    await onStandby.query('select pg_promote()');
    stream.setStreamRest(0);
    await assert.rejects(followed, { code: 'DATASTORE_UNAVAILABLE', message: /a new timeline began/ });
  });
});

function uriOf({ socketDir, port }: ManagedServer['place'], user: string): string {
  return `postgresql:///postgres?host=${socketDir}&port=${port}&user=${user}`;
}

function openFiles(pid: number): number {
  try {
    return readdirSync(`/proc/${pid}/fd`).length;
  } catch {
    // It ended meanwhile.
    return 0;
  }
}
