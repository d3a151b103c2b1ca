/**
 * The one promise, against the writers' own logs: several programs write, checkpoint and vacuum while a database is
 * captured; then every recovery must hold exactly what the programs had committed up to the cut, and nothing else.
 */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import type { StoredBackup } from '../../../src/datastores/datastore.js';
import { instant } from '../../../src/instant.js';
import { windowHolding } from '../../../src/recovery/windows.js';
import { scratchDir } from '../../support/scratch.js';
import { sqliteBench } from '../../support/sqliteBench.js';
import {
  type Asked,
  assertBracketsNarrow,
  assertRecoveriesExact,
  assertTimesRise,
  type Content,
} from '../../support/sqliteOracle.js';
import { ask, start, until } from '../../support/sqlitePrograms.js';
import { randomFrom, readLog } from '../../support/sqliteWriters.js';

const long = process.env.PITR_TEST_LONG === '1';
const seeds = [20261122, Date.now() % 1_000_000_000];

for (const seed of seeds) {
  test(`every recovery is exact (seed ${seed})`, { timeout: 300_000 }, async (t) => {
    t.diagnostic(`seed ${seed}`);
    const random = randomFrom(seed);
    const dir = await scratchDir(t);
    const bench = await sqliteBench(t, dir, {
      capture: { restartBytes: 256 << 10, idleRestartBytes: 16 << 10, sealBytes: 512 << 10, sealAgeMs: 300 },
    });
    const { archive, datastore, file } = bench;
    const capture = await bench.capture();
    const base = await bench.backup(capture, 'base-1');
    const chains: StoredBackup[][] = [[base]];

    const logs = [1, 2, 3, 4].map((writer) => path.join(dir, `writer-${writer}.log`));
    const disturber = start(t, 'disturb', file, String(seed));
    const transactions = long ? 1500 : 150;
    const writers = logs.map((log, i) =>
      start(t, 'write', file, log, String(i + 1), String(i === 3 ? 1_000_000 : transactions), String(seed)),
    );
    // The fourth is killed wherever it happens to be: its last transaction may or may not have been committed.
    const victim = writers.pop();
    await writers[0]?.done;
    await until('the fourth has got its turn', () => logs.every((log) => existsSync(log)), 120);
    victim?.child.kill('SIGKILL');
    await assert.rejects(victim?.done ?? Promise.resolve());
    const one = await bench.backup(capture, 'incremental-1', base);
    const two = await bench.backup(capture, 'incremental-2', one);
    chains.push([base, one], [base, one, two], [await bench.backup(capture, 'base-2')]);
    await Promise.all(writers.map(({ done }) => done));
    disturber.child.stdin?.end();
    await disturber.done;
    const three = await bench.backup(capture, 'incremental-3', two);
    chains.push([base, one, two, three], [base, await bench.backup(capture, 'differential', base)]);
    const fence = await capture.fence();
    assert.equal(archive.stretches.length, 1, JSON.stringify(archive.stretches));

    // Times and positions to recover to: acknowledgements and a microsecond around them, positions, ends of the window.
    const lines = logs.flatMap(readLog);
    const acknowledged = lines.filter((line) => 'acknowledged' in line);
    const stretch = fence.position.stretch;
    const history = { file, logs };
    const cuts: Asked[] = [];
    const first = archive.backups[0]?.facts;
    assert.ok(first);
    const windows = archive.windows();
    const addTime = async (micros: number) => {
      // Where the machine stood still for seconds there is a hole.
      if (!windowHolding(windows, instant(micros))) return;
      cuts.push({ cut: await archive.locate(datastore, { at: instant(micros) }, stretch), at: micros, history });
    };
    await addTime(first.consistentAt);
    await addTime(fence.coveredTo);
    for (let i = 0; i < (long ? 40 : 6); i++) {
      const line = acknowledged[Math.floor(random() * acknowledged.length)];
      if (!line) continue;
      for (const micros of [line.acknowledged - 1, line.acknowledged, line.acknowledged + 1]) await addTime(micros);
    }
    for (let i = 0; i < (long ? 60 : 10); i++) {
      const ordinal =
        first.consistent.ordinal + Math.floor(random() * (fence.position.ordinal - first.consistent.ordinal));
      const position = datastore.parsePosition(`${stretch}/${ordinal}`);
      assert.ok(position);
      cuts.push({ cut: await archive.locate(datastore, { position }, stretch), at: null, history });
    }

    const found = await assertRecoveriesExact(t, bench, cuts, { random, compareTimes: true, chains });
    // The last fence came after every acknowledgement.
    const newest = found[cuts.findIndex(({ at }) => at === fence.coveredTo)];
    assert.equal(newest?.n, (await ask<Content[]>(t, 'content', file))[0]?.n);
    await assertTimesRise(archive, stretch);
    await assertBracketsNarrow(archive, stretch);
    await capture.stop();
  });
}
