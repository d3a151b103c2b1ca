/** An engine process that answers nobody for a while: what was asked of it meanwhile comes to a good end afterwards. */
import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { Pulse } from '../../../src/datastores/sqlite/engine/pulse.js';
import { scratchDir } from '../../support/scratch.js';
import { type SqliteBench, sqliteBench } from '../../support/sqliteBench.js';
import { assertNewestIsExact, attached, committed } from '../../support/sqliteHistory.js';
import { ask, until } from '../../support/sqlitePrograms.js';

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
    const { healthy, message } = capture.health();
    assert.deepEqual([healthy, message], [true, null]);
  }
  assert.equal(archive.stretches.length, 1);
  await capture.stop();
  const spool = await readdir(path.join(bench.instance.home, 'log-spool'));
  assert.deepEqual(spool.sort(), ['main-file.json', 'rest.json']);
  const [[row] = []] = await ask<{ busy: number }[][]>(t, 'run', file, 'PRAGMA wal_checkpoint(TRUNCATE)');
  assert.equal(row?.busy, 0, 'nobody holds the log');
});

test('an engine process that does not answer turns its captures red until it does', async (t) => {
  const dir = await scratchDir(t);
  const bench = await sqliteBench(t, dir, { capture: { hangMs: 1000 } });
  const { archive } = bench;
  const capture = await bench.capture();
  await capture.fence();
  const stopped = stopEngine(bench);
  await until('it is told', () => !capture.health().healthy);
  assert.match(capture.health().message ?? '', /has not answered for 1 seconds.*capture goes on once it answers/);
  assert.equal(archive.healths.at(-1)?.healthy, false);
  stopped.goOn();
  await until('it is over', () => capture.health().healthy);
  assert.equal(archive.healths.at(-1)?.healthy, true);
  await capture.fence();
  await capture.stop();
});

test('silence counts from a question on, in turns of the timer', (t) => {
  t.mock.timers.enable({ apis: ['setInterval'] });
  const told: boolean[] = [];
  let asked = 0;
  const pulse = new Pulse(
    6000,
    () => asked++,
    () => told.push(pulse.hangs),
  );
  pulse.start();
  for (let i = 1; i <= 20; i++) {
    t.mock.timers.tick(1000);
    assert.equal(asked, i, 'nothing is silent that answers');
    pulse.heard();
  }
  t.mock.timers.tick(6000);
  assert.deepEqual([asked, told], [21, []], 'it is asked once, and has its time to answer');
  t.mock.timers.tick(1000);
  t.mock.timers.tick(60_000);
  assert.deepEqual([asked, told], [21, [true]]);
  pulse.heard();
  assert.deepEqual(told, [true, false]);
  t.mock.timers.tick(7000);
  assert.equal(pulse.hangs, true);
  pulse.stop();
  assert.equal(pulse.hangs, false, 'what is no more does not hang');
  t.mock.timers.tick(60_000);
  assert.deepEqual([asked, told], [22, [true, false, true]]);
});
