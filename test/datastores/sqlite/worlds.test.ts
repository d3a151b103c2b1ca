/** Worlds a capture lives through: others' locks and readers, checkpoints of every kind, sizes beyond any buffer. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { instant } from '../../../src/instant.js';
import { assertEndsAsWritten, assertHonestGap, momentBetween, recoveredTo } from '../../support/honestGap.js';
import { scratchDir } from '../../support/scratch.js';
import { sqliteBench } from '../../support/sqliteBench.js';
import { assertNewestIsExact, attached, committed, holding } from '../../support/sqliteHistory.js';
import { ask, start, until } from '../../support/sqlitePrograms.js';

test('killed while the application writes and truncates the log: both sides of the gap are exact', async (t) => {
  const dir = await scratchDir(t);
  const bench = await sqliteBench(t, dir, { capture: { sealAgeMs: 50 } });
  const { archive, datastore, file } = bench;
  const capture = await bench.capture();
  await bench.backup(capture, 'base');
  const log = path.join(dir, 'writer.log');
  const writer = start(t, 'write', file, log, '900', '1000000', '11');
  await until('some of it is archived', () => archive.segments.length > 3);
  let killed = await momentBetween();
  await until(
    'a new generation begins',
    async () => {
      const { pid } = datastore.engine;
      if (pid) {
        process.kill(pid, 'SIGKILL');
        killed = await momentBetween();
      }
      // Nobody protects the log now; it may be that nothing that was not archived is lost yet.
      await ask(t, 'run', file, 'PRAGMA busy_timeout=100', 'PRAGMA wal_checkpoint(TRUNCATE)').catch(() => {});
      await attached(capture);
      return archive.stretches.length > 1;
    },
    120,
  );
  const second = await bench.backup(capture, 'base-2');
  const closed = once(writer.child, 'close');
  writer.child.kill('SIGKILL');
  await closed;
  await assertNewestIsExact(t, bench, capture, 'newest');
  assertHonestGap(bench, killed);
  assert.equal(second.facts.consistent.stretch, '2');
  assert.ok(second.facts.consistentAt >= killed);
  await assertEndsAsWritten(t, bench, dir);
  // So does any instant of the first generation's window give a prefix of what the writer committed, and the first of the second.
  const base = archive.backups[0];
  const end = archive.coverage.get('1');
  assert.ok(base && end);
  const from = base.facts.consistentAt;
  const files: string[] = [];
  for (const at of [from, instant(Math.floor((from + end) / 2))]) files.push(await recoveredTo(bench, { at }, '1'));
  files.push(await recoveredTo(bench, { at: second.facts.consistentAt }, '2'));
  const found = await ask<{ n: number; hash: string; check: string }[]>(t, 'content', ...files);
  const chosen = JSON.stringify(found.map(({ n }) => n));
  const { hashes } = await ask<{ hashes: Record<number, string> }>(t, 'replay', file, chosen, log);
  for (const { n, hash, check } of found) {
    assert.equal(check, 'ok');
    assert.equal(hash, hashes[n]);
  }
  await capture.stop();
});

test('a long reader keeps the log from restarting; fences and recoveries go on, and it restarts afterwards', async (t) => {
  const dir = await scratchDir(t);
  const bench = await sqliteBench(t, dir, { capture: { restartBytes: 20_000, idleRestartBytes: 20_000, pollMs: 50 } });
  const capture = await bench.capture();
  await bench.backup(capture, 'base');
  const reader = await holding(t, bench);
  await committed(t, bench, dir, 'a', 60);
  await assertNewestIsExact(t, bench, capture, 'held');
  await reader.release();
  await committed(t, bench, dir, 'b', 60);
  await until('all of the log is copied', async () => {
    const [[row] = []] = await ask<{ log: number; checkpointed: number }[][]>(
      t,
      'run',
      bench.file,
      'PRAGMA wal_checkpoint=NOOP',
    );
    return row?.log === row?.checkpointed;
  });
  await committed(t, bench, dir, 'c', 5);
  await assertNewestIsExact(t, bench, capture, 'released');
  assert.equal(bench.archive.stretches.length, 1);
  await capture.stop();
});

test('a database is adopted while another program holds a lock only once that ends', async (t) => {
  const dir = await scratchDir(t);
  const bench = await sqliteBench(t, dir, { pragmas: ['PRAGMA journal_mode=DELETE'] });
  const { datastore, instance, file } = bench;
  await ask(t, 'run', file, 'PRAGMA journal_mode=DELETE');
  const writer = start(t, 'lock', file);
  if (writer.child.stdout) await once(writer.child.stdout, 'data');
  await assert.rejects(datastore.adopt(instance), { code: 'INSTANCE_NOT_READY' });
  writer.child.stdin?.end();
  await writer.done;
  await datastore.adopt(instance);
  const capture = await bench.capture();
  await bench.backup(capture, 'base');
  await committed(t, bench, dir, 'a', 5);
  await assertNewestIsExact(t, bench, capture, 'newest');
  await capture.stop();
});

test('fences at the same time each cover what was committed before they were asked for', async (t) => {
  const dir = await scratchDir(t);
  const bench = await sqliteBench(t, dir, { capture: { sealAgeMs: 3_600_000, pollMs: 60_000 } });
  const capture = await bench.capture();
  await bench.backup(capture, 'base');
  let last = 0;
  for (let i = 0; i < 3; i++) {
    const early = [capture.fence(), capture.fence()];
    await ask(t, 'run', bench.file, `INSERT INTO ledger VALUES (${-1 - i}, 0, 0)`);
    const late = await Promise.all([capture.fence(), capture.fence()]);
    await Promise.all(early);
    for (const { position } of late) assert.ok(position.ordinal > last);
    last = late[0].position.ordinal;
  }
  await assertNewestIsExact(t, bench, capture, 'newest');
  await capture.stop();
});

/** What writes gigabytes belongs to `npm run test:long` alone. */
function longTest(name: string, work: (t: TestContext) => Promise<void>): void {
  if (process.env.PITR_TEST_LONG === '1') test(name, work);
}

