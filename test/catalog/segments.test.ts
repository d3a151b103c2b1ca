/** Stretches, segments and gaps: contiguous by construction, and every question answered exactly at its edges. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Catalog, SegmentRecord } from '../../src/catalog/records.js';
import { instant } from '../../src/instant.js';
import { aGap, anInstance, aSegment, aStretch, at, scratchCatalog } from './examples.js';

/** A stretch `s` that starts at 10, with segments that end at the given ordinals. */
async function stretchWith(
  catalog: Catalog,
  ...segments: (Partial<SegmentRecord> & { last: number })[]
): Promise<void> {
  await catalog.write(async (writer) => {
    await writer.insertInstance(anInstance({ id: 'i' }));
    await writer.insertStretch(aStretch({ id: 's', instanceId: 'i', startOrdinal: 10 }));
    let after = 10;
    for (const segment of segments) {
      await writer.insertSegment(aSegment({ stretchId: 's', after, ...segment }));
      after = segment.last;
    }
  });
}

const noCommit = { transactions: 0, firstCommitAt: null, lastCommitAt: null };
const lasts = (records: { last: number }[]) => records.map(({ last }) => last);

describe('stretches', () => {
  test('come back by id, by name, by instance and newest', async (t) => {
    const { catalog } = await scratchCatalog(t);
    const first = aStretch({ id: 'b', instanceId: 'i', number: 1, continuation: { salt: 1 } });
    const second = aStretch({ id: 'a', instanceId: 'i', number: 2, startsBecause: 'LOG_GAP', startOrdinal: 2 ** 52 });
    await catalog.write(async (writer) => {
      for (const id of ['i', 'j', 'h']) await writer.insertInstance(anInstance({ id }));
      await writer.insertStretch(second);
      await writer.insertStretch(first);
      await writer.insertStretch(aStretch({ id: 'c', instanceId: 'h' }));
    });
    assert.deepEqual(await catalog.read.newestStretch('i'), second);
    assert.deepEqual(await catalog.read.stretchByName('i', 'b'), first);
    assert.equal(await catalog.read.stretchByName('h', 'b'), null);
    const all = await catalog.read.stretches(['i', 'h', 'j']);
    assert.deepEqual(
      all.map(({ id }) => id),
      ['c', 'b', 'a'],
    );
    assert.deepEqual(await catalog.read.newestStretch('i'), second);
    assert.equal(await catalog.read.newestStretch('j'), null);
  });

  test('begin empty, and end where their newest segment does', async (t) => {
    const { catalog } = await scratchCatalog(t);
    await stretchWith(catalog, { last: 20 });
    const begin = (some: object) =>
      catalog.write((writer) => writer.insertStretch(aStretch({ id: 'x', instanceId: 'i', number: 2, ...some })));
    await assert.rejects(begin({ lastOrdinal: 5 }), /does not begin empty/);
    await assert.rejects(begin({ segments: 1 }), /does not begin empty/);
    await assert.rejects(begin({ bytes: 1 }), /does not begin empty/);
    const update = (change: object) => catalog.write((writer) => writer.updateStretch('s', change));
    await assert.rejects(update({ lastOrdinal: 21 }), /ends with its newest segment/);
    await update({ lastOrdinal: 20, continuation: { at: 20 }, endsBecause: 'LOG_GAP' });
    const stretch = await catalog.read.newestStretch('i');
    assert.deepEqual([stretch?.continuation, stretch?.endsBecause, stretch?.lastOrdinal], [{ at: 20 }, 'LOG_GAP', 20]);
  });

  test('coverage of many is raised at once and never falls', async (t) => {
    const { catalog } = await scratchCatalog(t);
    await stretchWith(catalog);
    await catalog.write((writer) =>
      writer.insertStretch(aStretch({ id: 's2', instanceId: 'i', number: 2, coveredTo: at(5) })),
    );
    const covered = async () => (await catalog.read.stretches(['i'])).map(({ coveredTo }) => coveredTo);
    const raise = (one: number, two: number) =>
      catalog.write((writer) =>
        writer.raiseCoverage(
          new Map([
            ['s', at(one)],
            ['s2', at(two)],
          ]),
        ),
      );
    await raise(3, 4);
    assert.deepEqual(await covered(), [at(3), at(5)]);
    await raise(2, 9);
    assert.deepEqual(await covered(), [at(3), at(9)]);
    await assert.rejects(
      catalog.write((writer) =>
        writer.raiseCoverage(
          new Map([
            ['s', at(90)],
            ['unknown', at(1)],
          ]),
        ),
      ),
      /no Stretch unknown/,
    );
    assert.deepEqual(await covered(), [at(3), at(9)], 'all or nothing');
  });
});

