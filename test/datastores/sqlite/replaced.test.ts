/**
 * A source that is not the continuation of its archive: an older copy, a lost tail, a file put in its place. The capture
 * must never go on in the same generation then, because the log after it would be laid over another content.
 */
import assert from 'node:assert/strict';
import { copyFile, open, rename, rm, stat, truncate, utimes } from 'node:fs/promises';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type { LogCapture } from '../../../src/datastores/datastore.js';
import { frameBytes } from '../../../src/datastores/sqlite/formats/walFormat.js';
import type { Instant } from '../../../src/instant.js';
import {
  assertBeginsAsItIs,
  assertEndsWith,
  assertHonestGap,
  contentsOf,
  momentBetween,
} from '../../support/honestGap.js';
import { scratchDir } from '../../support/scratch.js';
import { type SqliteBench, sqliteBench } from '../../support/sqliteBench.js';
import { assertNewestIsExact, attached, committed, holding } from '../../support/sqliteHistory.js';
import { ask, start, until } from '../../support/sqlitePrograms.js';
import type { Content } from '../../support/writtenStory.js';

interface World {
  t: TestContext;
  bench: SqliteBench;
  dir: string;
  /** Copies of the file and its log: before anything, and in the middle of the log's present life. */
  first: string;
  middle: string;
  /** What the database held when the capture was stopped, and a moment after that. */
  archived: Content | undefined;
  stopped: Instant;
}

/** As cp -p does it: into the same inode, with the old times. */
async function putOver(from: string, to: string): Promise<void> {
  await copyFile(from, to);
  const { atime, mtime } = await stat(from);
  await utimes(to, atime, mtime);
}

async function copyBoth(file: string, to: string): Promise<void> {
  await copyFile(file, to);
  await copyFile(`${file}-wal`, `${to}-wal`);
}

/**
 * A capture that was stopped while the log's present life went on, and every program killed: file and log lie as after the
 * loss of power, and the archive ends at the log's last frame.
 */
async function archivedInMidLife(t: TestContext): Promise<World> {
  const dir = await scratchDir(t);
  const bench = await sqliteBench(t, dir);
  const first = path.join(dir, 'first.db');
  const middle = path.join(dir, 'middle.db');
  const capture = await bench.capture();
  await copyFile(bench.file, first);
  await committed(t, bench, dir, 'a');
  await bench.backup(capture, 'base');
  const reader = await holding(t, bench);
  await committed(t, bench, dir, 'b');
  await copyBoth(bench.file, middle);
  await committed(t, bench, dir, 'c');
  const [archived] = await contentsOf(t, bench.file);
  await capture.stop();
  await reader.kill();
  return { t, bench, dir, first, middle, archived, stopped: await momentBetween() };
}

/**
 * Resumes and asserts that a gap was told, that all of the archived generation is still there, and that the new one is the
 * source. `sane`: the source is a database. `loses`: what was committed last is archived and no longer in the source.
 */
async function assertStartsAnew(
  { t, bench, dir, archived, stopped }: World,
  { sane = true, loses = false } = {},
): Promise<void> {
  const capture = await bench.capture(bench.archive.resumePoint());
  await attached(capture);
  assertHonestGap(bench, stopped);
  const old = await assertEndsWith(t, bench, archived);
  if (loses) {
    const last = 'SELECT * FROM ledger ORDER BY n DESC LIMIT 1';
    const [[lost]] = await ask<[[{ n: number; writer: number; k: number }]]>(t, 'run', old, last);
    const same = `SELECT * FROM ledger WHERE writer = ${lost.writer} AND k = ${lost.k}`;
    assert.deepEqual(await ask(t, 'run', bench.file, same), [[]], 'nothing was lost');
  }
  if (sane) {
    await assertBeginsAsItIs(t, bench, await bench.backup(capture, 'base-2'));
    await committed(t, bench, dir, 'after');
    await assertNewestIsExact(t, bench, capture, 'newest');
  }
  await capture.stop();
}

test('nothing happened to file and log: the generation goes on', async (t) => {
  const { bench, dir } = await archivedInMidLife(t);
  const capture = await bench.capture(bench.archive.resumePoint());
  await committed(t, bench, dir, 'after');
  await assertNewestIsExact(t, bench, capture, 'newest');
  assert.equal(bench.archive.stretches.length, 1);
  await capture.stop();
});

