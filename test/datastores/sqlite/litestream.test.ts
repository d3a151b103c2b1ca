/**
 * Litestream 0.3.13 as a second opinion, in the long run alone: both follow the same database, both recover it to the
 * same instants, and by the writers' own logs ours is not the one that is further off.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { instant } from '../../../src/instant.js';
import { requirement } from '../../support/requirement.js';
import { scratchDir } from '../../support/scratch.js';
import { seeded, seeds } from '../../support/seed.js';
import { sqliteBench } from '../../support/sqliteBench.js';
import { assertNewestIsExact, committed } from '../../support/sqliteHistory.js';
import { type Asked, assertRecoveriesExact, type Content } from '../../support/sqliteOracle.js';
import { ask, start, startProgram, until } from '../../support/sqlitePrograms.js';
import { readLog } from '../../support/sqliteWriters.js';

/** It is no dependency, because not every platform's package of it can be had. */
const how = 'npm install --no-save @flydotio/litestream@0.3.13 puts it there';

/** The binary of the npm package where that is installed, otherwise one on the path. */
function litestream(): string {
  try {
    return fileURLToPath(import.meta.resolve(`@flydotio/litestream-${process.platform}-${process.arch}/litestream`));
  } catch {
    return 'litestream';
  }
}

/** Ours leaves out what was not seen committed by then, which can be what just was: within some looks at a busy log, µs. */
const SEEN_WITHIN = 50_000;

interface Bounds {
  /** The last transaction that was acknowledged by an instant, and the last one that had begun to commit. */
  least: number;
  most: number;
}

function bounds(logs: readonly string[], at: number): Bounds {
  const found = { least: 0, most: 0 };
  for (const line of logs.flatMap(readLog)) {
    if ('acknowledged' in line && line.acknowledged <= at) found.least = Math.max(found.least, line.n);
    if ('begun' in line && line.begun <= at) found.most = Math.max(found.most, line.n);
  }
  return found;
}

/** How many transactions a recovery has too few or too many. */
function error(n: number, { least, most }: Bounds): number {
  return Math.max(0, least - n, n - most);
}

if (process.env.PITR_TEST_LONG === '1') {
  const binary = litestream();
  const skip = requirement(binary, ['version'], how);
  test('the same history recovered by Litestream: ours is not further off', { skip }, async (t) => {
    const random = seeded(seeds(t).at(-1) ?? 1);
    const dir = await scratchDir(t);
    const bench = await sqliteBench(t, dir);
    const { archive, datastore, file } = bench;
    const replica = path.join(dir, 'replica');
    const configuration = path.join(dir, 'litestream.json');
    const dbs = [{ path: file, 'monitor-interval': '10ms', replicas: [{ path: replica, 'sync-interval': '10ms' }] }];
    // Every JSON text is YAML, too.
    await writeFile(configuration, JSON.stringify({ dbs }));
    const capture = await bench.capture();
    await bench.backup(capture, 'base');
    const peer = startProgram(t, binary, ['replicate', '-config', configuration]);
    const restored = async (output: string, at: number | null): Promise<boolean> => {
      const timestamp = at === null ? [] : ['-timestamp', new Date(at / 1000).toISOString()];
      const words = ['restore', '-config', configuration, '-o', output, ...timestamp, file];
      return startProgram(t, binary, words).done.then(
        () => stat(output).then(() => true),
        () => false,
      );
    };
    await until('Litestream has a replica', () => restored(path.join(dir, 'first.db'), null));

    const logs = [1, 2, 3].map((writer) => path.join(dir, `writer-${writer}.log`));
    const begin = Date.now() * 1000;
    await Promise.all(logs.map((log, i) => start(t, 'write', file, log, String(i + 1), '500', '11').done));
    const end = Date.now() * 1000;
    const { coveredTo, position } = await capture.fence();
    // Its last interval has passed.
    await delay(3000);
    const history = { file, logs };
    const asked: Asked[] = [];
    const theirs: (Content | null)[] = [];
    for (let i = 0; i < 20; i++) {
      // Whole milliseconds, which is all that both take.
      const at = Math.min(Math.floor((begin + random() * (end - begin)) / 1000) * 1000, coveredTo);
      asked.push({ cut: await archive.locate(datastore, { at: instant(at) }, position.stretch), at, history });
      const output = path.join(dir, `peer-${i}.db`);
      const [content = null] = (await restored(output, at)) ? await ask<Content[]>(t, 'content', output) : [];
      theirs.push(content);
    }
    const ours = await assertRecoveriesExact(t, bench, asked, { random, compareTimes: true });
    const sums = { ours: 0, theirs: 0, refused: 0 };
    for (const [i, { at }] of asked.entries()) {
      const n = ours[i]?.n ?? Number.NaN;
      const allowed = bounds(logs, at ?? 0);
      const other = theirs[i];
      if (!other) {
        sums.refused++;
        continue;
      }
      const off = error(other.n, allowed);
      const { least } = bounds(logs, (at ?? 0) - SEEN_WITHIN);
      assert.ok(
        error(n, { ...allowed, least }) <= off,
        `ours has ${n}, theirs ${other.n}, of ${JSON.stringify(allowed)}`,
      );
      sums.ours += error(n, allowed);
      sums.theirs += off;
    }
    assert.ok(sums.ours <= sums.theirs, JSON.stringify(sums));
    t.diagnostic(`transactions off, of 20 recoveries: ${JSON.stringify(sums)}`);

    // What both have whole is the same database.
    await committed(t, bench, dir, 'last', 3);
    await assertNewestIsExact(t, bench, capture, 'newest');
    const newest = path.join(dir, 'peer-newest.db');
    await delay(3000);
    assert.ok(await restored(newest, null));
    const [source, copy] = await ask<Content[]>(t, 'content', file, newest);
    assert.equal(copy?.hash, source?.hash);
    const closed = once(peer.child, 'close');
    peer.child.kill('SIGTERM');
    await closed;
    await capture.stop();
  });
}
