/** The edge as a running server: GraphQL at /graphql over HTTP and WebSocket, the playground at /, REST under /v1.0, health checks. */
import { type IncomingMessage, STATUS_CODES } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { fastifyApolloHandler } from '@as-integrations/fastify';
import Fastify, { type FastifyInstance } from 'fastify';
import type { Logger } from 'pino';
import { Fault, invalidArgument } from '../errors.js';
import type { Services } from '../services.js';
import { Telemetry } from '../telemetry/telemetry.js';
import { type AccessRules, checkAccess } from './access.js';
import { refuseAddress } from './badAddress.js';
import { createContext } from './context.js';
import { puttingDocument } from './documentInRequest.js';
import { faultOf, publicBody } from './errorShape.js';
import { createEventStreams } from './graphqlOverEvents.js';
import { createApollo } from './graphqlOverHttp.js';
import { createProtocol } from './graphqlOverWebSocket.js';
import { type Authenticator, statusOf } from './identity/authenticator.js';
import { authenticating, callerKeyOf, callerOf } from './identity/onRequest.js';
import { retryAfter } from './limits/callerLimits.js';
import { Gate } from './limits/gate.js';
import type { Limits } from './limits/limits.js';
import { type Exposition, serveMetrics } from './metricsEndpoint.js';
import { described, refused } from './operationLog.js';
import { servePlayground } from './playground.js';
import { followRequests, requestIdOf } from './requestIds.js';
import { createSchema } from './schema.js';
import { serveTrove } from './trove/routes.js';
import { createWebSockets, type WebSockets } from './webSockets.js';

const BODY_LIMIT = 1024 * 1024;
/** A flavor of 255 signs is the longest that stands in an address; of the signs that the router decodes last each is three here. */
const LONGEST_PARAMETER = 3 * 255;
const REQUEST_MS = 60_000;
/** How often Node looks for requests that are late, in milliseconds; of itself only every half minute. */
const LATE_LOOK_MS = 1_000;
const DRAIN_MS = 5_000;
const READY_TIMEOUT_MS = 2_000;
const HEALTH = ['/healthz', '/readyz'];

export interface GatewayOptions {
  services: Services;
  authenticator: Authenticator;
  host: string;
  /** 0 takes any free one. */
  port: number;
  logger: Logger;
  limits: Limits;
  /** Names besides localhost under which the service is reached, as `name` or `name:port`. */
  allowedHosts?: string[];
  /** Origins of pages besides its own that may use it, as `https://console.example.com`. */
  allowedOrigins?: string[];
  /** How long requests that are being answered may take to end once close() is called, in milliseconds; 5,000 unless given. */
  drainMs?: number;
  /** How long a request may take to arrive, in milliseconds, and a second at most besides; 60,000 unless given. */
  requestMs?: number;
  telemetry?: Telemetry;
  /** Served at /metrics, to whoever reaches the API; null where it is not. */
  exposition?: Exposition | null;
  /**
   * How long /readyz says that the service is stopping, while everything else goes on, before anything is closed; in
   * milliseconds; none unless given.
   */
  noticeMs?: number;
}

export interface Gateway {
  url: string;
  port: number;
  /** Stops accepting, ends subscriptions with 1001, lets requests end for a few seconds; never longer. */
  close(): Promise<void>;
}

/** Resolves once it listens. @throws what listening throws, EADDRINUSE and the like */
export async function startGateway(options: GatewayOptions): Promise<Gateway> {
  const { services, authenticator, logger, host, telemetry = new Telemetry() } = options;
  const rules: AccessRules = {
    port: options.port,
    allowedHosts: options.allowedHosts ?? [],
    allowedOrigins: options.allowedOrigins ?? [],
  };
  const gate = new Gate(createSchema(), options.limits);
  const apollo = createApollo(gate, logger, telemetry);
  const streams = createEventStreams(gate, services, authenticator, logger, telemetry);
  await apollo.start();
  // Fastify's own log would show URLs, and with them the variables of GET requests.
  const app = Fastify({
    logger: false,
    bodyLimit: BODY_LIMIT,
    genReqId: requestIdOf,
    requestTimeout: options.requestMs ?? REQUEST_MS,
    http: { connectionsCheckingInterval: LATE_LOOK_MS },
    frameworkErrors: refuseAddress,
    routerOptions: { maxParamLength: LONGEST_PARAMETER },
  });
  followRequests(app);
  const health = addHealth(app, services);
  guard(app, rules);
  answerErrors(app, logger, telemetry);
  const authenticate = authenticating(app, authenticator);
  const answer = fastifyApolloHandler(apollo, {
    context: async (request) =>
      createContext(services, {
        requestId: request.id,
        caller: callerOf(request),
        callerKey: callerKeyOf(request),
        patienceMs: gate.limits.operationMs,
      }),
  });
  app.route({
    method: ['GET', 'POST', 'OPTIONS'],
    url: '/graphql',
    onRequest: [authenticate, async (request) => gate.callers.arrive(callerKeyOf(request))],
    preHandler: [streams.answering, puttingDocument(gate, logger)],
    handler: answer,
  });
  if (options.exposition) serveMetrics(app, options.exposition);
  await servePlayground(app);
  await serveTrove(app, services, logger, authenticator, gate, telemetry);

  const protocol = createProtocol(gate, services, authenticator, logger, telemetry);
  const sockets = createWebSockets(protocol, logger, BODY_LIMIT);
  const upgrades = acceptUpgrades(app, sockets, rules);
  try {
    await app.listen({ host, port: options.port });
  } catch (error) {
    await Promise.all([app.close(), apollo.stop()]);
    throw error;
  }
  rules.port = (app.server.address() as AddressInfo).port;

  let closing: Promise<void> | null = null;
  async function close(): Promise<void> {
    health.stopping = true;
    // Balancers look every few seconds, and send requests here until they have seen it.
    if (options.noticeMs) await delay(options.noticeMs);
    upgrades.stop();
    streams.close();
    const closed = Promise.all([app.close(), sockets.close()]);
    const patience = new AbortController();
    const lateness = delay(options.drainMs ?? DRAIN_MS, undefined, { signal: patience.signal }).then(
      () => app.server.closeAllConnections(),
      () => undefined,
    );
    await closed;
    patience.abort();
    await lateness;
    await apollo.stop();
  }

  const name = host.includes(':') ? `[${host}]` : host;
  return {
    url: `http://${host === '0.0.0.0' || host === '::' ? 'localhost' : name}:${rules.port}`,
    port: rules.port,
    close() {
      closing ??= close();
      return closing;
    },
  };
}

