/** When a full backup is made of an older one by the service itself. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type RollFacts, type RollVerdict, rollVerdict } from '../../src/backup/rollForwardDue.js';
import { type Instant, instant } from '../../src/instant.js';

const GIB = 2 ** 30;
const HOUR = 3_600 * 1_000_000;
const NOON = 1_800_000_000_000_000;
const ago = (micros: number): Instant => instant(NOON - micros);

const due: RollFacts = {
  backupBytes: GIB,
  logBytes: GIB + 1,
  lastBegunAt: null,
  now: instant(NOON),
  freeBytes: 5 * GIB,
};

const cases: [what: string, change: Partial<RollFacts>, verdict: RollVerdict][] = [
  ['more log than backup, and none before', {}, 'due'],
  ['as much log as backup', { logBytes: GIB }, 'little log'],
  ['no log', { logBytes: 0 }, 'little log'],
  ['an empty backup and no log', { backupBytes: 0, logBytes: 0 }, 'little log'],
  ['much more log', { logBytes: 50 * GIB }, 'due'],
  ['one just begun', { lastBegunAt: ago(0) }, 'lately'],
  ['one begun a moment less than a day ago', { lastBegunAt: ago(24 * HOUR - 1) }, 'lately'],
  ['one begun a day ago', { lastBegunAt: ago(24 * HOUR) }, 'due'],
  ['one of a clock that was ahead', { lastBegunAt: ago(-HOUR) }, 'lately'],
  ['a byte too little room', { freeBytes: 5 * GIB - 1 }, 'no room'],
  ['no room, but nothing to do either', { freeBytes: 0, logBytes: 0 }, 'little log'],
  ['no room, and one made lately', { freeBytes: 0, lastBegunAt: ago(HOUR) }, 'lately'],
];

for (const [what, change, verdict] of cases) {
  test(`${what}: ${verdict}`, () => {
    assert.equal(rollVerdict({ ...due, ...change }), verdict);
  });
}
