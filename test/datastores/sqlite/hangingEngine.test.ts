/** An engine process that answers nobody for a while: what was asked of it meanwhile comes to a good end afterwards. */
import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { scratchDir } from '../../support/scratch.js';
import { type SqliteBench, sqliteBench } from '../../support/sqliteBench.js';
import { assertNewestIsExact, attached, committed } from '../../support/sqliteHistory.js';
import { ask } from '../../support/sqlitePrograms.js';

function stopEngine({ datastore }: SqliteBench): { goOn(): void } {
  const { pid } = datastore.engine;
  assert.ok(pid);
  process.kill(pid, 'SIGSTOP');
  return { goOn: () => process.kill(pid, 'SIGCONT') };
}

test('a capture is attached while an earlier one still ends: there is only one afterwards', async (t) => {
  const dir = await scratchDir(t);
  const bench = await sqliteBench(t, dir);
  const { archive, datastore, file } = bench;
  let capture = await bench.capture();
  await bench.backup(capture, 'base');
  const { callTimeoutMs } = datastore.engine;
  const stopped = stopEngine(bench);
  // Left in the spool, by a session that ends later than it is waited for.
  await committed(t, bench, dir, 'a', 5);
  datastore.engine.callTimeoutMs = 100;
  await capture.stop();
  datastore.engine.callTimeoutMs = callTimeoutMs;
  const starting = bench.capture(archive.resumePoint());
  stopped.goOn();
  capture = await starting;
  await attached(capture);
  for (const name of ['b', 'c']) {
    await committed(t, bench, dir, name, 5);
    await assertNewestIsExact(t, bench, capture, `after-${name}`);
    assert.deepEqual(capture.health(), { ...capture.health(), healthy: true, message: null });
  }
  assert.equal(archive.stretches.length, 1);
  await capture.stop();
  const spool = await readdir(path.join(bench.instance.home, 'log-spool'));
  assert.deepEqual(spool.sort(), ['main-file.json', 'rest.json']);
  const [[row] = []] = await ask<{ busy: number }[][]>(t, 'run', file, 'PRAGMA wal_checkpoint(TRUNCATE)');
  assert.equal(row?.busy, 0, 'nobody holds the log');
});
