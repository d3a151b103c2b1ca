/** How much each caller may do at a time: the arithmetic with a clock of the test's, and that quiet callers are forgotten. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Fault } from '../../../src/errors.js';
import { CallerLimits, callerKey, retryAfter } from '../../../src/gateway/limits/callerLimits.js';

const START = Date.parse('2026-11-22T12:00:00Z');

function limitsAt(change: Partial<ConstructorParameters<typeof CallerLimits>[0]> = {}) {
  const clock = { now: START };
  return { clock, limits: new CallerLimits({ rate: 2, connections: 2, subscriptions: 3, ...change }, () => clock.now) };
}

function refusalOf(work: () => unknown): Fault {
  try {
    work();
  } catch (thrown) {
    assert.ok(thrown instanceof Fault);
    assert.equal(thrown.code, 'TOO_MANY_REQUESTS');
    return thrown;
  }
  throw new assert.AssertionError({ message: 'nothing was refused' });
}

test('ten seconds’ worth at once, then the rate, and the refusal says from when on', () => {
  const { clock, limits } = limitsAt();
  for (let count = 0; count < 20; count++) limits.arrive('a');
  const { details, retryable } = refusalOf(() => limits.arrive('a'));
  assert.deepEqual(details, { limit: 'rate', most: 2, retryAt: '2026-11-22T12:00:00.500000Z' });
  assert.equal(retryable, true);
  clock.now = START + 499;
  refusalOf(() => limits.arrive('a'));
  clock.now = START + 500;
  limits.arrive('a');
  refusalOf(() => limits.arrive('a'));
  // However long nothing came, no more than the ten seconds' worth.
  clock.now = START + 86_400_000;
  for (let count = 0; count < 20; count++) limits.arrive('a');
  refusalOf(() => limits.arrive('a'));
});

test('every full thousand of cost is one operation more, which the next ones wait for', () => {
  const { clock, limits } = limitsAt();
  limits.arrive('a');
  limits.charge('a', 999);
  limits.charge('a', 22_500);
  assert.equal(refusalOf(() => limits.arrive('a')).details.retryAt, '2026-11-22T12:00:02.000000Z');
  clock.now += 2_000;
  limits.arrive('a');
});

test('callers have nothing to do with each other, and a rate of 0 is none', () => {
  const { limits } = limitsAt({ rate: 1 });
  for (let count = 0; count < 10; count++) limits.arrive('a');
  refusalOf(() => limits.arrive('a'));
  limits.arrive('b');
  const free = limitsAt({ rate: 0 }).limits;
  for (let count = 0; count < 1_000; count++) free.arrive('a');
});

test('places are taken and given back, once each', () => {
  const { limits } = limitsAt();
  const [first, second] = [limits.connect('a'), limits.connect('a')];
  assert.deepEqual(refusalOf(() => limits.connect('a')).details, { limit: 'connections', most: 2 });
  limits.connect('b');
  first();
  first();
  limits.connect('a');
  refusalOf(() => limits.connect('a'));
  second();
  const operations = [1, 2, 3].map(() => limits.begin('a'));
  assert.deepEqual(refusalOf(() => limits.begin('a')).details, { limit: 'subscriptions', most: 3 });
  operations[0]?.();
  limits.begin('a');
});

test('a clock that is set back gives nothing and takes nothing', () => {
  const { clock, limits } = limitsAt();
  for (let count = 0; count < 20; count++) limits.arrive('a');
  clock.now -= 3_600_000;
  refusalOf(() => limits.arrive('a'));
  clock.now += 500;
  limits.arrive('a');
});

test('who is quiet and holds nothing is forgotten, who holds something is not', () => {
  const { clock, limits } = limitsAt();
  const release = limits.connect('holder');
  for (let count = 0; count < 50_000; count++) {
    clock.now += 100;
    limits.arrive(`caller ${count}`);
  }
  assert.ok(limits.size < 5_000, String(limits.size));
  limits.connect('holder');
  refusalOf(() => limits.connect('holder'));
  release();
});

test('a caller is a name within a tenant, or an address where there are no names', () => {
  const key = (tenantId: string, name?: string, address = '1') => callerKey({ tenantId, role: 'admin', name }, address);
  assert.equal(key('t', 'n', '1'), key('t', 'n', '2'));
  const different = [key('t', 'n'), key('u', 'n'), key('t', 'm'), key('t', undefined, '1'), key('t', undefined, '2')];
  assert.equal(new Set([...different, key('t', '1'), key('t","n')]).size, different.length + 2);
});

test('Retry-After is whole seconds, at least one', () => {
  const at = (ms: number) => new Fault('TOO_MANY_REQUESTS', 'x', { details: { retryAt: new Date(ms).toISOString() } });
  assert.equal(retryAfter(at(Date.now() - 5_000)), 1);
  const seconds = retryAfter(at(Date.now() + 60_000));
  assert.ok(seconds !== null && seconds > 30 && seconds <= 60, String(seconds));
  assert.equal(retryAfter(new Fault('TOO_MANY_REQUESTS', 'x')), 1);
  assert.equal(retryAfter(new Fault('INTERNAL', 'x')), null);
});
