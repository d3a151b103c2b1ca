/**
 * /metrics. What it says is the whole service's, of all tenants: beside the API it is only where everybody is the
 * administrator anyway; else it has an address of its own, which on anything but loopback wants a token of its own.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import Fastify, { type FastifyInstance } from 'fastify';
import type { Logger } from 'pino';
import { Fault } from '../errors.js';
import { type AccessRules, checkAccess } from './access.js';
import { refuseAddress } from './badAddress.js';
import { faultOf, publicBody } from './errorShape.js';
import { statusOf } from './identity/authenticator.js';
import { presentedToken, unauthenticated } from './identity/credentials.js';
import { described } from './operationLog.js';
import { followRequests, requestIdOf } from './requestIds.js';

/** Metrics as text. */
export interface Exposition {
  readonly contentType: string;
  text(): Promise<string>;
}

export function serveMetrics(app: FastifyInstance, exposition: Exposition): void {
  app.get('/metrics', async (_request, reply) => {
    const text = await exposition.text();
    return reply.type(exposition.contentType).header('cache-control', 'no-store').send(text);
  });
}

export interface MetricsListenerOptions {
  host: string;
  /** 0 takes any free one. */
  port: number;
  /** Without one, the Host of a request has to be a name of loopback or an allowed one. */
  token: string | null;
  allowedHosts: readonly string[];
  exposition: Exposition;
  logger: Logger;
}

/** Resolves once it listens. @throws what listening throws, EADDRINUSE and the like */
export async function startMetricsListener(
  options: MetricsListenerOptions,
): Promise<{ url: string; close(): Promise<void> }> {
  const { host, token, allowedHosts, exposition, logger } = options;
  const rules: AccessRules = { port: options.port, allowedHosts, allowedOrigins: [] };
  const app = Fastify({
    logger: false,
    genReqId: requestIdOf,
    requestTimeout: 30_000,
    forceCloseConnections: true,
    frameworkErrors: refuseAddress,
  });
  followRequests(app);
  app.addHook('onRequest', async (request, reply) => {
    reply.header('x-request-id', request.id).header('x-content-type-options', 'nosniff');
    if (token === null) checkAccess(request.raw, rules);
    else if (!same(presentedToken(request.raw), token)) throw unauthenticated('The token is not valid');
  });
  app.setErrorHandler(async (error, request, reply) => {
    const { fault, status = statusOf(fault) } = faultOf(error);
    if (fault.code === 'INTERNAL') logger.error({ requestId: request.id, err: described(error) }, 'no metrics');
    if (fault.code === 'UNAUTHENTICATED') reply.header('www-authenticate', 'Bearer');
    return reply.code(status).send(publicBody(fault, request.id));
  });
  app.setNotFoundHandler(async (request, reply) => {
    const fault = new Fault('INVALID_ARGUMENT', 'There is nothing at this address', {
      hint: 'Metrics are at /metrics.',
    });
    return reply.code(404).send(publicBody(fault, request.id));
  });
  serveMetrics(app, exposition);
  await app.listen({ host, port: options.port });
  rules.port = (app.server.address() as AddressInfo).port;
  const name = host.includes(':') ? `[${host}]` : host;
  return { url: `http://${name}:${rules.port}/metrics`, close: () => app.close() };
}

/** @throws Fault INVALID_ARGUMENT that repeats nothing of the file */
export async function readMetricsToken(file: string): Promise<string> {
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw new Fault('INVALID_ARGUMENT', `The file of the token for metrics can't be read (${error.code})`);
  });
  const token = text.trim();
  if (/^[\x21-\x7e]{16,512}$/.test(token)) return token;
  throw new Fault('INVALID_ARGUMENT', 'A token for metrics is 16 to 512 letters, digits or signs, without spaces');
}

function same(presented: string | null, token: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest();
  return presented !== null && timingSafeEqual(digest(presented), digest(token));
}
