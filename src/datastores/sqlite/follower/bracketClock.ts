/**
 * Two bounds on the wall clock, tighter than the whole milliseconds that Node tells. A reading `d` of Date.now() says
 * that the clock stood in [d, d + 1 ms) at some moment between two readings of the monotonic counter; the offset
 * between the two clocks is then known to about a millisecond, and the intersection of many readings narrows it to
 * microseconds.
 */
import { type Instant, instant } from '../../../instant.js';

/** How much the wall clock may be slewed against the counter while nobody looks: what NTP allows itself, 500 ppm. */
const driftPerMicro = 0.0005;

export interface TimeBounds {
  /** Not later than the wall clock when the call began. */
  lo: Instant;
  /** Not earlier than the wall clock when the call ended. */
  hi: Instant;
}

export class BracketClock {
  /** Bounds of (wall - counter) in microseconds, true at counter `asOf`. */
  private offsetLo = Number.NEGATIVE_INFINITY;
  private offsetHi = Number.POSITIVE_INFINITY;
  private asOf = 0;
  private readonly origin: bigint;

  /**
   * @param wallMillis whole milliseconds since 1970, rounded down
   * @param counterNanos a monotonic counter
   */
  constructor(
    private readonly wallMillis: () => number = Date.now,
    private readonly counterNanos: () => bigint = process.hrtime.bigint,
  ) {
    this.origin = counterNanos();
  }

  now(): TimeBounds {
    const before = this.counterMicros();
    const wall = this.wallMillis() * 1000;
    const after = this.counterMicros();
    const widened = (after - this.asOf) * driftPerMicro;
    let lo = Math.max(this.offsetLo - widened, wall - after);
    let hi = Math.min(this.offsetHi + widened, wall + 1000 - before);
    if (lo > hi) {
      // The wall clock was set: what was known of it no longer holds. (A step that stays inside the known interval
      // goes unnoticed; it is then smaller than the interval, which is under a millisecond.)
      lo = wall - after;
      hi = wall + 1000 - before;
    }
    this.offsetLo = lo;
    this.offsetHi = hi;
    this.asOf = after;
    return { lo: instant(Math.max(0, Math.floor(before + lo))), hi: instant(Math.ceil(after + hi)) };
  }

  private counterMicros(): number {
    return Number(this.counterNanos() - this.origin) / 1000;
  }
}
