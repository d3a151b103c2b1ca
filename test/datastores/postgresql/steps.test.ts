/** A recovery's steps: run twice, interrupted, cancelled, undone, and fed with damaged or missing log. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { mkdir, readdir, readFile, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { RecoveryContext, StoredBackup, StoredSegment } from '../../../src/datastores/datastore.js';
import { resolveRunAs } from '../../../src/datastores/postgresql/server/processes.js';
import { boundLog } from '../../../src/datastores/postgresql/server/server.js';
import { Fault, type JsonObject } from '../../../src/errors.js';
import type { Cut } from '../../../src/model.js';
import { tinyDisk } from '../../storage/tinyDisk.js';
import { PostgresRig, sourceNow, withoutPostgresql } from '../../support/postgresql/postgresRig.js';
import { poured } from '../../support/poured.js';

const disk = tinyDisk();

describe('PostgreSQL: the steps of a recovery', { skip: withoutPostgresql, timeout: 180_000 }, () => {
  let rig: PostgresRig;
  let base: StoredBackup;
  let cut: Cut;

  before(async () => {
    rig = await PostgresRig.alone();
    const client = await rig.connect();
    const capture = await rig.capture();
    base = await rig.backup(capture);
    await client.query('create table entry (id int, filler text)');
    // Five files of log, in more segments than that.
    for (let i = 0; i < 5; i++) {
      await client.query('insert into entry select i, repeat(md5(i::text), 30) from generate_series(1, 8000) i');
      await capture.fence();
    }
    const at = await sourceNow(client);
    await client.query('truncate entry');
    await capture.fence();
    cut = await rig.locate(at, base.facts.replayAfter.stretch);
    await capture.stop();
  });

  after(async () => {
    await rig?.close();
  });

  /** Every PostgreSQL process whose arguments name a directory. */
  function serversIn(directory: string): string[] {
    return readdirSync('/proc').filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(directory);
      } catch {
        return false;
      }
    });
  }

  /** The segment with other bytes. */
  function reading(segment: StoredSegment, read: () => AsyncIterable<Buffer>): StoredSegment {
    return { ...segment, read, pour: (sink) => poured(read(), sink) };
  }

  /** What is below a directory: whose it is, its mode, and a hash of what is in it. */
  function filesBelow(directory: string): Record<string, string> {
    const found: Record<string, string> = {};
    const owner = resolveRunAs(undefined)?.uid ?? process.getuid?.();
    for (const entry of readdirSync(directory, { recursive: true, withFileTypes: true })) {
      const file = path.join(entry.parentPath, entry.name);
      const { uid, mode } = statSync(file);
      assert.equal(uid, owner, file);
      assert.equal(mode & 0o777, entry.isFile() ? 0o600 : 0o700, file);
      const hash = entry.isFile() ? createHash('md5').update(readFileSync(file)).digest('hex') : '';
      found[path.relative(directory, file)] = hash;
    }
    return found;
  }

  async function replay(
    change: (context: RecoveryContext, chosen: StoredSegment[]) => StoredSegment[],
  ): Promise<Fault> {
    const context = await rig.context(base, cut);
    const chosen: StoredSegment[] = [];
    for await (const segment of context.segments('oldest-first')) chosen.push(segment);
    assert.ok(chosen.length > 4, `${chosen.length} segments`);
    const changed = change(context, chosen);
    context.segments = async function* (order) {
      yield* order === 'oldest-first' ? changed : [...changed].reverse();
    };
    await rig.driver.recovery.restoreBase(context);
    try {
      await rig.driver.recovery.replayLog(context);
    } catch (error) {
      assert.deepEqual(serversIn(context.scratch), [], 'nothing runs on');
      await assert.rejects(rig.driver.recovery.verify(context), { code: 'RECOVERY_INCOMPLETE' });
      return Fault.from(error);
    }
    return assert.fail('a damaged log was replayed');
  }

  test('a hole in the log', async () => {
    const fault = await replay((_, chosen) => chosen.filter((_segment, i) => i !== 2));
    assert.equal(fault.code, 'RECOVERY_INCOMPLETE');
    assert.match(fault.message, /is missing/);
  });

  test('a log without its end', async () => {
    const fault = await replay((_, chosen) => chosen.slice(0, -1));
    assert.equal(fault.code, 'RECOVERY_INCOMPLETE');
  });

  test('a segment with a flipped byte, cut short, or exchanged', async () => {
    const changed = (segment: StoredSegment, change: (bytes: Buffer) => Buffer): StoredSegment =>
      reading(segment, async function* () {
        const chunks: Buffer[] = [];
        for await (const chunk of segment.read()) chunks.push(chunk);
        yield change(Buffer.concat(chunks));
      });
    let flips = 0;
    const flipped = await replay((_, chosen) =>
      chosen.map((segment, i) =>
        // In the middle, and in every reading of it.
        i !== chosen.length - 3
          ? segment
          : changed(segment, (bytes) => {
              // Inside a row, which nothing but PostgreSQL's own checksum looks at: md5('1').
              const at = bytes.indexOf('c4ca4238a0b923820dcc509a6f75849b');
              bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at);
              flips++;
              return bytes;
            }),
      ),
    );
    assert.ok(flips > 0);
    assert.equal(flipped.code, 'RECOVERY_INCOMPLETE');
    const short = await replay((_, chosen) =>
      chosen.map((segment, i) => (i === 1 ? changed(segment, (bytes) => bytes.subarray(0, -512)) : segment)),
    );
    assert.equal(short.code, 'LOG_CORRUPT');
    const exchanged = await replay((_, chosen) =>
      chosen.map((segment, i) => (i === 1 ? reading(segment, () => (chosen[2] as StoredSegment).read()) : segment)),
    );
    assert.equal(exchanged.code, 'LOG_CORRUPT');
  });

  test('storage that fails in the middle stops the server and is told as it is', async () => {
    const fault = await replay((_, chosen) =>
      chosen.map((segment, i) =>
        reading(segment, async function* () {
          if (i === 3) throw new Fault('STORAGE_UNAVAILABLE', 'The storage does not answer');
          yield* segment.read();
        }),
      ),
    );
    assert.equal(fault.code, 'STORAGE_UNAVAILABLE');
  });

  test('every step twice, and the replay after it was interrupted', async () => {
    const context = await rig.context(base, cut);
    const { recovery } = rig.driver;
    await recovery.restoreBase(context);
    await recovery.restoreBase(context);
    // Interrupted once the server has begun to replay.
    const interrupt = new AbortController();
    const first = { ...context, signal: interrupt.signal };
    first.segments = async function* (order) {
      let given = 0;
      for await (const segment of context.segments(order)) {
        if (order === 'oldest-first' && given++ === 3) interrupt.abort(new Error('stopped by the test'));
        yield segment;
      }
    };
    await assert.rejects(recovery.replayLog(first), /stopped by the test/);
    assert.deepEqual(serversIn(context.scratch), []);
    assert.deepEqual(await recovery.replayLog(context), cut.position);
    assert.deepEqual(await recovery.replayLog(context), cut.position);
    assert.deepEqual(await recovery.verify(context), cut);
    assert.deepEqual(await recovery.verify(context), cut);
    const facts = await recovery.activate(context);
    assert.deepEqual(await recovery.activate(context), facts);
    assert.equal(serversIn(path.join(context.target.home, 'data')).length > 0, true);
    await recovery.discard({ ...context.target, scratch: context.scratch });
    await recovery.discard({ ...context.target, scratch: context.scratch });
    assert.deepEqual(serversIn(context.target.home), []);
    assert.deepEqual(serversIn(context.scratch), []);
  });

  test('a backup that was unpacked before the machine ended suddenly is unpacked again', async () => {
    const context = await rig.context(base, cut);
    const { recovery } = rig.driver;
    await recovery.restoreBase(context);
    // What a power cut may leave: a note of another boot, and files that never reached the disk.
    await writeFile(path.join(context.scratch, 'restored'), 'another boot');
    await truncate(path.join(context.scratch, 'data/global/pg_control'), 0);
    assert.deepEqual(await recovery.replayLog(context), cut.position);
    assert.deepEqual(await recovery.verify(context), cut);
    await recovery.discard({ ...context.target, scratch: context.scratch });
  });

  test('a disk that is too small is told as full, for the backup and for the log', { skip: disk.skip }, async (t) => {
    for (const [size, room] of [
      ['8m', /room for the backup/],
      // Enough for the backup and not for what follows.
      [`${Math.ceil(base.facts.sizeBytes / 1e6) + 12}m`, /room for the (log|replay)/],
    ] as const) {
      const context = await rig.context(base, cut);
      context.scratch = await disk.mount(t, size);
      const fault = await rig.driver.recovery
        .restoreBase(context)
        .then(() => rig.driver.recovery.replayLog(context))
        .then(
          () => assert.fail(`${size} were enough`),
          (error: unknown) => Fault.from(error),
        );
      assert.equal(fault.code, 'STORAGE_FULL', fault.message);
      assert.match(fault.message, room);
      assert.deepEqual(serversIn(context.scratch), [], 'nothing runs on');
    }
  });

  test('a backup of an older release, which does not tell where its parts start, is unpacked to the same', async () => {
    const { starts, ...older } = base.facts.state as { starts: { starts: unknown[] } };
    assert.ok(base.parts.length > 1);
    assert.equal(starts.starts.length, base.parts.length - 1);
    const oldest = { ...older, version: 1, archives: undefined };
    const trees: Record<string, string>[] = [];
    for (const state of [base.facts.state, older, oldest]) {
      const context = await rig.context({ ...base, facts: { ...base.facts, state: state as JsonObject } }, cut);
      await rig.driver.recovery.restoreBase(context);
      trees.push(filesBelow(path.join(context.scratch, 'data')));
    }
    assert.ok(Object.keys(trees[0] ?? {}).length > 900);
    assert.deepEqual(trees[1], trees[0]);
    assert.deepEqual(trees[2], trees[0]);
  });

  test('a backup that is damaged or has a hole', async () => {
    const context = await rig.context(base, cut);
    const holed = { ...context, base: { ...base, parts: base.parts.slice(1) } };
    await assert.rejects(rig.driver.recovery.restoreBase(holed), { code: 'BACKUP_CORRUPT' });
    const cutShort = { ...context, base: { ...base, parts: base.parts.slice(0, 1) } };
    await assert.rejects(rig.driver.recovery.restoreBase(cutShort), { code: 'BACKUP_CORRUPT' });
  });

  test('a managed server is provisioned, stopped, started and destroyed', async () => {
    const home = path.join(rig.directory, 'managed');
    await mkdir(home);
    const facts = await rig.driver.provision({ id: 'managed', home, datastoreVersion: '15' });
    const instance = {
      id: 'managed',
      tenantId: 'tenant',
      origin: 'CREATED' as const,
      connectionUri: facts.connectionUri,
      home,
      state: facts.state,
    };
    const client = await rig.connect(facts.connectionUri);
    // Its log is bounded while it is written.
    const log = path.join(home, 'server.log');
    await client.query(`do $$ begin for i in 1..200 loop raise log 'line %', i; end loop; end $$`);
    await boundLog(log, 1_000_000);
    assert.match(await readFile(log, 'utf8'), /line 200/);
    await boundLog(log, 1_000);
    assert.equal(await readFile(log, 'utf8'), '');
    assert.match(await readFile(`${log}.1`, 'utf8'), /line 200/);
    await client.query(`do $$ begin raise log 'afterwards'; end $$`);
    const after = await readFile(log, 'utf8');
    assert.ok(after.includes('afterwards') && after.length < 1_000, after.slice(0, 200));
    await client.query('create table kept as select 1 as one');
    await client.end();
    await rig.driver.stop(instance);
    assert.deepEqual(serversIn(home), []);
    await rig.driver.start(instance);
    const again = await rig.connect(facts.connectionUri);
    assert.equal((await again.query('select one from kept')).rows[0].one, 1);
    await again.end();
    await rig.driver.destroy(instance);
    await rig.driver.destroy(instance);
    assert.deepEqual([serversIn(home), await readdir(home)], [[], []]);
    assert.equal(existsSync(home), true);
  });
});
