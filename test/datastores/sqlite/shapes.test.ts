/** Databases of every shape: page sizes, auto-vacuum, odd paths, new ones; and damaged or missing log, which is refused. */
import assert from 'node:assert/strict';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { uriOfFile } from '../../../src/datastores/sqlite/source/databasePaths.js';
import { createSqliteDatastore } from '../../../src/datastores/sqlite/sqlite.js';
import type { Cut } from '../../../src/model.js';
import { scratchDir } from '../../support/scratch.js';
import { type SqliteBench, sqliteBench } from '../../support/sqliteBench.js';
import { ask, start } from '../../support/sqlitePrograms.js';

/** `then` runs after the transactions and before the comparison. */
async function recoverAndCompare(
  t: TestContext,
  bench: SqliteBench,
  dir: string,
  transactions: number,
  then: string[] = [],
): Promise<Cut> {
  const capture = await bench.capture();
  const base = await bench.backup(capture, 'base');
  if (transactions > 0) {
    await start(t, 'write', bench.file, path.join(dir, 'w.log'), '1', String(transactions), '3').done;
  }
  if (then.length > 0) await ask(t, 'run', bench.file, ...then);
  const { position } = await capture.fence();
  const cut = await bench.archive.locate(bench.datastore, { position }, position.stretch);
  const home = await bench.archive.recover(bench.datastore, cut, base, 'recovered');
  assert.deepEqual(await readdir(home), ['database.db']);
  const recovered = path.join(home, 'database.db');
  const [source, copy] = await ask<{ hash: string; check: string }[]>(t, 'content', bench.file, recovered);
  assert.equal(copy?.check, 'ok');
  assert.equal(copy?.hash, source?.hash);
  const [[mode] = []] = await ask<{ journal_mode: string }[][]>(t, 'run', recovered, 'PRAGMA journal_mode');
  assert.equal(mode?.journal_mode, 'wal');
  await capture.stop();
  return cut;
}

for (const pageSize of [512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536]) {
  test(`pages of ${pageSize} bytes`, async (t) => {
    const dir = await scratchDir(t);
    await recoverAndCompare(t, await sqliteBench(t, dir, { pragmas: [`PRAGMA page_size=${pageSize}`] }), dir, 30);
  });
}

for (const mode of ['FULL', 'INCREMENTAL']) {
  test(`auto_vacuum=${mode}`, async (t) => {
    const dir = await scratchDir(t);
    const bench = await sqliteBench(t, dir, { pragmas: [`PRAGMA auto_vacuum=${mode}`] });
    // Pages are moved and the file shrinks: at each commit, or where it is asked for.
    const shrinking = ['DELETE FROM data WHERE id % 5 > 0', 'PRAGMA incremental_vacuum'];
    await recoverAndCompare(t, bench, dir, 40, shrinking);
    const [[free] = []] = await ask<{ freelist_count: number }[][]>(t, 'run', bench.file, 'PRAGMA freelist_count');
    assert.equal(free?.freelist_count, 0, 'nothing was vacuumed');
  });
}

test('a path with spaces, unicode and what URIs reserve', async (t) => {
  const dir = await scratchDir(t);
  const bench = await sqliteBench(t, dir, { file: 'älter & neuer/my data?#%20.db' });
  await recoverAndCompare(t, bench, dir, 10);
});

test('nothing written after the backup', async (t) => {
  const dir = await scratchDir(t);
  const cut = await recoverAndCompare(t, await sqliteBench(t, dir), dir, 0);
  assert.equal(cut.firstDroppedAt, null);
});

