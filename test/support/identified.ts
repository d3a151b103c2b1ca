/** A gateway that asks for tokens, over MemoryServices, and ways to come to it with one. */
import { once } from 'node:events';
import type { TestContext } from 'node:test';
import { pino } from 'pino';
import { WebSocket } from 'ws';
import { createAuthenticator, type IdentitySettings } from '../../src/gateway/identity/authenticator.js';
import type { IssuerSettings } from '../../src/gateway/identity/signedTokens.js';
import type { Limits } from '../../src/gateway/limits/limits.js';
import { type GatewayUnderTest, gatewayUnderTest } from './gatewayUnderTest.js';
import type { Issuer } from './issuer.js';

export async function identifiedGateway(
  t: Pick<TestContext, 'after'>,
  settings: Partial<Omit<IdentitySettings, 'logger'>>,
  limits: Partial<Limits> = {},
): Promise<GatewayUnderTest & { identityLog: string[] }> {
  const identityLog: string[] = [];
  const logger = pino({}, { write: (line: string) => identityLog.push(line) });
  const authenticator = await createAuthenticator({ tokensFile: null, issuer: null, ...settings, logger });
  t.after(() => authenticator.close());
  return { ...(await gatewayUnderTest(t, { authenticator, limits })), identityLog };
}

export function trusting(issuer: Issuer, change: Partial<IssuerSettings> = {}): IssuerSettings {
  return {
    issuer: issuer.url,
    audience: [issuer.audience],
    jwksUri: null,
    tenantClaim: 'tenant',
    roleClaim: 'role',
    clockToleranceSeconds: 0,
    fetchAtMostEveryMs: 0,
    ...change,
  };
}

/** Asks over HTTP with these headers; the status, and the code of the only error or null. */
export async function askWith(
  { url }: { url: string },
  headers: Record<string, string>,
  query = '{ instances { id } }',
): Promise<{ status: number; code: string | null; message: string | null; challenge: string | null }> {
  const response = await fetch(`${url}/graphql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', connection: 'close', ...headers },
    body: JSON.stringify({ query }),
  });
  const { errors } = (await response.json()) as { errors?: { message: string; extensions: { code: string } }[] };
  return {
    status: response.status,
    code: errors?.[0]?.extensions.code ?? null,
    message: errors?.[0]?.message ?? null,
    challenge: response.headers.get('www-authenticate'),
  };
}

export const bearer = (token: string) => ({ authorization: `Bearer ${token}` });

export interface Line {
  socket: WebSocket;
  /** The next message of the service. */
  next(): Promise<{ type: string; payload?: unknown }>;
  /** How it ended. */
  closed: Promise<{ code: number; reason: string }>;
}

/** A WebSocket by hand: connection_init with this payload, or without any. */
export async function dial(
  t: Pick<TestContext, 'after'>,
  { port }: { port: number },
  payload?: Record<string, unknown>,
  headers: Record<string, string> = {},
): Promise<Line> {
  const socket = new WebSocket(`ws://127.0.0.1:${port}/graphql`, 'graphql-transport-ws', { headers });
  t.after(() => socket.terminate());
  const messages: string[] = [];
  socket.on('message', (data) => messages.push(String(data)));
  const closed = once(socket, 'close', { signal: AbortSignal.timeout(10_000) }).then(([code, reason]) => ({
    code: Number(code),
    reason: String(reason),
  }));
  closed.catch(() => undefined);
  await once(socket, 'open');
  socket.send(JSON.stringify({ type: 'connection_init', payload }));
  return {
    socket,
    closed,
    async next() {
      if (messages.length === 0) await once(socket, 'message', { signal: AbortSignal.timeout(5_000) });
      return JSON.parse(messages.shift() ?? 'null');
    },
  };
}

export const watchRescue = JSON.stringify({
  id: 'watch',
  type: 'subscribe',
  payload: { query: 'subscription { recoveryProgress(recoveryId: "rescue") { sequence } }' },
});
