/**
 * Delivers what stands in the outbox to the one webhook, oldest first, at least once: an event is WAITING until the
 * receiver has said 2xx, refuses for good, or too much time has passed. What can't be delivered now is tried again
 * after a while that doubles.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { Catalog, OutboxRecord } from '../catalog/records.js';
import { type Clock, type Instant, instant } from '../instant.js';
import type { Telemetry } from '../telemetry/telemetry.js';
import { signatures } from './signature.js';

export interface DeliveryOptions {
  catalog: Catalog;
  clock: Clock;
  logger: Logger;
  telemetry: Telemetry;
  url: string;
  secrets: readonly Buffer[];
  patience?: Partial<Patience>;
}

/** Milliseconds. */
export interface Patience {
  /** For one answer. */
  answer: number;
  /** Before the second attempt; then twice as long each time, up to `between`. */
  first: number;
  between: number;
  /** From the event to its last attempt. */
  inAll: number;
  /** From the event to its being forgotten. */
  kept: number;
}

const HOUR = 3_600_000;
const PATIENCE: Patience = { answer: 15_000, first: 5_000, between: HOUR, inAll: 72 * HOUR, kept: 168 * HOUR };

const AT_ONCE = 8;
/** When nothing is due: prunes, and looks again. */
const ROUND_MS = HOUR;
/** After a catalog that could not be read or written. */
const AGAIN_MS = 5_000;
const GONE = 410;

/** `retryAfterMs`: what the receiver asked for; 0 where it said nothing. */
type Answer = { status: number; retryAfterMs: number } | { error: string };

export class Delivery {
  private readonly patience: Patience;
  private readonly stopping = new AbortController();
  private running: Promise<void> = Promise.resolve();
  private alarm = new AbortController();
  /** The receiver wants nothing more, until the service is started again. */
  private gone = false;

  constructor(private readonly options: DeliveryOptions) {
    this.patience = { ...PATIENCE, ...options.patience };
  }

  /** Begins with what earlier lives of the service have left. */
  start(): void {
    this.running = this.run();
  }

  /** Something may be due. */
  wake(): void {
    this.alarm.abort();
  }

  /** What is under way is given up, and stays WAITING. */
  async stop(): Promise<void> {
    this.stopping.abort();
    this.wake();
    await this.running;
  }

  private async run(): Promise<void> {
    const { signal: stopping } = this.stopping;
    while (!stopping.aborted) {
      this.alarm = new AbortController();
      let wait = AGAIN_MS;
      try {
        wait = await this.round();
      } catch (error) {
        if (!stopping.aborted) this.options.logger.error({ err: error }, 'the outbox could not be worked on');
      }
      if (stopping.aborted) return;
      await delay(wait, undefined, { signal: this.alarm.signal }).catch(() => {});
    }
  }

  /** Answers with the milliseconds until something may be due. */
  private async round(): Promise<number> {
    const { catalog, clock } = this.options;
    // Writes take turns: after this one, whatever woke us is committed.
    await catalog.write((writer) => writer.pruneOutbox(back(clock(), this.patience.kept)));
    if (this.gone) return ROUND_MS;
    const due = await catalog.read.dueOutbox(clock(), AT_ONCE);
    await Promise.all(due.map((event) => this.attempt(event)));
    if (due.length > 0) return 0;
    const { nextDueAt } = await catalog.read.outboxBacklog();
    return nextDueAt === null ? ROUND_MS : Math.min(Math.max((nextDueAt - clock()) / 1000, 1), ROUND_MS);
  }

  private async attempt(event: OutboxRecord): Promise<void> {
    if (this.gone) return;
    const answer = await this.post(event);
    if (this.stopping.signal.aborted) return;
    const { catalog, clock, logger, telemetry } = this.options;
    const told = { eventId: event.id, type: event.type, tenant: event.tenantId, attempts: event.attempts + 1 };
    const { attempts } = told;
    const settle = (state: OutboxRecord['state'], lastError: string | null, dueAt: Instant) =>
      catalog.write((writer) => writer.updateOutbox(event.id, { state, attempts, dueAt, lastError }));

    if ('status' in answer && answer.status >= 200 && answer.status < 300) {
      await settle('DELIVERED', null, event.dueAt);
      telemetry.delivery('delivered');
      logger.info(told, 'event delivered');
      return;
    }
    const error = 'error' in answer ? answer.error : `HTTP ${answer.status}`;
    if ('status' in answer && answer.status === GONE) {
      this.gone = true;
      await settle('REFUSED', error, event.dueAt);
      telemetry.delivery('refused');
      logger.error(told, 'the webhook is gone (410): nothing more is sent until the service is started again');
      return;
    }
    const wait = Math.max(this.backOff(attempts), 'error' in answer ? 0 : answer.retryAfterMs);
    const dueAt = back(clock(), -wait);
    if (dueAt - event.createdAt > this.patience.inAll * 1000) {
      await settle('EXPIRED', error, event.dueAt);
      telemetry.delivery('expired');
      logger.error({ ...told, error }, 'event not delivered, and not tried any more');
      return;
    }
    await settle('WAITING', error, dueAt);
    telemetry.delivery('failed');
    logger.warn({ ...told, error, wait: Math.round(wait) }, 'event not delivered; it is tried again');
  }

  /** Half of it by chance: many services that lost one receiver must not come back together. */
  private backOff(attempts: number): number {
    const longest = Math.min(this.patience.first * 2 ** Math.min(attempts - 1, 30), this.patience.between);
    return longest * (0.5 + Math.random() / 2);
  }

  /** Never rejects. Says nothing of the address: it may hold a credential. */
  private async post({ id, body }: OutboxRecord): Promise<Answer> {
    const { url, secrets, clock } = this.options;
    const seconds = Math.floor(clock() / 1_000_000);
    const late = AbortSignal.timeout(this.patience.answer);
    try {
      const response = await fetch(url, {
        method: 'POST',
        redirect: 'manual',
        headers: {
          'content-type': 'application/cloudevents+json; charset=utf-8',
          'user-agent': 'pitr-gateway',
          'webhook-id': id,
          'webhook-timestamp': String(seconds),
          'webhook-signature': signatures(id, seconds, body, secrets),
        },
        body,
        signal: AbortSignal.any([this.stopping.signal, late]),
      });
      await response.body?.cancel();
      const asked = /^\d{1,6}$/.exec(response.headers.get('retry-after') ?? '')?.[0] ?? '0';
      return { status: response.status, retryAfterMs: Math.min(Number(asked) * 1000, this.patience.between) };
    } catch (thrown) {
      if (late.aborted) return { error: 'no answer in time' };
      const { cause } = thrown as { cause?: { code?: unknown } };
      return { error: typeof cause?.code === 'string' ? cause.code : 'no connection' };
    }
  }
}

function back(from: Instant, ms: number): Instant {
  return instant(Math.round(from - ms * 1000));
}
