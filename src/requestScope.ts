/**
 * Which request the present work is done for: its id stands in every log line and every error of it. Carried along by
 * AsyncLocalStorage, so that nobody in between has to hand it on.
 */
import { AsyncLocalStorage } from 'node:async_hooks';

export class RequestScope {
  private open = true;

  /** @param traceparent of the span that further spans belong under, as W3C Trace Context spells it */
  constructor(
    readonly requestId: string,
    public traceparent: string | null = null,
  ) {}

  run<T>(work: () => T): T {
    return current.run(this, work);
  }

  /** What the request has begun and goes on, such as a log capture, is not its work any more. */
  end(): void {
    this.open = false;
  }

  /** For work that the request has asked for and that goes on when it is answered: under the same id, with an end of its own. */
  successor(): RequestScope {
    return new RequestScope(this.requestId, this.traceparent);
  }

  static get current(): RequestScope | null {
    const scope = current.getStore();
    return scope?.open ? scope : null;
  }
}

const current = new AsyncLocalStorage<RequestScope>();

/** For a logger's `mixin`: what each line says besides itself. */
export function requestFacts(): { requestId?: string; traceId?: string } {
  const scope = RequestScope.current;
  if (!scope) return {};
  const { requestId, traceparent } = scope;
  return traceparent === null ? { requestId } : { requestId, traceId: traceparent.split('-')[1] };
}
