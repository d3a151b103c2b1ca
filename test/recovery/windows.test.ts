/** Recovery windows against hand-made tables and against a brute-force walk over random logs. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { StartingPoint } from '../../src/backup/chains.js';
import type { GapRecord, StretchRecord } from '../../src/catalog/records.js';
import { type Instant, instant } from '../../src/instant.js';
import { computeWindows, windowHolding } from '../../src/recovery/windows.js';

const at = (micros: number): Instant => instant(micros);

function stretch(change: Partial<StretchRecord> = {}): StretchRecord {
  return {
    id: 's1',
    instanceId: 'i',
    name: '1',
    number: 1,
    startsBecause: 'FIRST_BACKUP',
    reason: '',
    startedAt: at(0),
    startOrdinal: 0,
    endsBecause: null,
    lastOrdinal: 1000,
    lastText: '1/1000',
    coveredTo: at(1000),
    segments: 1,
    bytes: 1,
    continuation: {},
    ...change,
  };
}

function point(consistentAt: number, stretchId = 's1', replayAfter = consistentAt): StartingPoint {
  return {
    backupId: `b${consistentAt}`,
    stretchId,
    consistentAt: at(consistentAt),
    consistentOrdinal: replayAfter,
    replayAfter,
    parent: null,
    storedBytes: 1000,
  };
}

function gap(from: number, to: number, change: Partial<GapRecord> = {}): GapRecord {
  return {
    id: 'g',
    stretchId: 's1',
    from: at(from),
    to: at(to),
    after: null,
    last: null,
    because: 'LOG_GAP',
    ...change,
  };
}

test('a stretch without a backup, or without coverage, has no window', () => {
  assert.deepEqual(computeWindows([stretch()], [], []), []);
  assert.deepEqual(computeWindows([stretch({ coveredTo: null })], [], [point(5)]), []);
});

test('a window runs from the first backup to the end of coverage', () => {
  assert.deepEqual(computeWindows([stretch()], [], [point(300), point(100)]), [
    { stretchId: 's1', from: 100, to: 1000, startsBecause: 'FIRST_BACKUP', endsBecause: 'LATEST_ARCHIVED' },
  ]);
});

test('coverage that ends before the backup is consistent makes no window', () => {
  assert.deepEqual(computeWindows([stretch({ coveredTo: at(50) })], [], [point(100)]), []);
});

test('missing bytes end a window, and only a later backup opens the next', () => {
  const missing = gap(400, 500, { after: 400, last: 500, because: 'CORRUPT_LOG' });
  assert.deepEqual(
    computeWindows([stretch()], [missing], [point(100)]).map(({ from, to, endsBecause }) => [from, to, endsBecause]),
    [[100, 400, 'CORRUPT_LOG']],
  );
  assert.deepEqual(
    computeWindows([stretch()], [missing], [point(100), point(700)]).map(({ from, to, startsBecause }) => [
      from,
      to,
      startsBecause,
    ]),
    [
      [100, 400, 'FIRST_BACKUP'],
      [700, 1000, 'CORRUPT_LOG'],
    ],
  );
});

test('a backup inside missing bytes opens nothing, also where a shorter gap ends before it', () => {
  const long = gap(400, 800, { after: 400, last: 800, because: 'CORRUPT_LOG' });
  const short = gap(500, 600, { after: 500, last: 600, because: 'CORRUPT_LOG' });
  for (const gaps of [
    [long, short],
    [short, long],
  ]) {
    assert.deepEqual(
      computeWindows([stretch()], gaps, [point(100), point(700), point(900)]).map(({ from, to }) => [from, to]),
      [
        [100, 400],
        [900, 1000],
      ],
    );
  }
});

test('unknown times split a window without asking for a new backup', () => {
  assert.deepEqual(
    computeWindows([stretch()], [gap(400, 500)], [point(100)]).map(({ from, to }) => [from, to]),
    [
      [100, 400],
      [500, 1000],
    ],
  );
});

test('a backup that ends inside unknown times serves from their end on', () => {
  assert.deepEqual(
    computeWindows([stretch()], [gap(400, 500)], [point(450)]).map(({ from, to }) => [from, to]),
    [[500, 1000]],
  );
});

test('each stretch needs a backup of its own', () => {
  const first = stretch({ coveredTo: at(400), endsBecause: 'LOG_GAP' });
  const second = stretch({ id: 's2', name: '2', number: 2, startsBecause: 'LOG_GAP', coveredTo: at(900) });
  assert.deepEqual(computeWindows([second, first], [], [point(100)]).length, 1);
  assert.deepEqual(
    computeWindows([second, first], [], [point(100), point(600, 's2', 10)]).map((window) => [
      window.stretchId,
      window.from,
      window.to,
      window.startsBecause,
      window.endsBecause,
    ]),
    [
      ['s1', 100, 400, 'FIRST_BACKUP', 'LOG_GAP'],
      ['s2', 600, 900, 'LOG_GAP', 'LATEST_ARCHIVED'],
    ],
  );
});

test('random logs: an instant is in a window exactly when a walk over the log says so', () => {
  const arbitraryGaps = fc.array(
    fc.record({ from: fc.integer({ min: 0, max: 95 }), length: fc.integer({ min: 1, max: 5 }), bytes: fc.boolean() }),
    { maxLength: 4 },
  );
  fc.assert(
    fc.property(
      arbitraryGaps,
      fc.array(fc.integer({ min: 0, max: 100 }), { maxLength: 5 }),
      fc.integer({ min: 0, max: 100 }),
      (rawGaps, backups, coveredTo) => {
        // Time and ordinal run alike here: what was committed at instant t has the ordinal t.
        const gaps = rawGaps.map(({ from, length, bytes }) =>
          gap(from, from + length, bytes ? { after: from, last: from + length } : {}),
        );
        const points = backups.map((ordinal) => point(ordinal));
        const windows = computeWindows([stretch({ coveredTo: at(coveredTo) })], gaps, points);
        for (let instantOf = 0; instantOf <= 101; instantOf += 1) {
          const covered = instantOf <= coveredTo;
          const unknown = gaps.some((each) => each.from < instantOf && instantOf < each.to);
          const reachable = points.some(
            ({ consistentAt }) =>
              consistentAt <= instantOf &&
              !gaps.some((each) => each.last !== null && consistentAt < each.last && each.from < instantOf),
          );
          assert.equal(
            windowHolding(windows, at(instantOf)) !== null,
            covered && !unknown && reachable,
            `instant ${instantOf}`,
          );
        }
      },
    ),
    { numRuns: 2000 },
  );
});
