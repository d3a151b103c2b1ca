/**
 * The id of each request: the caller's own where it sends a usable one, else a new one; and the span that the caller
 * made it under. Both are followed through everything that is done for the request.
 */
import type { IncomingMessage } from 'node:http';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { uuidv7 } from 'uuidv7';
import { RequestScope } from '../requestScope.js';
import { wellFormedTraceparent } from '../telemetry/tracing.js';

/** Nothing that a log, a header or a page could take for anything else. */
const USABLE = /^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$/;

const ids = new WeakMap<IncomingMessage, string>();
const SCOPE = 'scope';

export function isUsableRequestId(value: unknown): value is string {
  return typeof value === 'string' && USABLE.test(value);
}

/** The same for every call with the same request. */
export function requestIdOf(request: IncomingMessage): string {
  const known = ids.get(request);
  if (known !== undefined) return known;
  const [sent, another] = request.headersDistinct['x-request-id'] ?? [];
  const id = another === undefined && isUsableRequestId(sent) ? sent : uuidv7();
  ids.set(request, id);
  return id;
}

export function traceparentOf(request: IncomingMessage): string | null {
  const [sent, another] = request.headersDistinct.traceparent ?? [];
  return another === undefined ? wellFormedTraceparent(sent) : null;
}

/** Everything that the routes of `app` do runs in the scope of its request; Fastify keeps to it while a body arrives. */
export function followRequests(app: FastifyInstance): void {
  app.decorateRequest(SCOPE, null);
  app.addHook('onRequest', (request, reply, done) => {
    const scope = new RequestScope(request.id, traceparentOf(request.raw));
    request.setDecorator<RequestScope>(SCOPE, scope);
    reply.raw.once('close', () => scope.end());
    scope.run(done);
  });
}

export function scopeOf(request: FastifyRequest): RequestScope {
  return request.getDecorator<RequestScope>(SCOPE);
}
