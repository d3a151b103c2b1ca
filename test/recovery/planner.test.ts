/** The planner's decisions, case by case. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { StartingPoint } from '../../src/backup/chains.js';
import type { GapRecord } from '../../src/catalog/records.js';
import { Fault, type FaultCode } from '../../src/errors.js';
import { formatInstant, type Instant, instant } from '../../src/instant.js';
import type { Cut, LogPosition } from '../../src/model.js';
import {
  candidateStarts,
  cheapestStart,
  chooseWindow,
  composePlan,
  type LogToReplay,
  latestWindow,
  mayBecomeCovered,
  type PlanningFacts,
  refusalOfPosition,
} from '../../src/recovery/planner.js';
import type { StretchWindow } from '../../src/recovery/windows.js';

const SECOND = 1_000_000;
const at = (seconds: number): Instant => instant(seconds * SECOND);

function window(from: number, to: number, stretchId = 's1'): StretchWindow {
  return { stretchId, from: at(from), to: at(to), startsBecause: 'FIRST_BACKUP', endsBecause: 'LATEST_ARCHIVED' };
}

function facts(windows: StretchWindow[], now = 1000): PlanningFacts {
  return { windows, now: at(now), gaps: [], points: windows.map(({ from }) => point('b', from / SECOND)) };
}

function position(ordinal: number): LogPosition {
  return { stretch: '1', ordinal, text: `1/${ordinal}` };
}

function point(backupId: string, consistentOrdinal: number, replayAfter = consistentOrdinal): StartingPoint {
  const consistentAt = at(consistentOrdinal);
  const own = { backupId, stretchId: 's1', consistentAt, consistentOrdinal, replayAfter };
  return { ...own, parent: null, storedBytes: 1000 };
}

/** A backup that stands on another, of so many stored bytes itself. */
function on(parent: StartingPoint, backupId: string, consistentOrdinal: number, bytes: number): StartingPoint {
  return { ...point(backupId, consistentOrdinal), parent, storedBytes: parent.storedBytes + bytes };
}

function refused(code: FaultCode, details: Record<string, Instant> = {}): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof Fault);
    assert.equal(error.code, code);
    assert.ok(error.hint, 'every refusal says what to do next');
    for (const [key, value] of Object.entries(details)) assert.equal(error.details[key], formatInstant(value), key);
    return true;
  };
}

test('both ends of a window belong to it, the microseconds beside them do not', () => {
  const known = facts([window(100, 200)]);
  assert.equal(chooseWindow(at(100), known).stretchId, 's1');
  assert.equal(chooseWindow(at(200), known).stretchId, 's1');
  assert.throws(() => chooseWindow(instant(at(100) - 1), known), refused('TARGET_TOO_EARLY'));
  assert.throws(() => chooseWindow(instant(at(200) + 1), known), refused('TARGET_TOO_LATE'));
});

test('refusals name the code and the nearest good instants', () => {
  const known = facts([window(100, 200), window(300, 400, 's2')]);
  const ends = { earliest: at(100), latest: at(400) };
  assert.throws(() => chooseWindow(at(50), known), refused('TARGET_TOO_EARLY', { ...ends, nearestAfter: at(100) }));
  assert.throws(() => chooseWindow(at(450), known), refused('TARGET_TOO_LATE', { ...ends, nearestBefore: at(400) }));
  assert.throws(
    () => chooseWindow(at(250), known),
    refused('TARGET_IN_LOG_GAP', { ...ends, nearestBefore: at(200), nearestAfter: at(300) }),
  );
  assert.throws(() => chooseWindow(at(2000), known), /lies in the future/);
  assert.throws(() => chooseWindow(at(50), facts([])), refused('NO_BACKUP'));
  assert.throws(() => chooseWindow(at(50), { ...facts([]), points: [point('b', 1)] }), refused('NO_BACKUP'));
});

