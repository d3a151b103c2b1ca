/** The disk of a database has no room left: its log cannot be copied, which loses nothing and begins nothing anew. */
import assert from 'node:assert/strict';
import { rmSync, statfsSync, writeFileSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { tinyDisk } from '../../storage/tinyDisk.js';
import { onlyTheFirst, stretchesOf } from '../../support/honestGap.js';
import { scratchDir } from '../../support/scratch.js';
import { sqliteBench } from '../../support/sqliteBench.js';
import { assertNewestIsExact } from '../../support/sqliteHistory.js';
import { ask, until } from '../../support/sqlitePrograms.js';

const disk = tinyDisk();

test('a log that its full disk keeps from being copied is captured on, in the same generation', {
  skip: disk.skip,
}, async (t) => {
  const place = await disk.mount(t, '8m');
  const dir = await scratchDir(t);
  const capturing = { restartBytes: 200_000, idleRestartBytes: 200_000, pollMs: 50 };
  const bench = await sqliteBench(t, dir, {
    capture: capturing,
    file: path.relative(dir, path.join(place, 'source.db')),
  });
  const { file } = bench;
  const insert = (id: number, bytes: number) =>
    ask(t, 'run', file, `INSERT INTO data (id, blob) VALUES (${id}, randomblob(${bytes}))`);
  const capture = await bench.capture();
  await bench.backup(capture, 'base');
  await insert(1, 2_000_000);
  // So that a log as large as this one has its room from now on, and the database has not.
  await until('the log is copied', async () => (await stat(file)).size > 2_000_000);
  const { bavail, bsize } = statfsSync(place);
  const filler = path.join(place, 'filler');
  writeFileSync(filler, Buffer.alloc(bavail * bsize));

  await insert(2, 1_000_000);
  const told = /cannot be copied into the database.*Free space/;
  await until('it is told', () => told.test(capture.health().message ?? ''));
  assert.equal(capture.health().healthy, true, 'no log is lost');
  await insert(3, 1000);
  await capture.fence();
  // It writes a part of the log to the database, and nothing counts it. Beside a try of the capture it does nothing.
  await until('another program meets the full disk', () =>
    ask(t, 'run', file, 'PRAGMA wal_checkpoint(PASSIVE)').then(
      () => false,
      (error: Error) => {
        assert.match(error.message, /SQLITE_FULL/);
        return true;
      },
    ),
  );
  await insert(4, 1000);
  await capture.fence();

  rmSync(filler);
  await until('the log is copied', () => capture.health().message === null, 60);
  await insert(5, 1000);
  await assertNewestIsExact(t, bench, capture, 'newest');
  assert.deepEqual(stretchesOf(bench), onlyTheFirst);
});