describe('segments', () => {
  test('move their stretch along and carry the greatest commit time so far', async (t) => {
    const { catalog } = await scratchCatalog(t);
    await stretchWith(
      catalog,
      { last: 11, ...noCommit, coveredTo: at(1) },
      { last: 20, firstCommitAt: at(4), lastCommitAt: at(9), latestCommitAt: at(1), coveredTo: at(50) },
      // Log order is not time order: this one's commits are older than the one's before.
      { last: 30, firstCommitAt: at(5), lastCommitAt: at(7), coveredTo: at(40), lastText: 'g/30' },
      {
        last: 31,
        ...noCommit,
        coveredTo: at(41),
        object: { key: 'k', plainBytes: 5, storedBytes: 3, sha256: '0'.repeat(64), blake3: '1'.repeat(64) },
      },
    );
    const all = await catalog.read.segments('s', { after: 0, last: 99 }, 'oldest-first', 10);
    assert.deepEqual(
      all.map(({ latestCommitAt }) => latestCommitAt),
      [null, at(9), at(9), at(9)],
    );
    assert.deepEqual(all[3], {
      ...aSegment({ stretchId: 's', after: 30, last: 31, ...noCommit, coveredTo: at(41), latestCommitAt: at(9) }),
      object: { key: 'k', plainBytes: 5, storedBytes: 3, sha256: '0'.repeat(64), blake3: '1'.repeat(64) },
    });
    const stretch = await catalog.read.newestStretch('i');
    assert.deepEqual(
      [stretch?.lastOrdinal, stretch?.lastText, stretch?.coveredTo, stretch?.segments, stretch?.bytes],
      [31, '31', at(50), 4, 33],
    );
  });

  test('one that does not continue its stretch is refused, and changes nothing', async (t) => {
    const { catalog } = await scratchCatalog(t);
    await stretchWith(catalog, { last: 20 });
    const append = (after: number, last: number, stretchId = 's') =>
      catalog.write((writer) => writer.insertSegment(aSegment({ stretchId, after, last })));
    await assert.rejects(append(21, 30), /ends at 20, not 21/);
    await assert.rejects(append(10, 20), /ends at 20, not 10/);
    await assert.rejects(append(19, 30), /ends at 20, not 19/);
    await assert.rejects(append(20, 20), /CHECK/);
    await assert.rejects(append(20, 30, 'unknown'), /no Stretch unknown/);
    assert.equal((await catalog.read.newestStretch('i'))?.segments, 1);
    await append(20, 30);
    assert.equal((await catalog.read.newestStretch('i'))?.lastOrdinal, 30);
  });

  test('two appended in one transaction without waiting stay in order', async (t) => {
    const { catalog } = await scratchCatalog(t);
    await stretchWith(catalog);
    await catalog.write(async (writer) => {
      await Promise.all([
        writer.insertSegment(aSegment({ stretchId: 's', after: 10, last: 20 })),
        writer.insertSegment(aSegment({ stretchId: 's', after: 20, last: 30 })),
      ]);
    });
    assert.equal((await catalog.read.newestStretch('i'))?.segments, 2);
  });

  test('those of a range are the ones that overlap (after, last]', async (t) => {
    const { catalog } = await scratchCatalog(t);
    await stretchWith(catalog, { last: 20 }, { last: 30 }, { last: 40 }, { last: 50 });
    const within = async (after: number, last: number, order: 'oldest-first' | 'newest-first', limit = 10) =>
      lasts(await catalog.read.segments('s', { after, last }, order, limit));
    assert.deepEqual(await within(10, 50, 'oldest-first'), [20, 30, 40, 50]);
    assert.deepEqual(await within(10, 50, 'newest-first'), [50, 40, 30, 20]);
    assert.deepEqual(await within(0, 2 ** 53 - 1, 'newest-first'), [50, 40, 30, 20]);
    assert.deepEqual(await within(20, 30, 'oldest-first'), [30]);
    assert.deepEqual(await within(19, 31, 'oldest-first'), [20, 30, 40]);
    assert.deepEqual(await within(25, 26, 'newest-first'), [30]);
    assert.deepEqual(await within(25, 25, 'newest-first'), [], 'nothing lies in (25, 25]');
    assert.deepEqual(await within(0, 10, 'oldest-first'), []);
    assert.deepEqual(await within(50, 60, 'oldest-first'), []);
    assert.deepEqual(await within(10, 50, 'newest-first', 2), [50, 40]);
    assert.deepEqual(await within(20, 50, 'oldest-first', 2), [30, 40]);
    assert.deepEqual(await within(10, 50, 'oldest-first', 0), []);
  });

  test('totals of every range equal the sums over its segments', async (t) => {
    const { catalog } = await scratchCatalog(t);
    const ends = [12, 13, 20, 31, 32];
    await stretchWith(
      catalog,
      ...ends.map((last, index) => ({
        last,
        object: { key: `k${index}`, plainBytes: 2 ** 40 + 3 ** index, storedBytes: 7 ** index, sha256: 'f'.repeat(64) },
      })),
    );
    for (let after = 9; after <= 33; after++) {
      for (let last = after; last <= 34; last++) {
        const overlapping = await catalog.read.segments('s', { after, last }, 'oldest-first', 10);
        assert.deepEqual(await catalog.read.segmentTotals('s', { after, last }), {
          segments: overlapping.length,
          plainBytes: overlapping.reduce((sum, { object }) => sum + object.plainBytes, 0),
          storedBytes: overlapping.reduce((sum, { object }) => sum + object.storedBytes, 0),
          after: overlapping[0]?.after ?? null,
          last: overlapping.at(-1)?.last ?? null,
          contiguous: true,
        });
      }
    }
  });

  test('a hole in the bytes breaks the ranges it overlaps, a hole in the times none', async (t) => {
    const { catalog } = await scratchCatalog(t);
    await stretchWith(catalog, { last: 20 }, { last: 30 }, { last: 40 });
    const bytesMissing = aGap({ id: 'g1', stretchId: 's', from: at(5), after: 20, last: 30, because: 'CORRUPT_LOG' });
    const timesUnknown = aGap({ id: 'g2', stretchId: 's' });
    await catalog.write(async (writer) => {
      await writer.insertGap(bytesMissing);
      await writer.insertGap(timesUnknown);
    });
    assert.deepEqual(await catalog.read.gaps(['s', 'x']), [timesUnknown, bytesMissing]);
    const whole = async (after: number, last: number) =>
      (await catalog.read.segmentTotals('s', { after, last })).contiguous;
    assert.equal(await whole(10, 20), true);
    assert.equal(await whole(10, 21), false);
    assert.equal(await whole(20, 30), false);
    assert.equal(await whole(24, 25), false);
    assert.equal(await whole(25, 25), true, 'nothing is asked for');
    assert.equal(await whole(29, 40), false);
    assert.equal(await whole(30, 40), true);
  });

  test('the gaps of more stretches than one statement takes come in the same order', async (t) => {
    const { catalog } = await scratchCatalog(t);
    const gaps = ['s00500', 's39999'].flatMap((stretchId) =>
      [1, 2].map((from) => aGap({ id: `g-${stretchId}-${from}`, stretchId, from: at(from) })),
    );
    await catalog.write(async (writer) => {
      await writer.insertInstance(anInstance({ id: 'i' }));
      await writer.insertStretch(aStretch({ id: 's00500', instanceId: 'i' }));
      await writer.insertStretch(aStretch({ id: 's39999', instanceId: 'i', number: 2 }));
      for (const gap of [...gaps].reverse()) await writer.insertGap(gap);
    });
    const ids = Array.from({ length: 40_000 }, (_, number) => `s${String(number).padStart(5, '0')}`);
    assert.deepEqual(await catalog.read.gaps(ids), gaps);
    assert.deepEqual(
      await catalog.read.gaps([...ids.reverse(), ...ids]),
      gaps,
      'each once, however they are asked for',
    );
    assert.deepEqual(await catalog.read.gaps([]), []);
  });

  test('the cut for an instant lies in the oldest segment with a later commit', async (t) => {
    const { catalog } = await scratchCatalog(t);
    await stretchWith(
      catalog,
      { last: 11, ...noCommit },
      { last: 20, firstCommitAt: at(5), lastCommitAt: at(9) },
      { last: 30, firstCommitAt: at(5), lastCommitAt: at(7) },
      { last: 31, ...noCommit },
      { last: 40, firstCommitAt: at(10), lastCommitAt: at(12) },
    );
    const after = async (time: number) => (await catalog.read.firstSegmentCommittedAfter('s', at(time)))?.last ?? null;
    assert.equal(await after(0), 20);
    assert.equal(await after(8), 20);
    assert.equal(await after(9), 40);
    assert.equal(await after(11), 40);
    assert.equal(await after(12), null);
    assert.equal((await catalog.read.firstSegmentCommittedAfter('s', instant(0)))?.last, 20);
    assert.equal(await catalog.read.firstSegmentCommittedAfter('unknown', at(0)), null);
  });

  test('the last kept commit lies in the newest segment with one; an ordinal in the segment that holds it', async (t) => {
    const { catalog } = await scratchCatalog(t);
    await stretchWith(catalog, { last: 11, ...noCommit }, { last: 20 }, { last: 30, ...noCommit }, { last: 40 });
    const upTo = async (ordinal: number) => (await catalog.read.lastSegmentWithCommitUpTo('s', ordinal))?.last ?? null;
    assert.deepEqual(await Promise.all([11, 19, 20, 30, 39, 40, 2 ** 53 - 1].map(upTo)), [
      null,
      null,
      20,
      20,
      20,
      40,
      40,
    ]);
    const holding = async (ordinal: number) => (await catalog.read.segmentHolding('s', ordinal))?.last ?? null;
    assert.deepEqual(await Promise.all([0, 10, 11, 12, 20, 21, 40, 41].map(holding)), [
      null,
      null,
      11,
      20,
      20,
      30,
      40,
      null,
    ]);
  });
});
