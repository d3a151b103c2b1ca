/** The round over databases at rest. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RestRound } from '../../../src/datastores/sqlite/engine/restRound.js';

test('a database that cannot even be looked at is woken, and keeps no other from being looked at', async () => {
  const round = new RestRound(5);
  const failing = round.rest(() => {
    throw Object.assign(new Error('not a directory'), { code: 'ENOTDIR' });
  });
  let asked = 0;
  const other = round.rest(() => {
    asked++;
    return asked < 3;
  });
  await failing.ended;
  await other.ended;
  assert.equal(asked, 3);
});