const tampering: { what: string; act(world: World): Promise<void>; sane?: boolean; loses?: boolean }[] = [
  {
    what: 'an older copy of file and log of the same life of the log',
    async act({ bench, middle }) {
      await putOver(middle, bench.file);
      await putOver(`${middle}-wal`, `${bench.file}-wal`);
      await rm(`${bench.file}-shm`);
    },
  },
  {
    what: 'that copy, with more written to it than was archived',
    async act({ t, bench, dir, middle }) {
      await putOver(middle, bench.file);
      await putOver(`${middle}-wal`, `${bench.file}-wal`);
      await rm(`${bench.file}-shm`);
      const reader = await holding(t, bench);
      await committed(t, bench, dir, 'other', 60);
      await reader.kill();
    },
  },
  {
    what: 'an older file put over the file, under its present log',
    act: ({ bench, first }) => putOver(first, bench.file),
    sane: false,
  },
  {
    what: 'an older file moved to the place of the file, beside its present log',
    act: ({ bench, first }) => rename(first, bench.file),
    sane: false,
  },
  {
    what: 'an older copy without its log',
    async act({ bench, first }) {
      await putOver(first, bench.file);
      await rm(`${bench.file}-wal`);
    },
  },
  {
    what: 'the log lost its last frame',
    async act({ bench }) {
      const wal = `${bench.file}-wal`;
      await truncate(wal, (await stat(wal)).size - frameBytes(4096));
    },
    loses: true,
  },
  {
    what: 'the log lost its last frame, and other transactions followed',
    async act({ t, bench, dir }) {
      const wal = `${bench.file}-wal`;
      await truncate(wal, (await stat(wal)).size - frameBytes(4096));
      await rm(`${bench.file}-shm`);
      const reader = await holding(t, bench);
      await committed(t, bench, dir, 'other', 40);
      await reader.kill();
    },
    loses: true,
  },
  { what: 'the log is gone', act: ({ bench }) => rm(`${bench.file}-wal`) },
  {
    what: 'file and log were removed and made anew',
    async act({ t, bench }) {
      for (const ending of ['', '-wal', '-shm']) await rm(`${bench.file}${ending}`);
      await ask(t, 'setup', bench.file, 'PRAGMA journal_mode=WAL');
    },
  },
  {
    what: 'the log was copied into the file and truncated',
    act: ({ t, bench }) => ask(t, 'run', bench.file, 'PRAGMA wal_checkpoint(TRUNCATE)'),
  },
];

for (const { what, act, ...source } of tampering) {
  test(`after an outage: ${what}`, async (t) => {
    const world = await archivedInMidLife(t);
    await act(world);
    await assertStartsAnew(world, source);
  });
}

test('a backup does not stand on one from before a gap', async (t) => {
  const { bench, dir } = await archivedInMidLife(t);
  const [before] = bench.archive.backups;
  await rm(`${bench.file}-wal`);
  const capture = await bench.capture(bench.archive.resumePoint());
  await attached(capture);
  await assert.rejects(bench.backup(capture, 'on-the-old', before), {
    code: 'NO_BACKUP',
    message: /^The log was interrupted since/,
    hint: /FULL/,
  });
  const base = await bench.backup(capture, 'base-2');
  await committed(t, bench, dir, 'after');
  const { replayAfter } = (await bench.backup(capture, 'on-the-new', base)).facts;
  assert.equal(replayAfter.stretch, '2');
  await capture.stop();
});

test('an older copy put over a file at rest', async (t) => {
  const dir = await scratchDir(t);
  const bench = await sqliteBench(t, dir);
  const capture = await bench.capture();
  const first = path.join(dir, 'first.db');
  await bench.backup(capture, 'base');
  await copyFile(bench.file, first);
  await committed(t, bench, dir, 'a');
  const [archived] = await contentsOf(t, bench.file);
  await capture.stop();
  const stopped = await momentBetween();
  await putOver(first, bench.file);
  await assertStartsAnew({ t, bench, dir, first, middle: first, archived, stopped });
});

test('an older log put beside a file at rest is what the source then is, and is captured as that', async (t) => {
  const dir = await scratchDir(t);
  const bench = await sqliteBench(t, dir);
  let capture = await bench.capture();
  await bench.backup(capture, 'base');
  await ask(t, 'run', bench.file, 'INSERT INTO ledger VALUES (-1, 1, 1)', 'UPDATE ledger SET k = 2 WHERE n = -1');
  await capture.fence();
  const oldLog = path.join(dir, 'old-wal');
  await copyFile(`${bench.file}-wal`, oldLog);
  // Nothing that moves a page to another place: a log over the wrong schema would be no database at all.
  await ask(t, 'run', bench.file, 'UPDATE ledger SET k = 5 WHERE n = -1');
  await bench.backup(capture, 'base-2');
  await ask(t, 'run', bench.file, 'UPDATE ledger SET k = 3 WHERE n = -1');
  await capture.stop();
  await copyFile(oldLog, `${bench.file}-wal`);
  await rm(`${bench.file}-shm`, { force: true });
  capture = await bench.capture(bench.archive.resumePoint());
  await attached(capture);
  if (bench.archive.stretches.length > 1) await bench.backup(capture, 'base-3');
  const { position } = await capture.fence();
  const cut = await bench.archive.locate(bench.datastore, { position }, position.stretch);
  const base = bench.archive.baseFor(cut);
  assert.ok(base);
  const home = await bench.archive.recover(bench.datastore, cut, base, 'newest');
  const rows = (file: string) => ask(t, 'run', file, 'SELECT * FROM seq', 'SELECT * FROM ledger WHERE n = -1');
  assert.deepEqual(await rows(path.join(home, 'database.db')), await rows(bench.file));
  await capture.stop();
});

