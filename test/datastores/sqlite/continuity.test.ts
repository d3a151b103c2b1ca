/** A capture that is interrupted in every way: it goes on without a gap where the log allows it, and says so where not. */
import assert from 'node:assert/strict';
import { statSync } from 'node:fs';
import { readdir, readFile, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { isSettled, markOf } from '../../../src/datastores/sqlite/source/mainFile.js';
import { Fault } from '../../../src/errors.js';
import { instant } from '../../../src/instant.js';
import { scratchDir } from '../../support/scratch.js';
import { type SqliteBench, sqliteBench } from '../../support/sqliteBench.js';
import { TestDatabase } from '../../support/sqliteDatabase.js';
import { assertNewestIsExact, attached, committed, holding } from '../../support/sqliteHistory.js';
import { ask, until } from '../../support/sqlitePrograms.js';

test('a killed engine process costs nothing while the log goes on', async (t) => {
  const dir = await scratchDir(t);
  const bench = await sqliteBench(t, dir);
  const capture = await bench.capture();
  await bench.backup(capture, 'base');
  const reader = await holding(t, bench);
  for (let i = 0; i < 3; i++) {
    // Few enough that no writer checkpoints while nobody watches: that would be a gap.
    const writer = committed(t, bench, dir, `a${i}`, 25);
    const { pid } = bench.datastore.engine;
    assert.ok(pid);
    process.kill(pid, 'SIGKILL');
    await writer;
    await attached(capture);
  }
  assert.deepEqual(
    bench.archive.stretches.map(({ stretch }) => stretch),
    ['1'],
  );
  await reader.release();
  await assertNewestIsExact(t, bench, capture, 'after');
  await capture.stop();
});

test('captured log that was not archived when everything was killed is archived later', async (t) => {
  const dir = await scratchDir(t);
  const bench = await sqliteBench(t, dir, { capture: { sealAgeMs: 3_600_000 } });
  const capture = await bench.capture();
  await bench.backup(capture, 'base');
  bench.archive.refuseWith = new Fault('STORAGE_FULL', 'The storage is full');
  await committed(t, bench, dir, 'a');
  await assert.rejects(capture.fence(), { code: 'STORAGE_FULL' });
  assert.equal(capture.health().healthy, false);
  assert.match(capture.health().message ?? '', /storage is full/i);
  // More than the refused segment: this one is still open when the process is killed.
  await committed(t, bench, dir, 'b');
  const spool = path.join(bench.instance.home, 'log-spool');
  await until(
    'the open segment is on disk',
    async () => (await readdir(spool)).filter((n) => n.endsWith('.index')).length === 2,
  );
  const { pid } = bench.datastore.engine;
  assert.ok(pid);
  process.kill(pid, 'SIGKILL');
  bench.archive.refuseWith = null;
  await attached(capture);
  await until('the capture is healthy', () => capture.health().healthy);
  assert.deepEqual(
    bench.archive.stretches.map(({ reason }) => reason),
    ['The capture of this database began.'],
  );
  await assertNewestIsExact(t, bench, capture, 'after');
  await capture.stop();
  assert.deepEqual(
    (await readdir(spool)).filter((name) => !['rest.json', 'main-file.json'].includes(name)),
    [],
  );
});

test('a capture that was stopped goes on in the same generation when nothing was lost', async (t) => {
  const dir = await scratchDir(t);
  const bench = await sqliteBench(t, dir);
  let capture = await bench.capture();
  await bench.backup(capture, 'base');
  // Stopped before anything was ever captured, after transactions, and with transactions while it was away.
  for (const [name, away] of [
    ['a', false],
    ['b', true],
    ['c', true],
  ] as const) {
    await capture.stop();
    const reader = away ? await holding(t, bench) : null;
    if (away) await ask(t, 'run', bench.file, `PRAGMA wal_autocheckpoint=0`, `UPDATE data SET text = '${name}'`);
    capture = await bench.capture(bench.archive.resumePoint());
    await reader?.release();
    await assertNewestIsExact(t, bench, capture, `after-${name}`);
    await committed(t, bench, dir, name);
    await assertNewestIsExact(t, bench, capture, `then-${name}`);
  }
  await capture.stop();
});

test('log that was lost while nobody watched starts a new generation', async (t) => {
  const dir = await scratchDir(t);
  const bench = await sqliteBench(t, dir);
  let capture = await bench.capture();
  await committed(t, bench, dir, 'a');
  await bench.backup(capture, 'base');
  await capture.stop();
  await ask(t, 'run', bench.file, `INSERT INTO data (text) VALUES ('unseen')`, 'PRAGMA wal_checkpoint(TRUNCATE)');
  capture = await bench.capture(bench.archive.resumePoint());
  await capture.fence();
  assert.deepEqual(
    bench.archive.stretches.map(({ stretch, because }) => [stretch, because]),
    [
      ['1', 'FIRST_BACKUP'],
      ['2', 'LOG_GAP'],
    ],
  );
  await bench.backup(capture, 'base-2');
  await committed(t, bench, dir, 'b');
  await assertNewestIsExact(t, bench, capture, 'after');
  await capture.stop();
});

test('an empty log that others truncate again and again is no gap', async (t) => {
  const dir = await scratchDir(t);
  const bench = await sqliteBench(t, dir, { capture: { restartBytes: 1 } });
  const capture = await bench.capture();
  await bench.backup(capture, 'base');
  await committed(t, bench, dir, 'a');
  await capture.fence();
  const truncate = 'PRAGMA wal_checkpoint(TRUNCATE)';
  await until('the log can be truncated', async () => {
    const [[row] = []] = await ask<{ busy: number; log: number }[][]>(t, 'run', bench.file, truncate);
    return row?.busy === 0 && row.log === 0;
  });
  for (let i = 0; i < 3; i++) await ask(t, 'run', bench.file, truncate, truncate, truncate);
  await committed(t, bench, dir, 'b');
  await assertNewestIsExact(t, bench, capture, 'after');
  assert.equal(bench.archive.stretches.length, 1);
  await capture.stop();
});

test('a database file that was replaced starts a new generation', async (t) => {
  const dir = await scratchDir(t);
  const bench = await sqliteBench(t, dir, { capture: { pollMs: 50 } });
  const capture = await bench.capture();
  await bench.backup(capture, 'base');
  const other = path.join(dir, 'other.db');
  await ask(t, 'setup', other, 'PRAGMA journal_mode=WAL');
  await rename(other, bench.file);
  for (const ending of ['-wal', '-shm']) {
    // The capture may have noticed by now, let go, and taken these with it.
    await rename(`${bench.file}${ending}`, `${other}${ending}`).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
    });
  }
  await until('a new generation begins', () => bench.archive.stretches.length === 2);
  await attached(capture);
  await bench.backup(capture, 'base-2');
  await committed(t, bench, dir, 'a');
  await assertNewestIsExact(t, bench, capture, 'after');
  await capture.stop();
});

