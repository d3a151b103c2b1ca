/** DateTime and BigInt over real HTTP: what is taken, what is refused, and how answers are written. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseInstant } from '../../src/instant.js';
import { gatewayUnderTest, onlyError } from '../support/gatewayUnderTest.js';

const literal = (value: string) => `{ backups(instanceId: "shop", before: ${value}) { id } }`;
const variable = 'query ($before: DateTime) { backups(instanceId: "shop", before: $before) { id } }';

test('an instant reaches the service as microseconds, from a literal and from a variable', async (t) => {
  const { post, services } = await gatewayUnderTest(t);
  const text = '2026-11-22T19:05:01.123456+02:00';
  await post(literal(JSON.stringify(text)));
  await post(variable, { before: text });
  await post(variable, { before: null });
  const asked = services.callsOf('backups.startingPoints').map(([, before]) => before);
  assert.deepEqual(asked, [parseInstant(text), parseInstant('2026-11-22T17:05:01.123456Z'), null]);
});

for (const wrong of [
  '"2026-11-22T17:05:01"',
  '"2026-11-22T17:05:01.1234567Z"',
  '"2026-02-30T00:00:00Z"',
  '""',
  '5',
  '{}',
]) {
  test(`${wrong} is refused with INVALID_POINT_IN_TIME, literal and variable alike`, async (t) => {
    const { post, services } = await gatewayUnderTest(t);
    for (const answer of [await post(literal(wrong)), await post(variable, { before: JSON.parse(wrong) })]) {
      const { extensions, message } = onlyError(answer);
      assert.equal(answer.status, 200);
      assert.equal(extensions.code, 'INVALID_POINT_IN_TIME');
      assert.equal(extensions.retryable, false);
      assert.match(String(extensions.hint), /six decimals/);
      assert.match(message, /is not a point in time/);
    }
    assert.deepEqual(services.calls, []);
  });
}

test('answers are UTC with six decimals, and byte counts are JSON numbers up to 2^53 - 1', async (t) => {
  const { post } = await gatewayUnderTest(t);
  const { data, errors } = await post('{ backup(id: "full") { consistentAt sizeBytes storedBytes } }');
  assert.equal(errors, undefined);
  assert.deepEqual(data?.backup, {
    consistentAt: '2026-11-22T12:00:00.000001Z',
    sizeBytes: 2 ** 53 - 1,
    storedBytes: 2 ** 33,
  });
});

test('a count that is not a whole number is an internal error, never a rounded answer', async (t) => {
  const { post, services } = await gatewayUnderTest(t);
  Object.assign(services.backupRows[0] ?? {}, { sizeBytes: 2 ** 53 });
  const answer = await post('{ backup(id: "full") { id sizeBytes } }');
  assert.equal(onlyError(answer).extensions.code, 'INTERNAL');
  assert.deepEqual(answer.data?.backup, { id: 'full', sizeBytes: null });
});