/** Puts other content in the file's place under a running capture and writes; nothing of it may reach the generation. */
async function assertOverwriteEndsGeneration(
  t: TestContext,
  replace: (old: string, file: string, capture: LogCapture) => Promise<void>,
): Promise<void> {
  const dir = await scratchDir(t);
  const bench = await sqliteBench(t, dir, { capture: { pollMs: 50 } });
  const capture: LogCapture = await bench.capture();
  const old = path.join(dir, 'old.db');
  await bench.backup(capture, 'base');
  await copyFile(bench.file, old);
  await committed(t, bench, dir, 'a');
  await bench.backup(capture, 'base-2');
  const reader = await holding(t, bench);
  await committed(t, bench, dir, 'b');
  const { position } = await capture.fence();
  await replace(old, bench.file, capture);
  // The old and the new content may not fit together, so that a writer can fail; what it commits is still foreign.
  await ask(t, 'run', bench.file, 'UPDATE seq SET n = -5').catch(() => {});
  await until('a new generation begins', () => bench.archive.stretches.length >= 2);
  await attached(capture);
  assert.equal(bench.archive.ofStretch('1').at(-1)?.last ?? 0, position.ordinal);
  await reader.kill();
  await capture.stop();
}

test('a file that is overwritten in place under a running capture', (t) => assertOverwriteEndsGeneration(t, putOver));
test('a file that is emptied a while before it is overwritten keeps its log', (t) =>
  assertOverwriteEndsGeneration(t, async (old, file, capture) => {
    const log = await stat(`${file}-wal`);
    await truncate(file);
    // SQLite deletes the log beside an empty file that it opens, from under the application.
    await until('that is told', () => /is empty, and there is a log/.test(capture.health().message ?? ''));
    await delay(500);
    const { ino, size } = await stat(`${file}-wal`);
    assert.deepEqual({ ino, size }, { ino: log.ino, size: log.size });
    await putOver(old, file);
  }));
test('a file that another one is moved over under a running capture', (t) => assertOverwriteEndsGeneration(t, rename));

test('a program that is killed in the middle of a checkpoint is no stranger, and hides none that comes later', async (t) => {
  const dir = await scratchDir(t);
  // Nobody else finishes the checkpoint meanwhile.
  const bench = await sqliteBench(t, dir, { capture: { pollMs: 300, restartBytes: 1 << 30 } });
  const { archive, file } = bench;
  const capture = await bench.capture();
  await bench.backup(capture, 'base');
  const many = 'WITH RECURSIVE many (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM many LIMIT 20000)';
  const state = async (how: string) => {
    const [[row] = []] = await ask<{ log: number; checkpointed: number }[][]>(t, 'run', file, `PRAGMA ${how}`);
    return row ?? { log: 0, checkpointed: 0 };
  };
  const modified = async () => (await stat(file, { bigint: true })).mtimeNs;
  let killed = 0;
  for (let i = 0; killed < 3; i++) {
    assert.ok(i < 20, 'no checkpoint was caught in the middle');
    const bulk = `CREATE TABLE bulk${i} AS ${many} SELECT randomblob(1000) FROM many`;
    await ask(t, 'run', file, 'PRAGMA wal_autocheckpoint=0', bulk);
    await capture.fence();
    const before = await modified();
    const program = start(t, 'run', file, 'PRAGMA wal_checkpoint(PASSIVE)');
    // The capture may have copied all of it, to find out who wrote to the file.
    await until('it copies', async () => program.child.exitCode !== null || (await modified()) !== before);
    program.child.kill('SIGKILL');
    await program.done.catch(() => {});
    const { log, checkpointed } = await state('wal_checkpoint=NOOP');
    if (checkpointed < log) killed += 1;
    await capture.fence();
  }
  assert.equal(archive.stretches.length, 1, JSON.stringify(archive.stretches));
  await assertNewestIsExact(t, bench, capture, 'newest');
  await state('wal_checkpoint(PASSIVE)');
  await capture.fence();
  const foreign = await open(file, 'r+');
  await foreign.write(await foreign.read(Buffer.alloc(512), 0, 512, 0).then(({ buffer }) => buffer), 0, 512, 0);
  await foreign.close();
  await until('a new generation begins', () => archive.stretches.length >= 2);
  assert.match(archive.stretches[1]?.reason ?? '', /not SQLite/);
  await capture.stop();
});