test('an instant in two windows means the earlier stretch, so that later log never changes it', () => {
  assert.equal(chooseWindow(at(150), facts([window(100, 200), window(140, 300, 's2')])).stretchId, 's1');
});

test('the latest point is the end of the last window', () => {
  assert.equal(latestWindow(facts([window(100, 200), window(300, 400)])).to, at(400));
  const newer = { ...window(200, 200), stretchId: 'newer' };
  assert.equal(latestWindow(facts([window(100, 200), newer])), newer, 'also where both end with the same instant');
  assert.throws(() => latestWindow(facts([])), refused('NO_BACKUP'));
});

test('a fence is worth asking for only between the end of coverage and now', () => {
  const known = facts([window(100, 200)], 1000);
  assert.equal(mayBecomeCovered(at(150), known), false);
  assert.equal(mayBecomeCovered(at(200), known), false);
  assert.equal(mayBecomeCovered(at(201), known), true);
  assert.equal(mayBecomeCovered(at(1000), known), true);
  assert.equal(mayBecomeCovered(at(1001), known), false);
  assert.equal(mayBecomeCovered(null, known), true);
});

function base(cut: number, points: StartingPoint[], more: { before?: Instant; gaps?: GapRecord[] } = {}) {
  const wanted = { cut: position(cut), stretchId: 's1', before: more.before ?? null };
  const found = candidateStarts(wanted, { points, gaps: more.gaps ?? [] });
  assert.ok(found.length <= 1, 'one full backup and nothing on it');
  return found[0]?.backupId ?? null;
}

test('the base is the newest one that the cut does not come before', () => {
  const points = [point('old', 10), point('new', 50), point('later', 90)];
  assert.equal(base(60, points), 'new');
  assert.equal(base(50, points), 'new');
  assert.equal(base(49, points), 'old');
  assert.equal(base(9, points), null);
  // Consistent only at 80, although its replay begins at 40: not usable for 60.
  assert.equal(base(60, [point('old', 10), point('slow', 80, 40)]), 'old');
});

test('a base that was not consistent by the requested instant is not used, whatever the log says', () => {
  const points = [point('old', 10), { ...point('late', 50), consistentAt: at(70) }];
  assert.equal(base(60, points, { before: at(69) }), 'old');
  assert.equal(base(60, points, { before: at(70) }), 'late');
});

test('a base of another stretch, or beyond missing bytes, is not used', () => {
  const missing: GapRecord = {
    id: 'g',
    stretchId: 's1',
    from: at(20),
    to: at(30),
    after: 20,
    last: 30,
    because: 'CORRUPT_LOG',
  };
  const points = [point('old', 10), point('new', 50)];
  assert.equal(base(60, [{ ...point('other', 10), stretchId: 's2' }]), null);
  assert.equal(base(40, points, { gaps: [missing] }), null);
  assert.equal(base(60, points, { gaps: [missing] }), 'new');
  assert.equal(base(20, points, { gaps: [missing] }), 'old', 'the cut lies before what is missing');
  assert.equal(base(40, points, { gaps: [{ ...missing, stretchId: 's2' }] }), 'old');
  assert.equal(base(40, points, { gaps: [{ ...missing, after: null, last: null }] }), 'old', 'only times are unknown');
});

const cutAt = (ordinal: number): Cut => ({
  position: position(ordinal),
  lastKeptNotBefore: at(ordinal - 1),
  lastKeptAt: at(ordinal),
  firstDroppedAt: at(ordinal + 1),
});
const log = (change: Partial<LogToReplay> = {}): LogToReplay => ({
  segments: 3,
  plainBytes: 300,
  storedBytes: 200,
  after: 40,
  last: 100,
  contiguous: true,
  ...change,
});
const compose = (cut: Cut, base: StartingPoint, totals: LogToReplay) =>
  composePlan({
    instanceId: 'i',
    target: { pointInTime: at(500), position: null },
    cut,
    from: base,
    log: totals,
    order: ['REPLAY_LOG', 'APPLY_INCREMENTALS', 'RESTORE_BASE'],
  });

