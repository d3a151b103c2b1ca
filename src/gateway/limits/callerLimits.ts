/**
 * How much each caller may do at a time: operations per second, connections, operations under way on them. Kept in memory
 * for callers that have something there; whoever has been quiet for a while is forgotten.
 */
import { Fault, type JsonObject } from '../../errors.js';
import { formatInstant, instant } from '../../instant.js';
import type { Caller } from '../../services.js';
import type { Limits } from './limits.js';

/** A caller who was quiet may start this many seconds' worth of operations at once. */
const BURST_SECONDS = 10;
/** Every full so much of an operation's cost counts as one operation more. */
const COST_OF_ONE = 1_000;
/** Callers that are remembered before the quiet ones are looked for. */
const SWEEP_AT = 1_000;

interface Account {
  /** Operations that may be started at `at`; below 0 after costly ones. */
  left: number;
  /** Milliseconds of the clock. */
  at: number;
  connections: number;
  operations: number;
}

/** A place that is taken until it is given back; giving it back twice is once. */
export type Release = () => void;

/** Whom limits count: a token's holder within a tenant, or the address where callers have no names. */
export function callerKey({ tenantId, name }: Caller, address: string | undefined): string {
  return JSON.stringify(name === undefined ? [tenantId, null, address ?? ''] : [tenantId, name]);
}

export class CallerLimits {
  private readonly accounts = new Map<string, Account>();
  private sweepAt = SWEEP_AT;

  /** @param clock milliseconds since 1970 */
  constructor(
    private readonly limits: Pick<Limits, 'rate' | 'connections' | 'subscriptions'>,
    private readonly clock: () => number = Date.now,
  ) {}

  /** One operation begins. @throws Fault TOO_MANY_REQUESTS with `retryAt` */
  arrive(key: string): void {
    const { rate } = this.limits;
    if (rate === 0) return;
    const account = this.account(key);
    if (account.left < 1) {
      const waitMs = Math.ceil(((1 - account.left) / rate) * 1000);
      const retryAt = formatInstant(instant((account.at + waitMs) * 1000));
      throw tooMany(`More than ${rate} operations a second`, `Try again at ${retryAt}.`, {
        limit: 'rate',
        most: rate,
        retryAt,
      });
    }
    account.left -= 1;
  }

  /** What an operation costs beyond being one; whoever can't pay now waits before the next. */
  charge(key: string, cost: number): void {
    if (this.limits.rate > 0) this.account(key).left -= Math.floor(cost / COST_OF_ONE);
  }

  /** @throws Fault TOO_MANY_REQUESTS */
  connect(key: string): Release {
    return this.take(key, 'connections', 'connections', 'Close a connection that is not needed.');
  }

  /** @throws Fault TOO_MANY_REQUESTS */
  begin(key: string): Release {
    return this.take(key, 'operations', 'subscriptions', 'End a subscription, or wait for an operation to end.');
  }

  /** Callers that are remembered; for tests. */
  get size(): number {
    return this.accounts.size;
  }

  private take(key: string, what: 'connections' | 'operations', limit: 'connections' | 'subscriptions', hint: string) {
    const account = this.account(key);
    const most = this.limits[limit];
    if (account[what] >= most) {
      throw tooMany(`${most} ${what} are open already`, hint, { limit, most });
    }
    account[what] += 1;
    let held = true;
    return () => {
      if (held) account[what] -= 1;
      held = false;
    };
  }

  private account(key: string): Account {
    const now = this.clock();
    let account = this.accounts.get(key);
    if (!account) {
      if (this.accounts.size >= this.sweepAt) this.sweep(now);
      account = { left: this.limits.rate * BURST_SECONDS, at: now, connections: 0, operations: 0 };
      this.accounts.set(key, account);
    }
    this.refill(account, now);
    return account;
  }

  private refill(account: Account, now: number): void {
    const most = this.limits.rate * BURST_SECONDS;
    // A clock that was set back gives nothing and takes nothing.
    const seconds = Math.max(0, now - account.at) / 1000;
    account.left = Math.min(most, account.left + seconds * this.limits.rate);
    account.at = now;
  }

  private sweep(now: number): void {
    const most = this.limits.rate * BURST_SECONDS;
    for (const [key, account] of this.accounts) {
      this.refill(account, now);
      if (account.left >= most && account.connections === 0 && account.operations === 0) this.accounts.delete(key);
    }
    // Where nearly all are busy, not again at the very next caller.
    this.sweepAt = Math.max(SWEEP_AT, 2 * this.accounts.size);
  }
}

function tooMany(message: string, hint: string, details: JsonObject): Fault {
  return new Fault('TOO_MANY_REQUESTS', message, { hint, details });
}

/** Whole seconds until it may be tried again, at least 1, for Retry-After; null where nobody knows. */
export function retryAfter(fault: Fault): number | null {
  const { retryAt } = fault.details;
  if (fault.code !== 'TOO_MANY_REQUESTS') return null;
  if (typeof retryAt !== 'string') return 1;
  return Math.max(1, Math.ceil((Date.parse(retryAt) - Date.now()) / 1000));
}
