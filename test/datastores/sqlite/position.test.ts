/** Positions as users write them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parsePosition } from '../../../src/datastores/sqlite/formats/position.js';

test('a generation and a transaction, and nothing else', () => {
  assert.deepEqual(parsePosition('3/1204'), { stretch: '3', ordinal: 1204, text: '3/1204' });
  assert.deepEqual(parsePosition('1/0'), { stretch: '1', ordinal: 0, text: '1/0' });
  for (const text of [
    '',
    '3',
    '0/1',
    '03/1',
    '3/01',
    '3/-1',
    '3/1 ',
    ' 3/1',
    '3/1.5',
    '3/1/2',
    '0/3000A28',
    '3/9999999999999999',
  ]) {
    assert.equal(parsePosition(text), null, text);
  }
});