/** Answers to any Host: whoever probes a container does so by its address, and there is nothing here to protect. */
function addHealth(app: FastifyInstance, services: Services): { stopping: boolean } {
  const health = { stopping: false };
  app.get('/healthz', async () => ({ status: 'alive' }));
  app.get('/readyz', async (_request, reply) => {
    if (health.stopping) return reply.code(503).send({ status: 'stopping' });
    const patience = new AbortController();
    const tooLate = delay(READY_TIMEOUT_MS, false, { signal: patience.signal }).catch(() => false);
    const ready = await Promise.race([services.ready().catch(() => false), tooLate]);
    patience.abort();
    return reply.code(ready ? 200 : 503).send({ status: ready ? 'ready' : 'not ready' });
  });
  return health;
}

/** Runs before a body is read, for every address but the health checks. */
function guard(app: FastifyInstance, rules: AccessRules): void {
  app.addHook('onRequest', async (request, reply) => {
    reply.header('x-request-id', request.id);
    reply.header('x-content-type-options', 'nosniff').header('referrer-policy', 'no-referrer');
    if (HEALTH.includes(request.routeOptions.url ?? '')) return;
    const { origin, sameOrigin } = checkAccess(request.raw, rules);
    reply.header('vary', 'Origin');
    if (sameOrigin || origin === null) return;
    // A page of an allowed origin: what its browser wants to hear before it hands the answers over.
    reply
      .header('access-control-allow-origin', origin)
      .header('access-control-expose-headers', 'x-request-id, retry-after');
    if (request.method !== 'OPTIONS') return;
    reply.header('access-control-allow-methods', 'GET, POST').header('access-control-max-age', '600');
    reply.header(
      'access-control-allow-headers',
      'content-type, authorization, x-auth-token, x-request-id, traceparent, apollo-require-preflight',
    );
    await reply.code(204).send();
  });
}

/** Everything that is refused outside GraphQL, in the shape of a GraphQL error. */
function answerErrors(app: FastifyInstance, logger: Logger, telemetry: Telemetry): void {
  app.setErrorHandler(async (error, request, reply) => {
    const { fault, status = statusOf(fault) } = faultOf(error);
    telemetry.refused('http', fault.code);
    if (status === 500) logger.error({ requestId: request.id, err: described(error) }, 'request failed');
    else if (fault === error) logger.info({ requestId: request.id, ...refused(fault) }, 'request refused');
    if (status === 401) reply.header('www-authenticate', 'Bearer');
    const seconds = retryAfter(fault);
    if (seconds !== null) reply.header('retry-after', String(seconds));
    return reply.code(status).send(publicBody(fault, request.id));
  });
  app.setNotFoundHandler(async (request, reply) => {
    const fault = new Fault('INVALID_ARGUMENT', 'There is nothing at this address', {
      hint: 'GraphQL is at /graphql, the playground at /.',
    });
    return reply.code(404).send(publicBody(fault, request.id));
  });
}

/** Upgrades pass by Fastify and its hooks, so they are checked here once more. */
function acceptUpgrades(app: FastifyInstance, sockets: WebSockets, rules: AccessRules): { stop(): void } {
  let open = true;
  app.server.on('upgrade', (request, socket, head) => {
    socket.on('error', () => socket.destroy());
    try {
      if (!open) {
        const hint = 'Connect again in a moment.';
        return refuseUpgrade(request, socket, 503, new Fault('SERVICE_STOPPED', 'The service is stopping', { hint }));
      }
      checkAccess(request, rules);
      if (request.url?.split('?')[0] !== '/graphql') {
        return refuseUpgrade(request, socket, 404, invalidArgument('path', 'WebSockets are served at /graphql'));
      }
      sockets.upgrade(request, socket, head);
    } catch (thrown) {
      refuseUpgrade(request, socket, thrown instanceof Fault ? 403 : 500, Fault.from(thrown));
    }
  });
  return {
    stop() {
      open = false;
    },
  };
}

function refuseUpgrade(request: IncomingMessage, socket: Duplex, status: number, fault: Fault): void {
  const requestId = requestIdOf(request);
  const body = JSON.stringify(publicBody(fault, requestId));
  socket.end(
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nconnection: close\r\nx-request-id: ${requestId}\r\ncontent-type: application/json; charset=utf-8\r\n` +
      `content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );
}