test('captured log that the disk spoils before it is archived ends the generation', async (t) => {
  const dir = await scratchDir(t);
  const bench = await sqliteBench(t, dir, { capture: { sealAgeMs: 3_600_000 } });
  const capture = await bench.capture();
  await bench.backup(capture, 'base');
  await committed(t, bench, dir, 'a');
  const spool = path.join(bench.instance.home, 'log-spool');
  let spoilt = '';
  await until('there are blocks of captured log', async () => {
    spoilt = path.join(spool, (await readdir(spool)).find((each) => each.endsWith('.blocks')) ?? '');
    return spoilt.endsWith('.blocks') && statSync(spoilt).size > 0;
  });
  await until(
    'the writer is captured whole',
    async () => (await ask<{ n: number }[]>(t, 'content', bench.file)).length === 1,
  );
  await writeFile(spoilt, Buffer.from([0xff]), { flag: 'r+' });
  await assert.rejects(capture.fence(), { code: 'DATASTORE_UNAVAILABLE' });
  await until('a new generation begins', () => bench.archive.stretches.length === 2);
  assert.match(bench.archive.stretches[1]?.reason ?? '', /damaged/);
  assert.equal(bench.archive.segments.length, 0);
  await attached(capture);
  await bench.backup(capture, 'base-2');
  await assertNewestIsExact(t, bench, capture, 'after');
  await capture.stop();
});

test('nobody can take the database out of WAL mode under a capture', async (t) => {
  const dir = await scratchDir(t);
  const bench = await sqliteBench(t, dir);
  const capture = await bench.capture();
  await assert.rejects(
    ask(t, 'run', bench.file, 'PRAGMA busy_timeout=0', 'PRAGMA journal_mode=DELETE'),
    /database is locked/,
  );
  await capture.stop();
});

