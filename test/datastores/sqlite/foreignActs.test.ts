/** What other programs may do to a captured database: checkpoints in a loop, VACUUM, other journal modes, ATTACH. */
import assert from 'node:assert/strict';
import { rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { segmentHead } from '../../../src/datastores/sqlite/replay/storedSegment.js';
import { stored } from '../../support/directoryArchive.js';
import {
  assertBeginsAsItIs,
  assertEndsWith,
  assertHonestGap,
  contentsOf,
  momentBetween,
  onlyTheFirst,
  stretchesOf,
} from '../../support/honestGap.js';
import { scratchDir } from '../../support/scratch.js';
import { type SqliteBench, sqliteBench } from '../../support/sqliteBench.js';
import { assertNewestIsExact, attached, committed, holding } from '../../support/sqliteHistory.js';
import { ask, start, until } from '../../support/sqlitePrograms.js';

/** How many lives of the write-ahead log the archive has transactions of. */
async function livesArchived({ archive }: SqliteBench): Promise<number> {
  const salts = new Set<string>();
  for (const segment of archive.segments) {
    const { epochs } = await segmentHead(stored(segment), segment.stretch);
    for (const { salt1, salt2 } of epochs) salts.add(`${salt1} ${salt2}`);
  }
  return salts.size;
}

for (const endings of [['-shm'], ['-shm', '-wal']]) {
  test(`its ${endings.join(' and empty ')} removed while no program has it open: nothing is covered that is not captured`, async (t) => {
    const dir = await scratchDir(t);
    const bench = await sqliteBench(t, dir);
    const capture = await bench.capture();
    await bench.backup(capture, 'base');
    if (!endings.includes('-wal')) await committed(t, bench, dir, 'a');
    await capture.fence();
    const [before] = await contentsOf(t, bench.file);
    for (const ending of endings) await rm(`${bench.file}${ending}`);
    const removed = await momentBetween();
    await committed(t, bench, dir, 'b');
    await until('the capture starts anew', () => bench.archive.stretches.length === 2);
    await attached(capture);
    assertHonestGap(bench, removed);
    await assertEndsWith(t, bench, before);
    await assertBeginsAsItIs(t, bench, await bench.backup(capture, 'base-2'));
    await committed(t, bench, dir, 'c');
    await assertNewestIsExact(t, bench, capture, 'newest');
    await capture.stop();
  });
}

for (const kind of ['RESTART', 'TRUNCATE']) {
  test(`${kind} checkpoints in a loop while two programs write`, async (t) => {
    const dir = await scratchDir(t);
    const bench = await sqliteBench(t, dir, {
      capture: { restartBytes: 100_000, idleRestartBytes: 1, sealAgeMs: 200 },
    });
    const capture = await bench.capture();
    await bench.backup(capture, 'base');
    const checkpoints = ['0', '20'].map((timeout) =>
      start(t, 'repeat', bench.file, `PRAGMA wal_checkpoint(${kind})`, timeout),
    );
    await Promise.all([committed(t, bench, dir, 'a', 150), committed(t, bench, dir, 'b', 150)]);
    // While somebody writes, none may ever get its turn; at rest one does, and the next writer restarts the log.
    await until('a foreign checkpoint succeeds', async () => {
      const [[row] = []] = await ask<{ busy: number }[][]>(t, 'run', bench.file, `PRAGMA wal_checkpoint(${kind})`);
      return row?.busy === 0;
    });
    await committed(t, bench, dir, 'c', 20);
    let done = 0;
    for (const { child, done: printed } of checkpoints) {
      child.stdin?.end();
      done += Number(await printed);
    }
    await assertNewestIsExact(t, bench, capture, 'newest');
    assert.deepEqual(stretchesOf(bench), onlyTheFirst);
    const lives = await livesArchived(bench);
    assert.ok(lives > 1, 'the log was never restarted');
    t.diagnostic(`${done} foreign checkpoints, ${lives} lives of the log`);
    await capture.stop();
  });
}

test('VACUUM is one transaction: the database is whole before and after it, and small after it', async (t) => {
  const dir = await scratchDir(t);
  const bench = await sqliteBench(t, dir);
  const { archive, datastore, file } = bench;
  const capture = await bench.capture();
  await bench.backup(capture, 'base');
  await committed(t, bench, dir, 'a', 60);
  await ask(t, 'run', file, 'DELETE FROM data WHERE id % 4 > 0');
  const before = await capture.fence();
  await ask(t, 'run', file, 'VACUUM');
  const after = await capture.fence();
  assert.equal(after.position.ordinal, before.position.ordinal + 1);
  const sizes: number[] = [];
  for (const [name, { position }] of Object.entries({ before, after })) {
    const cut = await archive.locate(datastore, { position }, position.stretch);
    const base = archive.baseFor(cut);
    assert.ok(base);
    const copy = path.join(await archive.recover(datastore, cut, base, name), 'database.db');
    const [source, recovered] = await ask<{ hash: string; check: string }[]>(t, 'content', file, copy);
    assert.equal(recovered?.check, 'ok');
    assert.equal(recovered.hash, source?.hash);
    sizes.push((await stat(copy)).size);
  }
  assert.ok((sizes[1] ?? 0) < (sizes[0] ?? 0), `sizes ${sizes}`);
  // A backup that is taken of the vacuumed database starts with what the VACUUM left.
  await bench.backup(capture, 'base-2');
  await committed(t, bench, dir, 'b', 10);
  await assertNewestIsExact(t, bench, capture, 'newest');
  assert.deepEqual(stretchesOf(bench), onlyTheFirst);
  await capture.stop();
});

test('VACUUM that changes the page size is refused by SQLite in WAL mode, and captured as what it then is', async (t) => {
  const dir = await scratchDir(t);
  const bench = await sqliteBench(t, dir);
  const capture = await bench.capture();
  await bench.backup(capture, 'base');
  await committed(t, bench, dir, 'a', 10);
  await ask(t, 'run', bench.file, 'PRAGMA page_size=8192', 'VACUUM');
  const [[size] = []] = await ask<{ page_size: number }[][]>(t, 'run', bench.file, 'PRAGMA page_size');
  assert.equal(size?.page_size, 4096);
  await assertNewestIsExact(t, bench, capture, 'newest');
  await capture.stop();
});

const awayFromWal: { what: string; act(t: TestContext, bench: SqliteBench): Promise<void> }[] = [
  {
    what: 'to DELETE and back',
    act: (t, { file }) =>
      ask(
        t,
        'run',
        file,
        'PRAGMA journal_mode=DELETE',
        "INSERT INTO data (text) VALUES ('unseen')",
        'PRAGMA journal_mode=WAL',
        "INSERT INTO data (text) VALUES ('seen again')",
      ),
  },
  {
    what: 'to DELETE, to another page size, and back',
    act: (t, { file }) =>
      ask(
        t,
        'run',
        file,
        'PRAGMA journal_mode=DELETE',
        'PRAGMA page_size=1024',
        'VACUUM',
        'PRAGMA journal_mode=WAL',
        "INSERT INTO data (text) VALUES ('seen again')",
      ),
  },
];

for (const { what, act } of awayFromWal) {
  test(`the journal mode was changed during an outage ${what}: a new generation`, async (t) => {
    const dir = await scratchDir(t);
    const bench = await sqliteBench(t, dir);
    let capture = await bench.capture();
    await bench.backup(capture, 'base');
    await committed(t, bench, dir, 'a', 20);
    const [before] = await contentsOf(t, bench.file);
    await capture.stop();
    const stopped = await momentBetween();
    await act(t, bench);
    capture = await bench.capture(bench.archive.resumePoint());
    await attached(capture);
    assertHonestGap(bench, stopped);
    await assertEndsWith(t, bench, before);
    await assertBeginsAsItIs(t, bench, await bench.backup(capture, 'base-2'));
    await committed(t, bench, dir, 'b', 20);
    await assertNewestIsExact(t, bench, capture, 'newest');
    await capture.stop();
  });
}

test('a database that was left in another journal mode is told as that, and captured again when it is back', async (t) => {
  const dir = await scratchDir(t);
  const bench = await sqliteBench(t, dir);
  let capture = await bench.capture();
  await bench.backup(capture, 'base');
  const [before] = await contentsOf(t, bench.file);
  await capture.stop();
  const stopped = await momentBetween();
  await ask(t, 'run', bench.file, 'PRAGMA journal_mode=DELETE', "INSERT INTO data (text) VALUES ('unseen')");
  capture = await bench.capture(bench.archive.resumePoint());
  assert.equal(capture.health().healthy, false);
  assert.match(capture.health().message ?? '', /journal mode delete.*/i);
  await assert.rejects(capture.fence(), { code: 'DATASTORE_UNAVAILABLE' });
  assert.deepEqual(stretchesOf(bench), onlyTheFirst);
  await ask(t, 'run', bench.file, 'PRAGMA journal_mode=WAL');
  await attached(capture);
  await until('it is healthy', () => capture.health().healthy);
  assertHonestGap(bench, stopped);
  await assertEndsWith(t, bench, before);
  await assertBeginsAsItIs(t, bench, await bench.backup(capture, 'base-2'));
  await committed(t, bench, dir, 'a', 10);
  await assertNewestIsExact(t, bench, capture, 'newest');
  await capture.stop();
});

test('a running capture whose file is removed waits for one to be there, and starts a new generation with it', async (t) => {
  const dir = await scratchDir(t);
  const bench = await sqliteBench(t, dir, { capture: { pollMs: 50 } });
  const { file } = bench;
  const capture = await bench.capture();
  await bench.backup(capture, 'base');
  await committed(t, bench, dir, 'a', 10);
  const { position } = await capture.fence();
  const [before] = await contentsOf(t, file);
  for (const ending of ['', '-wal', '-shm']) await rm(`${file}${ending}`, { force: true });
  const removed = await momentBetween();
  await until('it is told', () => !capture.health().healthy);
  await assert.rejects(capture.fence(), { code: 'DATASTORE_UNAVAILABLE' });
  // Nothing here makes an empty database in the place of the one that is gone.
  await assert.rejects(stat(file), { code: 'ENOENT' });
  await ask(t, 'setup', file, 'PRAGMA journal_mode=WAL');
  await attached(capture);
  await until('it is healthy', () => capture.health().healthy);
  assertHonestGap(bench, removed);
  assert.equal(bench.archive.ofStretch('1').at(-1)?.last, position.ordinal);
  await assertEndsWith(t, bench, before);
  await assertBeginsAsItIs(t, bench, await bench.backup(capture, 'base-2'));
  await committed(t, bench, dir, 'b', 10);
  await assertNewestIsExact(t, bench, capture, 'newest');
  await capture.stop();
});

test('transactions over two attached databases: each file is exact by itself', async (t) => {
  const dirs = [await scratchDir(t), await scratchDir(t)];
  const benches = [await sqliteBench(t, dirs[0] ?? ''), await sqliteBench(t, dirs[1] ?? '')];
  const [one, two] = benches as [SqliteBench, SqliteBench];
  const captures = await Promise.all(benches.map((bench) => bench.capture()));
  for (const [i, bench] of benches.entries()) await bench.backup(captures[i] as (typeof captures)[0], 'base');
  const both = (n: number) => [
    'BEGIN',
    `INSERT INTO ledger VALUES (${n}, 0, 0)`,
    `INSERT INTO other.ledger VALUES (${n}, 0, 0)`,
    'COMMIT',
  ];
  const transactions = Array.from({ length: 8 }, (_, i) => both(i + 1)).flat();
  await ask(t, 'run', one.file, `ATTACH '${two.file}' AS other`, ...transactions);
  for (const [i, bench] of benches.entries()) {
    const capture = captures[i] as (typeof captures)[0];
    const { position } = await capture.fence();
    assert.equal(position.ordinal, 8, 'one transaction of this file for each of both');
    for (const ordinal of [3, 8]) {
      const asked = bench.datastore.parsePosition(`1/${ordinal}`);
      assert.ok(asked);
      const cut = await bench.archive.locate(bench.datastore, { position: asked }, '1');
      const base = bench.archive.baseFor(cut);
      assert.ok(base);
      const home = await bench.archive.recover(bench.datastore, cut, base, `at-${ordinal}`);
      const [rows] = await ask<{ n: number }[][]>(t, 'run', path.join(home, 'database.db'), 'SELECT n FROM ledger');
      assert.deepEqual(
        rows?.map(({ n }) => n),
        Array.from({ length: ordinal }, (_, k) => k + 1),
      );
    }
    await capture.stop();
  }
});

test('a transaction larger than every buffer and segment', async (t) => {
  const dir = await scratchDir(t);
  const bench = await sqliteBench(t, dir, { capture: { sealBytes: 50_000 } });
  const capture = await bench.capture();
  await bench.backup(capture, 'base');
  const reader = await holding(t, bench);
  await ask(
    t,
    'run',
    bench.file,
    'BEGIN',
    'UPDATE seq SET n = -1',
    ...Array.from({ length: 6 }, () => 'INSERT INTO data (blob) VALUES (randomblob(4000000))'),
    'UPDATE seq SET n = -2',
    'COMMIT',
  );
  await reader.release();
  await committed(t, bench, dir, 'a', 5);
  await assertNewestIsExact(t, bench, capture, 'newest');
  assert.ok(bench.archive.segments.some(({ plainBytes }) => plainBytes > 24_000_000));
  await capture.stop();
});
