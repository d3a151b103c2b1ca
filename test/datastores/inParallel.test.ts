import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { inParallel } from '../../src/datastores/inParallel.js';

test('when the items fail, what runs has ended before that is told, and takes no turn any more', async () => {
  let ended = false;
  const turns: number[] = [];
  async function* items() {
    yield 1;
    throw new Error('there are no more');
  }
  const all = inParallel(items(), 4, async (item, inTurn) => {
    try {
      for (let n = 0; n < 20; n++) await turn();
      await inTurn(() => turns.push(item));
    } finally {
      ended = true;
    }
  });
  await assert.rejects(all, /no more/);
  assert.equal(ended, true);
  assert.deepEqual(turns, []);
});

test('turns come in the order of the items, and the first error is thrown when all have ended', async () => {
  const turns: number[] = [];
  let running = 0;
  const all = inParallel([1, 2, 3, 4, 5], 3, async (item, inTurn) => {
    running += 1;
    try {
      for (let n = 0; n < 10 - item; n++) await turn();
      if (item === 4) throw new Error('the fourth');
      await inTurn(() => turns.push(item));
    } finally {
      running -= 1;
    }
  });
  await assert.rejects(all, /the fourth/);
  assert.equal(running, 0);
  assert.deepEqual(turns.slice(0, 3), [1, 2, 3].slice(0, turns.length));
});