for (const pageSize of [4096, 65536]) {
  longTest(
    `a transaction of 300 MB across 1 GiB, pages of ${pageSize}, in bounded memory, from backups on both sides`,
    async (t) => {
      const dir = await scratchDir(t);
      const bench = await sqliteBench(t, dir, {
        // Just below the page that SQLite's locks occupy, which is never written.
        pragmas: [
          `PRAGMA page_size=${pageSize}`,
          'PRAGMA journal_mode=OFF',
          'CREATE TABLE big (a)',
          'INSERT INTO big VALUES (zeroblob(900000000))',
        ],
      });
      const { archive, datastore, file } = bench;
      const capture = await bench.capture();
      const below = await bench.backup(capture, 'below');
      await ask(t, 'run', file, 'PRAGMA wal_autocheckpoint=0', 'INSERT INTO big VALUES (randomblob(300000000))');
      await capture.fence();
      const status = await readFile(`/proc/${datastore.engine.pid}/status`, 'utf8');
      const peak = Number(/VmHWM:\s*(\d+)/.exec(status)?.[1]) / 1024;
      t.diagnostic(`peak memory of the engine process ${Math.round(peak)} MiB`);
      assert.ok(peak < 200, `${peak} MiB`);
      const across = await bench.backup(capture, 'across', below);
      const above = await bench.backup(capture, 'above');
      await committed(t, bench, dir, 'a', 5);
      const { position } = await capture.fence();
      const cut = await archive.locate(datastore, { position }, position.stretch);
      await ask(t, 'run', file, 'PRAGMA wal_checkpoint(TRUNCATE)');
      for (const [name, base, ...incrementals] of [
        ['log', below],
        ['pages', below, across],
        ['full', above],
      ] as const) {
        const copy = path.join(await archive.recover(datastore, cut, base, name, incrementals), 'database.db');
        assert.equal(spawnSync('cmp', [file, copy]).status, 0, name);
        const [[check] = []] = await ask<{ integrity_check: string }[][]>(t, 'run', copy, 'PRAGMA integrity_check(1)');
        assert.equal(check?.integrity_check, 'ok', name);
      }
      await capture.stop();
    },
  );
}

longTest('a log that grows past 4 GiB, where offsets no longer fit 32 bits', async (t) => {
  const dir = await scratchDir(t);
  const bench = await sqliteBench(t, dir, {
    pragmas: ['PRAGMA journal_mode=OFF', 'CREATE TABLE big (id INTEGER PRIMARY KEY, a)'],
  });
  const { file, archive, datastore } = bench;
  const capture = await bench.capture();
  await bench.backup(capture, 'base');
  // Nobody can restart the log while this reads.
  const reader = await holding(t, bench);
  const rows = 'WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 90) SELECT i FROM c';
  const fill = `INSERT OR REPLACE INTO big SELECT i, randomblob(10000000) FROM (${rows})`;
  for (let i = 0; i < 5; i++) await ask(t, 'run', file, 'PRAGMA wal_autocheckpoint=0', fill);
  const { size } = await stat(`${file}-wal`);
  assert.ok(size > 2 ** 32, `the log has ${size} bytes`);
  const before = await capture.fence();
  await committed(t, bench, dir, 'beyond', 20);
  const after = await capture.fence();
  assert.ok(after.position.ordinal > before.position.ordinal);
  // A capture that begins again in the log's middle follows all of it once more.
  const { pid } = datastore.engine;
  assert.ok(pid);
  process.kill(pid, 'SIGKILL');
  await attached(capture);
  await committed(t, bench, dir, 'resumed', 5);
  const { position } = await capture.fence();
  assert.equal(archive.stretches.length, 1);
  const cut = await archive.locate(datastore, { position }, position.stretch);
  const base = archive.baseFor(cut);
  assert.ok(base);
  const copy = path.join(await archive.recover(datastore, cut, base, 'recovered'), 'database.db');
  await capture.stop();
  await reader.release();
  await ask(t, 'run', file, 'PRAGMA wal_checkpoint(TRUNCATE)');
  assert.equal(spawnSync('cmp', [file, copy]).status, 0);
  const [[check] = []] = await ask<{ integrity_check: string }[][]>(t, 'run', copy, 'PRAGMA integrity_check(1)');
  assert.equal(check?.integrity_check, 'ok');
});
