/** The authenticator as a hook of HTTP routes: it runs before a body is read, and a route without it has no caller. */
import type { FastifyInstance, FastifyRequest, onRequestAsyncHookHandler } from 'fastify';
import type { Caller } from '../../services.js';
import type { Authenticator } from './authenticator.js';

const CALLER = 'caller';

/** For a route's `onRequest`. It throws what Authenticator.identify throws, for the server's error handler to answer. */
export function authenticating(app: FastifyInstance, authenticator: Authenticator): onRequestAsyncHookHandler {
  if (!app.hasRequestDecorator(CALLER)) app.decorateRequest(CALLER, null);
  return async (request) => {
    const { caller } = await authenticator.identify(request.raw);
    request.setDecorator<Caller>(CALLER, caller);
  };
}

/** @throws Error where the route does not authenticate: a defect that must not pass for anybody */
export function callerOf(request: FastifyRequest): Caller {
  const caller = request.getDecorator<Caller | null>(CALLER);
  if (!caller) throw new Error(`${request.routeOptions.url} has no caller: it does not authenticate`);
  return caller;
}
