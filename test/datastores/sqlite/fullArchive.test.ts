/** An archive that is full or hangs: the application goes on, what waits is held to a cap, and it heals by itself. */
import assert from 'node:assert/strict';
import { mkdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { mkdir, readdir, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { Fault } from '../../../src/errors.js';
import { instant } from '../../../src/instant.js';
import { tinyDisk } from '../../storage/tinyDisk.js';
import { assertBeginsAsItIs, assertEndsAsWritten, assertHonestGap, momentBetween } from '../../support/honestGap.js';
import { scratchDir } from '../../support/scratch.js';
import { sqliteBench } from '../../support/sqliteBench.js';
import { assertNewestIsExact, attached, committed } from '../../support/sqliteHistory.js';
import { ask, until } from '../../support/sqlitePrograms.js';

/** Of packed log; what it makes of a piece is a small part of its plain bytes. */
const retainBytes = 50_000;
const tuning = { sealBytes: 50_000, retainBytes, pollMs: 50 };
/** What is open when the cap is reached comes on top: a piece as it was captured, in one of two places. */
const mostKept = 2 * retainBytes + 2 * tuning.sealBytes;

async function bytesIn(directory: string): Promise<number> {
  let bytes = 0;
  for (const name of await readdir(directory)) {
    // A piece is sealed by renaming a file.
    bytes += (await stat(path.join(directory, name)).catch(() => ({ size: 0 }))).size;
  }
  return bytes;
}

/** False where somebody held on to the log. */
async function truncated(t: TestContext, file: string): Promise<boolean> {
  const statements = ['PRAGMA busy_timeout=50', 'PRAGMA wal_checkpoint(TRUNCATE)'];
  const [, [row] = []] = await ask<{ busy: number }[][]>(t, 'run', file, ...statements);
  return row?.busy === 0;
}

test('a full archive turns the capture red; past the cap it lets go of the log, and heals by itself', async (t) => {
  const dir = await scratchDir(t);
  const bench = await sqliteBench(t, dir, { capture: tuning });
  const { archive, file } = bench;
  const capture = await bench.capture();
  await bench.backup(capture, 'base');
  const whole = await capture.fence();
  archive.refuseWith = new Fault('STORAGE_FULL', 'The storage is full', { hint: 'Free some space.' });
  await committed(t, bench, dir, 'a', 20);
  await until('it is told', () => /storage is full.*Free some space/.test(capture.health().message ?? ''));
  for (let i = 0; !/let go/.test(capture.health().message ?? ''); i++) {
    assert.ok(i < 60, 'the cap was never reached');
    await committed(t, bench, dir, `b${i}`, 20);
  }
  const letGo = await momentBetween();
  assert.equal(capture.health().healthy, false);
  await assert.rejects(capture.fence(), { code: 'DATASTORE_UNAVAILABLE' });
  // The application may do everything, also what a capture would not let it.
  for (let i = 0; i < 3; i++) {
    await committed(t, bench, dir, `c${i}`, 30);
    const [[row] = []] = await ask<{ busy: number }[][]>(t, 'run', file, 'PRAGMA wal_checkpoint(TRUNCATE)');
    assert.equal(row?.busy, 0);
  }
  const spool = path.join(bench.instance.home, 'log-spool');
  const kept = await bytesIn(spool);
  assert.ok(kept < mostKept, `${kept} bytes are kept`);

  archive.refuseWith = null;
  await attached(capture);
  await until('it is healthy', () => capture.health().healthy);
  assertHonestGap(bench, letGo);
  assert.match(archive.stretches[1]?.reason ?? '', /let go/);
  // What was captured before is not lost: the first generation reaches further than when the trouble began.
  assert.ok((archive.ofStretch('1').at(-1)?.last ?? 0) > whole.position.ordinal);
  await assertEndsAsWritten(t, bench, dir);
  await assertBeginsAsItIs(t, bench, await bench.backup(capture, 'base-2'));
  await committed(t, bench, dir, 'd', 3);
  await assertNewestIsExact(t, bench, capture, 'newest');
  await capture.stop();
});

for (const outrun of [false, true]) {
  const what = outrun ? 'lets go where the log outgrows the cap meanwhile' : 'loses nothing';
  test(`a slow archive holds the capture up at the cap, which ${what}`, async (t) => {
    const dir = await scratchDir(t);
    const bench = await sqliteBench(t, dir, { capture: tuning });
    const { archive, file } = bench;
    const capture = await bench.capture();
    await bench.backup(capture, 'base');
    await capture.fence();
    let take: () => void = () => {};
    archive.takeAfter = new Promise((resolve) => {
      take = resolve;
    });
    const spool = path.join(bench.instance.home, 'log-spool');
    const kept = () => bytesIn(spool);
    const truncate = () => truncated(t, file);
    /** A capture that reads on is in the way of others for moments only. */
    const keepsLog = async () => !(await truncate()) && !(await truncate()) && !(await truncate());
    for (let i = 0; (await kept()) <= retainBytes || !(await keepsLog()); i++) {
      assert.ok(i < 60, 'the cap was never reached');
      await committed(t, bench, dir, `a${i}`, 2);
    }
    await committed(t, bench, dir, 'unread', 2);
    for (let i = 0; outrun && !/takes less log.*let go/.test(capture.health().message ?? ''); i++) {
      assert.ok(i < 60, 'the log was never let go');
      await committed(t, bench, dir, `b${i}`, 20);
    }
    const letGo = await momentBetween();
    assert.equal(capture.health().healthy, !outrun, capture.health().message ?? '');
    assert.equal(await truncate(), outrun, 'what is not read stays in the log, until it is let go');
    if (outrun) {
      await committed(t, bench, dir, 'lost', 5);
      assert.ok(await truncate());
    }
    assert.ok((await kept()) < mostKept, `${await kept()} bytes are kept`);

    archive.takeAfter = null;
    take();
    await attached(capture);
    await until('it is healthy', () => capture.health().healthy);
    const reasons = archive.stretches.slice(1).map(({ reason }) => reason);
    if (outrun) {
      assert.match(reasons.join(), /^The archive takes less log than is written.*let go of the database\.$/);
      assertHonestGap(bench, letGo);
      await assertEndsAsWritten(t, bench, dir);
      await assertBeginsAsItIs(t, bench, await bench.backup(capture, 'base-2'));
    } else assert.deepEqual(reasons, []);
    await committed(t, bench, dir, 'after', 5);
    await assertNewestIsExact(t, bench, capture, 'newest');
    await capture.stop();
  });
}

test('an archive that hangs turns the capture red, and a capture can be stopped all the same', async (t) => {
  const dir = await scratchDir(t);
  const bench = await sqliteBench(t, dir, { capture: { ...tuning, retainBytes: 1 << 30, hangMs: 20 } });
  let capture = await bench.capture();
  await bench.backup(capture, 'base');
  await capture.fence();
  let answer: () => void = () => {};
  bench.archive.refuseAfter = new Promise((resolve) => {
    answer = resolve;
  });
  await committed(t, bench, dir, 'a');
  const limit = new AbortController();
  const fence = capture.fence(limit.signal);
  await until('it is told', () => /archive has not answered/.test(capture.health().message ?? ''));
  limit.abort(new Fault('STORAGE_UNAVAILABLE', 'too late'));
  await assert.rejects(fence, { code: 'STORAGE_UNAVAILABLE' });
  await capture.stop();
  answer();
  bench.archive.refuseAfter = null;
  capture = await bench.capture(bench.archive.resumePoint());
  await assertNewestIsExact(t, bench, capture, 'newest');
  assert.equal(bench.archive.stretches.length, 1);
  await capture.stop();
});

const disk = tinyDisk();

/** Fills the disk of a spool; answers with what makes room again. */
function fill(spool: string): () => void {
  const filler = path.join(spool, 'filler');
  const { bavail, bsize } = statfsSync(spool);
  writeFileSync(filler, Buffer.alloc(Math.max(0, bavail * bsize - 64_000)));
  return () => rmSync(filler);
}

for (const [what, cap] of [
  ['nothing is lost while the log of the database may grow', 1 << 30],
  // More than one segment, which may wait for the archive at any time.
  ['past the cap the log is let go', 1_500_000],
] as const) {
  test(`a full disk of the spool: ${what}`, { skip: disk.skip }, async (t) => {
    const past = what.startsWith('past');
    let unmount = () => {};
    // Hooks run in this order: the disk goes before its directory.
    t.after(() => unmount());
    const dir = await scratchDir(t);
    const bench = await sqliteBench(t, dir, { capture: { pollMs: 50, sealBytes: 1 << 20, retainBytes: cap } });
    const spool = path.join(bench.instance.home, 'log-spool');
    mkdirSync(spool);
    unmount = disk.mountAt(spool, '2m');
    const { archive, file } = bench;
    const capture = await bench.capture();
    await bench.backup(capture, 'base');
    await committed(t, bench, dir, 'before', 5);
    await capture.fence();
    const free = fill(spool);
    for (let i = 0; capture.health().healthy; i++) {
      assert.ok(i < 20, 'the disk is never full');
      await committed(t, bench, dir, `filling-${i}`, 20);
    }
    assert.match(capture.health().message ?? '', /disk is full.*Free space under/);
    await assert.rejects(capture.fence(), { code: 'STORAGE_FULL' });
    // The application goes on, and its checkpoints with it.
    for (let i = 0; i < 4; i++) {
      await committed(t, bench, dir, `full-${i}`, 30);
      await ask(t, 'run', file, 'PRAGMA busy_timeout=50', 'PRAGMA wal_checkpoint(TRUNCATE)');
    }
    let letGo = instant(0);
    if (past) {
      let more = 0;
      await until('the log is let go', async () => {
        await committed(t, bench, dir, `more-${more++}`, 30);
        return truncated(t, file);
      });
      letGo = await momentBetween();
      await committed(t, bench, dir, 'lost', 5);
      await ask(t, 'run', file, 'PRAGMA wal_checkpoint(TRUNCATE)');
    }
    free();
    await attached(capture);
    await until('it is healthy', () => capture.health().healthy);
    if (past) {
      assertHonestGap(bench, letGo);
      assert.match(archive.stretches[1]?.reason ?? '', /disk of the captured log is full.*let go/);
      await assertEndsAsWritten(t, bench, dir);
      await assertBeginsAsItIs(t, bench, await bench.backup(capture, 'base-2'));
    } else assert.deepEqual(archive.stretches.length, 1, JSON.stringify(archive.stretches));
    await committed(t, bench, dir, 'after', 5);
    await assertNewestIsExact(t, bench, capture, 'newest');
    await capture.stop();
  });
}

test('captured log that cannot be removed once it is archived holds nothing up', async (t) => {
  const dir = await scratchDir(t);
  const bench = await sqliteBench(t, dir);
  const { archive } = bench;
  const taking = archive.segment.bind(archive);
  archive.segment = async (segment) => {
    await taking(segment);
    // A directory in its place is not removed as a file would be.
    const file = path.join(bench.instance.home, 'log-spool', segment.after.text.replace('/', '-'));
    await rm(`${file}.index`);
    await mkdir(path.join(`${file}.index`, 'kept'), { recursive: true });
    archive.segment = taking;
  };
  const capture = await bench.capture();
  await bench.backup(capture, 'base');
  await committed(t, bench, dir, 'a');
  await capture.fence();
  await committed(t, bench, dir, 'b');
  await assertNewestIsExact(t, bench, capture, 'newest');
  assert.equal(capture.health().healthy, true);
  assert.equal(archive.stretches.length, 1);
  await capture.stop();
});

test('an archive that fails where it has no business to makes the capture start again, in the same generation', async (t) => {
  const dir = await scratchDir(t);
  const bench = await sqliteBench(t, dir);
  const { archive } = bench;
  const capture = await bench.capture();
  await bench.backup(capture, 'base');
  const noting = archive.covered.bind(archive);
  let failed = false;
  archive.covered = () => {
    archive.covered = noting;
    failed = true;
    throw new Error('this was not expected');
  };
  // A fence tells at once how far is covered.
  await capture.fence().catch(() => {});
  await until('the archive has failed', () => failed);
  assert.equal(capture.health().healthy, false);
  await attached(capture);
  await committed(t, bench, dir, 'a');
  await assertNewestIsExact(t, bench, capture, 'newest');
  assert.equal(capture.health().healthy, true);
  assert.equal(archive.stretches.length, 1);
  await capture.stop();
});