test('a provisioned database is empty, in WAL mode and only its owner may read it', async (t) => {
  const dir = await scratchDir(t);
  const datastore = createSqliteDatastore();
  t.after(() => datastore.close());
  const facts = await datastore.provision({ id: 'new', home: dir, datastoreVersion: '3.52' });
  assert.equal(facts.connectionUri, uriOfFile(path.join(dir, 'database.db')));
  const [[mode] = []] = await ask<{ journal_mode: string }[][]>(
    t,
    'run',
    path.join(dir, 'database.db'),
    'PRAGMA journal_mode',
  );
  assert.equal(mode?.journal_mode, 'wal');
  await assert.rejects(datastore.provision({ id: 'old', home: dir, datastoreVersion: '3.5' }), {
    code: 'DATASTORE_NOT_SUPPORTED',
  });
});

test('damaged and missing log is refused, whatever is done to it', async (t) => {
  const dir = await scratchDir(t);
  const bench = await sqliteBench(t, dir, { capture: { sealBytes: 40_000 } });
  const { archive, datastore } = bench;
  const capture = await bench.capture();
  const base = await bench.backup(capture, 'base');
  await start(t, 'write', bench.file, path.join(dir, 'w.log'), '1', '60', '5').done;
  const { position } = await capture.fence();
  await capture.stop();
  const cut = await archive.locate(datastore, { position }, position.stretch);
  const victim = archive.segments[Math.floor(archive.segments.length / 2)];
  assert.ok(victim && archive.segments.length > 3);
  const whole = await readFile(victim.file);
  const spoilt = async (bytes: Buffer, code: string, name: string) => {
    await writeFile(victim.file, bytes);
    await assert.rejects(archive.recover(datastore, cut, base, name), { code });
    await writeFile(victim.file, whole);
  };
  for (const [i, at] of [3, 20, 60, 200, whole.length >> 1, whole.length - 1].entries()) {
    const bytes = Buffer.from(whole);
    bytes[at] = (bytes[at] ?? 0) ^ 0x10;
    await spoilt(bytes, 'LOG_CORRUPT', `flipped-${i}`);
  }
  await spoilt(whole.subarray(0, whole.length - 1), 'LOG_CORRUPT', 'cut');
  await spoilt(Buffer.concat([whole, Buffer.from([0])]), 'LOG_CORRUPT', 'longer');
  for (const [i, missing] of [victim, archive.segments.at(-1), archive.segments[0]].entries()) {
    const all = [...archive.segments];
    archive.segments.splice(0, all.length, ...all.filter((each) => each !== missing));
    await assert.rejects(archive.recover(datastore, cut, base, `missing-${i}`), { code: 'RECOVERY_INCOMPLETE' });
    archive.segments.splice(0, archive.segments.length, ...all);
  }
  await archive.recover(datastore, cut, base, 'whole');
});

test('a page of the log that does not get into the copy is noticed', async (t) => {
  const dir = await scratchDir(t);
  const bench = await sqliteBench(t, dir);
  const capture = await bench.capture();
  const base = await bench.backup(capture, 'base');
  await start(t, 'write', bench.file, path.join(dir, 'w.log'), '1', '30', '3').done;
  const { position } = await capture.fence();
  const cut = await bench.archive.locate(bench.datastore, { position }, position.stretch);
  const context = await bench.archive.recoveryContext(cut, base, 'recovered');
  const { recovery } = bench.datastore;
  await recovery.replayLog(context);
  // The place of one gathered page is forgotten, as it would be by a fault of the code or of a disk.
  const index = path.join(context.scratch, 'newer.index');
  const places = await readFile(index);
  const pages = Array.from({ length: places.length / 4 }, (_, page) => page);
  const gathered = pages.filter((page) => places.readUInt32LE(4 * page) > 0);
  assert.ok(gathered.length > 1, 'the log has several pages');
  places.writeUInt32LE(0, 4 * (gathered[0] ?? 0));
  await writeFile(index, places);
  await assert.rejects(recovery.restoreBase(context), {
    code: 'RECOVERY_INCOMPLETE',
    message: new RegExp(`${gathered.length - 1} of ${gathered.length} newer pages`),
  });
  await recovery.discard({ ...context.target, scratch: context.scratch });
  await capture.stop();
});
