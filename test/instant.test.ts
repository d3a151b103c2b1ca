/** Instants as users write and read them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Fault } from '../src/errors.js';
import { formatInstant, instant, parseInstant } from '../src/instant.js';

test('offsets and decimals are understood to the microsecond', () => {
  const expected = Date.UTC(2026, 10, 22, 17, 5, 1) * 1000 + 123456;
  for (const text of [
    '2026-11-22T17:05:01.123456Z',
    '2026-11-22T17:05:01.123456+00:00',
    '2026-11-23T02:05:01.123456+09:00',
    '2026-11-22T12:35:01.123456-04:30',
    '2026-11-22t17:05:01.123456z',
  ]) {
    assert.equal(parseInstant(text), expected, text);
  }
  assert.equal(parseInstant('1970-01-01T00:00:00Z'), 0);
  assert.equal(parseInstant('2026-11-22T17:05:01.5Z') % 1_000_000, 500_000);
});

test('anything else is refused with its code and an example', () => {
  for (const text of [
    '',
    'now',
    '2026-11-22',
    '2026-11-22T17:05:01',
    '2026-11-22T17:05:01.1234567Z',
    '2026-11-22T17:05:01.Z',
    '2026-02-29T00:00:00Z',
    '2026-13-01T00:00:00Z',
    '2026-00-01T00:00:00Z',
    '2026-11-00T00:00:00Z',
    '2026-11-22T24:00:00Z',
    '2026-11-22T17:60:00Z',
    '2026-11-22T17:05:60Z',
    '2026-11-22T17:05:01+24:00',
    '2026-11-22T17:05:01+0900',
    '1969-12-31T23:59:59Z',
    '1970-01-01T00:00:00+01:00',
    ' 2026-11-22T17:05:01Z',
    '2026-11-22T17:05:01Z\n',
    '1795366801',
  ]) {
    assert.throws(
      () => parseInstant(text),
      (error: unknown) => error instanceof Fault && error.code === 'INVALID_POINT_IN_TIME' && error.hint !== null,
      JSON.stringify(text),
    );
  }
});

test('what is written is read back the same', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 ** 52 }), (micros) => {
      assert.equal(parseInstant(formatInstant(instant(micros))), micros);
    }),
  );
});
