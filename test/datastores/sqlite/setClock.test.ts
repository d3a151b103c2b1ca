/** The machine's clock is set while a log is followed: times along the log never fall, and what is covered stays resolved. */
import assert from 'node:assert/strict';
import { rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { attachFollower } from '../../../src/datastores/sqlite/follower/attachFollower.js';
import { BracketClock } from '../../../src/datastores/sqlite/follower/bracketClock.js';
import type { AttachRequest, SessionEvent } from '../../../src/datastores/sqlite/follower/captureTerms.js';
import type { SegmentTransaction } from '../../../src/datastores/sqlite/formats/transactionTable.js';
import { sealedIndex } from '../../../src/datastores/sqlite/spool/spooledSegments.js';
import { scratchDir } from '../../support/scratch.js';
import { skewedEngine } from '../../support/skewedEngine.js';
import { sqliteBench } from '../../support/sqliteBench.js';
import { assertNewestIsExact, attached, committed } from '../../support/sqliteHistory.js';
import { ask, until } from '../../support/sqlitePrograms.js';

const hourMillis = 3_600_000;

for (const [name, shift] of [
  ['back', -hourMillis],
  ['forward and back again', hourMillis],
] as const) {
  test(`the clock is set an hour ${name}`, async (t) => {
    const dir = await scratchDir(t);
    const file = path.join(dir, 'a.db');
    await ask(t, 'setup', file, 'PRAGMA journal_mode=WAL');
    let offset = 0;
    const clock = new BracketClock(() => Date.now() + offset);
    const request: AttachRequest = {
      file,
      spool: dir,
      archived: null,
      tuning: {
        pollMs: 1000,
        pauseMs: 2,
        busyPauseMs: 8,
        sealBytes: 1 << 20,
        sealEveryMs: 0,
        sealAgeMs: 1000,
        restartBytes: 1 << 20,
        idleRestartBytes: 1 << 20,
        heldTellMs: 60_000,
        retainBytes: 1 << 30,
        hangMs: 1000,
      },
    };
    const events: SessionEvent[] = [];
    const sync = async () => {};
    const from = { known: null, gap: null, unwatched: null };
    const follower = await attachFollower(request, from, { emit: (event) => events.push(event), sync }, clock);
    let following = follower;
    t.after(() => following.close());
    // What each fence answered, and how many transactions an instant of its window keeps.
    const told: { coveredTo: number; ordinal: number }[] = [];
    for (const next of [0, shift, shift, 0, 0]) {
      offset = next;
      await ask(t, 'run', file, "INSERT INTO data (text) VALUES ('x')");
      const { coveredTo, axis, ordinal } = await follower.fence();
      assert.ok(coveredTo >= axis, 'what was given a time is covered');
      told.push({ coveredTo, ordinal });
    }
    const known = await follower.abandon();
    // No transaction is found that would get a later time.
    await ask(t, 'run', file, 'PRAGMA wal_checkpoint(TRUNCATE)');
    offset = -hourMillis;
    const later = { known, gap: 'log was lost', unwatched: null };
    following = await attachFollower(request, later, { emit: () => {}, sync }, clock);
    const begun = await following.fence();
    assert.equal(begun.generation, known.generation + 1);
    const first = Math.min(begun.coveredTo, begun.axis);
    assert.ok(first > known.coveredTo, 'no instant belongs to two generations');
    const times: SegmentTransaction[] = [];
    for (const event of events)
      if (event.type === 'sealed') times.push(...(await sealedIndex(event.sealed)).head.transactions);
    assert.equal(times.length, 5);
    for (const [i, { tLo, tHi }] of times.entries()) {
      assert.ok(tLo <= tHi && tHi > (times[i - 1]?.tHi ?? 0), 'times rise along the log');
    }
    for (const { coveredTo, ordinal } of told) {
      assert.equal(times.filter(({ tHi }) => tHi <= coveredTo).length, ordinal, 'a covered instant keeps its cut');
    }
  });
}

test('after the clock was set back an hour nothing waits for it to catch up', async (t) => {
  const dir = await scratchDir(t);
  const clockFile = path.join(dir, 'clock');
  await writeFile(clockFile, '0');
  const bench = await sqliteBench(t, dir, {
    capture: { pollMs: 50, sealAgeMs: 100, restartBytes: 50_000, idleRestartBytes: 1 },
    engineProgram: await skewedEngine(dir, clockFile),
  });
  const { archive, file } = bench;
  const capture = await bench.capture();
  await bench.backup(capture, 'base');
  await committed(t, bench, dir, 'a', 30);
  await capture.fence();
  await writeFile(clockFile, String(-hourMillis));
  await committed(t, bench, dir, 'b', 30);
  const n = archive.segments.length;
  await ask(t, 'run', file, "INSERT INTO data (text) VALUES ('x')");
  await until('it is archived by itself', () => archive.segments.length > n);
  await until('all of the log is copied by itself', async () => {
    const state = 'PRAGMA wal_checkpoint=NOOP';
    const [[row] = []] = await ask<{ log: number; checkpointed: number }[][]>(t, 'run', file, state);
    return row?.log === row?.checkpointed;
  });
  await assertNewestIsExact(t, bench, capture, 'newest');
  assert.equal(archive.stretches.length, 1);
  const other = path.join(dir, 'other.db');
  await ask(t, 'setup', other, 'PRAGMA journal_mode=WAL');
  await rename(other, file);
  for (const ending of ['-wal', '-shm']) await rename(`${file}${ending}`, `${other}${ending}`);
  await until('a file in its place is noticed', () => archive.stretches.length === 2);
  // The new generation's times go on where those of the old one were, an hour ahead: and are covered all the same.
  await attached(capture);
  await bench.backup(capture, 'base-2');
  await committed(t, bench, dir, 'c', 5);
  const { coveredTo, position } = await capture.fence();
  const cut = await archive.locate(bench.datastore, { at: coveredTo }, position.stretch);
  assert.equal(cut.position.text, position.text);
  await assertNewestIsExact(t, bench, capture, 'second');
  await capture.stop();
});
