/** The authenticator as a hook of HTTP routes: it runs before a body is read, and a route without it has no caller. */
import type { FastifyInstance, FastifyRequest, onRequestAsyncHookHandler } from 'fastify';
import type { Caller } from '../../services.js';
import { callerKey } from '../limits/callerLimits.js';
import type { Authenticator, Identity } from './authenticator.js';

const IDENTITY = 'identity';

/** For a route's `onRequest`. It throws what Authenticator.identify throws, for the server's error handler to answer. */
export function authenticating(app: FastifyInstance, authenticator: Authenticator): onRequestAsyncHookHandler {
  if (!app.hasRequestDecorator(IDENTITY)) app.decorateRequest(IDENTITY, null);
  return async (request) => {
    request.setDecorator<Identity>(IDENTITY, await authenticator.identify(request.raw));
  };
}

/** @throws Error where the route does not authenticate: a defect that must not pass for anybody */
export function identityOf(request: FastifyRequest): Identity {
  const identity = request.getDecorator<Identity | null>(IDENTITY);
  if (!identity) throw new Error(`${request.routeOptions.url} has no caller: it does not authenticate`);
  return identity;
}

export function callerOf(request: FastifyRequest): Caller {
  return identityOf(request).caller;
}

/** Whom the limits count. */
export function callerKeyOf(request: FastifyRequest): string {
  return callerKey(callerOf(request), request.raw.socket.remoteAddress);
}