test('a time that nobody watched is told, and every transaction in it stays reachable by position', async (t) => {
  const dir = await scratchDir(t);
  const bench = await sqliteBench(t, dir);
  let capture = await bench.capture();
  await bench.backup(capture, 'base');
  await committed(t, bench, dir, 'a', 5);
  await capture.fence();
  await capture.stop();
  const reader = await holding(t, bench);
  await committed(t, bench, dir, 'b', 5);
  const resume = bench.archive.resumePoint();
  assert.ok(resume);
  // As after an hour's outage: the archive's end is that much older.
  const longAgo = instant(resume.coveredTo - 3_600_000_000);
  capture = await bench.capture({
    ...resume,
    coveredTo: longAgo,
    continuation: { ...resume.continuation, axis: longAgo },
  });
  await capture.fence();
  assert.equal(bench.archive.stretches.length, 1);
  assert.equal(bench.archive.holes.length, 1);
  assert.equal(bench.archive.holes[0]?.from, longAgo);
  await reader.release();
  await assertNewestIsExact(t, bench, capture, 'after');
  await capture.stop();
});

/** What the note of rest would say of the file if its time of change had been lost with the machine's power. */
async function forgetChange(bench: SqliteBench): Promise<void> {
  const note = path.join(bench.instance.home, 'log-spool', 'rest.json');
  const rest = JSON.parse(await readFile(note, 'utf8'));
  assert.ok(typeof rest.boot === 'string');
  const file = markOf(bench.file);
  await writeFile(note, JSON.stringify({ ...rest, boot: 'another run of the machine', file }));
}

for (const [what, sql, stretches] of [
  ['the log goes on', ['PRAGMA wal_autocheckpoint=0', 'UPDATE data SET owner = owner + 1'], ['1']],
  [
    'the log was copied and restarted',
    ['UPDATE data SET owner = owner + 1', 'PRAGMA wal_checkpoint', 'UPDATE data SET owner = owner + 1'],
    ['1', '2'],
  ],
  [
    'the log was copied and emptied',
    ['UPDATE data SET owner = owner + 1', 'PRAGMA wal_checkpoint(TRUNCATE)'],
    ['1', '2'],
  ],
] as const) {
  test(`after a loss of power that took the file's time of change: ${what}`, async (t) => {
    const dir = await scratchDir(t);
    const bench = await sqliteBench(t, dir);
    let capture = await bench.capture();
    await bench.backup(capture, 'base');
    await committed(t, bench, dir, 'a');
    await capture.stop();
    const application = await TestDatabase.open(bench.file);
    t.after(() => application.close());
    for (const each of sql) await application.run(each);
    // Times of change are as coarse as a tick of the kernel.
    await until('the file is as it was for a while', () => isSettled(markOf(bench.file)));
    await forgetChange(bench);
    capture = await bench.capture(bench.archive.resumePoint());
    await capture.fence();
    assert.deepEqual(
      bench.archive.stretches.map(({ stretch }) => stretch),
      stretches,
    );
    await capture.stop();
  });
}

test('log that was damaged before it could be archived is a gap also where the database could not be attached then', async (t) => {
  const dir = await scratchDir(t);
  const bench = await sqliteBench(t, dir);
  let capture = await bench.capture();
  await bench.backup(capture, 'base');
  bench.archive.refuseWith = new Fault('STORAGE_FULL', 'The storage is full');
  await committed(t, bench, dir, 'a');
  await capture.stop();
  bench.archive.refuseWith = null;
  const spool = path.join(bench.instance.home, 'log-spool');
  const blocks = (await readdir(spool)).filter((name) => name.endsWith('.blocks'));
  assert.ok(blocks.length > 0);
  for (const name of blocks) {
    const { size } = statSync(path.join(spool, name));
    await writeFile(path.join(spool, name), Buffer.alloc(size));
  }
  await rename(bench.file, `${bench.file}.away`);
  capture = await bench.capture(bench.archive.resumePoint());
  // The call ends with the first attempt; what was left in the spool comes before it.
  await until('the damage is found', async () => (await readdir(spool)).every((name) => !name.endsWith('.blocks')));
  await rename(`${bench.file}.away`, bench.file);
  await attached(capture);
  await committed(t, bench, dir, 'b');
  await capture.fence();
  assert.deepEqual(
    bench.archive.stretches.map(({ stretch, because }) => [stretch, because]),
    [
      ['1', 'FIRST_BACKUP'],
      ['2', 'LOG_GAP'],
    ],
  );
  await capture.stop();
});
