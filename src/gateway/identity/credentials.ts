/** Where a request carries its token, and the one way of saying that it is not good. */
import type { IncomingMessage } from 'node:http';
import { Fault } from '../../errors.js';

/** Far longer than any token of an issuer; what is longer is not even hashed. */
const LONGEST_TOKEN = 16 * 1024;

export function unauthenticated(message: string, hint = 'Get a new token and try again.', cause?: unknown): Fault {
  return new Fault('UNAUTHENTICATED', message, { hint, cause });
}

/**
 * Authorization: Bearer TOKEN (RFC 6750), X-Auth-Token: TOKEN (OpenStack's), or `authorization` in connection_init, where
 * a browser's WebSocket can't send headers. Null where there is none.
 * @throws Fault UNAUTHENTICATED for two that differ, or none that can be read: which one counts must never be a guess
 */
export function presentedToken(
  request: IncomingMessage,
  connectionParams: Readonly<Record<string, unknown>> = {},
): string | null {
  const { authorization: bearer = [], 'x-auth-token': plain = [] } = request.headersDistinct;
  const named = Object.entries(connectionParams).filter(([name]) => name.toLowerCase() === 'authorization');
  const tokens = [...bearer, ...named.map(([, value]) => value)].map(tokenOfBearer);
  const [token = null, ...others] = new Set([...tokens, ...plain]);
  if (others.length > 0) throw unauthenticated('The request carries two different tokens', 'Send one of them.');
  if (token !== null && (token.length === 0 || token.length > LONGEST_TOKEN)) {
    throw unauthenticated('The token is not valid');
  }
  return token;
}

function tokenOfBearer(header: unknown): string {
  const [, token] = typeof header === 'string' ? (/^Bearer +(\S+) *$/i.exec(header) ?? []) : [];
  if (token === undefined) throw unauthenticated('Authorization is not a bearer token', 'Write it as Bearer TOKEN.');
  return token;
}
