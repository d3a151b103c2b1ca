/** Which backups a recovery can start from: those whose chain is whole and of one stretch. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chainOf, startingPoints } from '../../src/backup/chains.js';
import type { BackupPoint } from '../../src/catalog/records.js';
import { instant } from '../../src/instant.js';

function backup(backupId: string, parentId: string | null, change: Partial<BackupPoint> = {}): BackupPoint {
  return {
    backupId,
    instanceId: 'i',
    type: parentId === null ? 'FULL' : 'INCREMENTAL',
    parentId,
    stretchId: 's1',
    consistentAt: instant(1),
    consistentOrdinal: 1,
    replayAfter: 1,
    storedBytes: 10,
    ...change,
  };
}

test('a chain is listed from its base on, whatever the order of the rows', () => {
  const rows = [backup('c', 'b'), backup('a', null), backup('b', 'a'), backup('d', 'a', { type: 'DIFFERENTIAL' })];
  const found = new Map(startingPoints(rows).map((point) => [point.backupId, point]));
  assert.deepEqual([...found.keys()].sort(), ['a', 'b', 'c', 'd']);
  assert.equal(found.get('c')?.storedBytes, 30);
  const chains = [...found.values()].map((point) => chainOf(point).join(' '));
  assert.deepEqual(chains.sort(), ['a', 'a b', 'a b c', 'a d']);
});

test('what stands on a backup that is gone, or of another stretch, is no start', () => {
  const rows = [
    backup('a', null),
    backup('orphan', 'gone'),
    backup('on-orphan', 'orphan'),
    backup('other', 'a', { stretchId: 's2' }),
    backup('on-other', 'other', { stretchId: 's2' }),
  ];
  assert.deepEqual(
    startingPoints(rows).map(({ backupId }) => backupId),
    ['a'],
  );
});

test('a chain may be longer than any stack is deep', () => {
  const rows = Array.from({ length: 50_000 }, (_, i) => backup(String(i), i === 0 ? null : String(i - 1)));
  const points = startingPoints(rows.reverse());
  assert.equal(points.length, 50_000);
  assert.equal(Math.max(...points.slice(-9).map((point) => chainOf(point).length)), 50_000);
});
