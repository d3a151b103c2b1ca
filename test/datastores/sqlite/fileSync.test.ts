/** Synchronising a database file for the engine process. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { FileSyncer, FileSyncRequests } from '../../../src/datastores/sqlite/engine/fileSync.js';
import { scratchDir } from '../../support/scratch.js';
import { sqliteBench } from '../../support/sqliteBench.js';
import { assertNewestIsExact } from '../../support/sqliteHistory.js';
import { start, until } from '../../support/sqlitePrograms.js';

test('whatever has the name of the file by now, the next request is answered', async (t) => {
  const dir = await scratchDir(t);
  const of = (name: string) => path.join(dir, name);
  await writeFile(of('file'), 'x');
  execFileSync('mkfifo', [of('pipe')]);
  await symlink(of('pipe'), of('link'));
  const syncer = new FileSyncer();
  for (const name of ['pipe', 'link', 'nothing', '.', 'file']) await syncer.sync(of(name));
});

test('a request that is not answered is given up', async () => {
  const asked: { request: number; file: string }[] = [];
  const requests = new FileSyncRequests((request, file) => asked.push({ request, file }), 50);
  const sent = ['/a', '/b'].map((file) => requests.sync(file));
  assert.deepEqual(
    asked.map(({ file }) => file),
    ['/a', '/b'],
  );
  const [{ request } = { request: 0 }] = asked;
  requests.done(request);
  await Promise.all(sent);
  requests.done(request);
});

test('the service is asked while an application writes without a pause, and all that it wrote is captured', async (t) => {
  const dir = await scratchDir(t);
  const bench = await sqliteBench(t, dir, { capture: { restartBytes: 1 << 20 } });
  const capture = await bench.capture();
  await bench.backup(capture, 'base');
  const synced: string[] = [];
  const usual = FileSyncer.prototype.sync;
  t.mock.method(FileSyncer.prototype, 'sync', async function (this: FileSyncer, file: string) {
    await usual.call(this, file);
    synced.push(file);
  });
  const insert = 'INSERT INTO data (text) VALUES (hex(randomblob(20000)))';
  const programs = [1, 2, 3].map(() => start(t, 'repeat', bench.file, insert, '1000'));
  await until('the file is synchronised twice', () => synced.length > 1);
  for (const { child } of programs) child.stdin?.end();
  for (const { done } of programs) await done;
  assert.ok(synced.every((file) => file === bench.file));
  await assertNewestIsExact(t, bench, capture, 'copy');
  assert.equal(bench.archive.stretches.length, 1);
});