test('of the backups on others those are weighed that are newer than the newest full one, the newest six', () => {
  const first = point('first', 10);
  const second = point('second', 50);
  const stale = on(first, 'stale', 40, 1);
  const chain: StartingPoint[] = [];
  for (const ordinal of [60, 62, 64, 66, 68, 70, 72, 74]) {
    chain.push(on(chain.at(-1) ?? second, `c${ordinal}`, ordinal, 1));
  }
  const points = [stale, ...chain, first, second];
  const names = (cut: number) =>
    candidateStarts({ cut: position(cut), stretchId: 's1', before: null }, { points, gaps: [] }).map(
      ({ backupId }) => backupId,
    );
  assert.deepEqual(names(100), ['second', 'c74', 'c72', 'c70', 'c68', 'c66', 'c64']);
  assert.deepEqual(names(63), ['second', 'c62', 'c60']);
  assert.deepEqual(names(45), ['first', 'stale']);
});

test('the cheapest start has the fewest bytes to fetch, log included; of equals the newer one', () => {
  const full = point('full', 10);
  const large = on(full, 'large', 50, 500);
  const costs = (logOfFull: number, logOfLarge: number) =>
    cheapestStart([
      { from: full, log: log({ storedBytes: logOfFull }) },
      { from: large, log: log({ storedBytes: logOfLarge }) },
    ])?.from.backupId;
  assert.equal(costs(600, 99), 'large');
  assert.equal(costs(600, 101), 'full');
  assert.equal(costs(600, 100), 'large');
  assert.equal(cheapestStart([]), null);
});

test('a plan from a backup on another names the full one as its base and all that stand on it', () => {
  const full = point('full', 10);
  const plan = compose(cutAt(60), on(on(full, 'one', 30, 7), 'two', 50, 5), log());
  assert.equal(plan.baseId, 'full');
  assert.deepEqual(plan.incrementalIds, ['one', 'two']);
  assert.equal(plan.replayAfter, 50);
  assert.equal(plan.bytesToFetch, 1212);
});

test('a plan names its base, its log and the closest point', () => {
  const plan = compose(cutAt(60), point('b', 50, 45), log());
  assert.equal(plan.baseId, 'b');
  assert.equal(plan.replayAfter, 45);
  assert.equal(plan.bytesToFetch, 1200);
  assert.equal(plan.logSegments, 3);
  assert.equal(plan.closestPointInTime, at(60));
  const order = ['RESERVE', 'REPLAY_LOG', 'APPLY_INCREMENTALS', 'RESTORE_BASE', 'VERIFY', 'ACTIVATE'];
  assert.deepEqual(plan.steps, order);
});

test('nothing committed after the base: the closest point is the base itself', () => {
  const plan = compose(cutAt(50), point('b', 50, 45), log());
  assert.equal(plan.cut.lastKeptAt, null);
  assert.equal(plan.cut.lastKeptNotBefore, null);
  assert.equal(plan.closestPointInTime, at(50));
});

test('log that does not reach from the base to the cut is never planned with', () => {
  const base = point('b', 50, 45);
  for (const totals of [
    log({ after: 46 }),
    log({ last: 59 }),
    log({ contiguous: false }),
    log({ after: null, last: null, segments: 0 }),
  ]) {
    assert.throws(() => compose(cutAt(60), base, totals), refused('LOG_CORRUPT'));
  }
});

test('without any log to replay, none is asked for', () => {
  const plan = compose(cutAt(45), point('b', 45), log({ after: null, last: null, segments: 0 }));
  assert.equal(plan.closestPointInTime, at(45));
});

test('a position before every backup is too early', () => {
  assert.equal(refusalOfPosition(facts([window(100, 200)])).code, 'TARGET_TOO_EARLY');
  assert.equal(refusalOfPosition(facts([])).code, 'NO_BACKUP');
});
