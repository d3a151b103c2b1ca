/** The bracketing clock against a simulated machine whose true time is known. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { BracketClock } from '../../../src/datastores/sqlite/follower/bracketClock.js';

/** A machine: every reading takes a little time, the wall clock is slewed, whole milliseconds are told. */
class Machine {
  /** Nanoseconds of the counter, and of the wall clock. */
  counter = 5_000_000_000;
  wall = 1_700_000_000_000_000_000;
  constructor(private readonly slew: number) {}

  pass(nanos: number): void {
    this.counter += nanos;
    this.wall += nanos * (1 + this.slew);
  }

  clock(): BracketClock {
    return new BracketClock(
      () => {
        this.pass(150);
        const told = Math.floor(this.wall / 1e6);
        this.pass(150);
        return told;
      },
      () => {
        this.pass(50);
        return BigInt(Math.round(this.counter));
      },
    );
  }
}

test('the truth lies within the bounds, however the clock is slewed', () => {
  fc.assert(
    fc.property(
      fc.double({ min: -0.00045, max: 0.00045, noNaN: true }),
      fc.array(fc.integer({ min: 0, max: 3_000_000_000 }), { minLength: 1, maxLength: 200 }),
      (slew, waits) => {
        const machine = new Machine(slew);
        const clock = machine.clock();
        for (const wait of waits) {
          machine.pass(wait);
          const before = machine.wall / 1000;
          const { lo, hi } = clock.now();
          // Doubles hold wall nanoseconds to a quarter of a microsecond.
          assert.ok(lo <= before + 1, `${lo} is later than ${before}`);
          assert.ok(hi >= machine.wall / 1000 - 1, `${hi} is earlier than ${machine.wall / 1000}`);
        }
      },
    ),
  );
});

test('many readings narrow the bounds to microseconds', () => {
  const machine = new Machine(0);
  const clock = machine.clock();
  for (let i = 0; i < 2000; i++) {
    machine.pass(137_501);
    clock.now();
  }
  const { lo, hi } = clock.now();
  assert.ok(hi - lo < 100, `${hi - lo} µs`);
});

test('a clock that was set is believed at once', () => {
  const machine = new Machine(0);
  const clock = machine.clock();
  for (const step of [3_600e9, -7_200e9, 5e6, -5e6]) {
    for (let i = 0; i < 500; i++) {
      machine.pass(137_501);
      clock.now();
    }
    machine.wall += step;
    const before = machine.wall / 1000;
    const { lo, hi } = clock.now();
    assert.ok(lo <= before + 1 && hi >= before - 1);
  }
});
