/**
 * The REST interface of the original design (OpenStack's wiki page Trove/PointInTimeRecovery) in the shapes of OpenStack
 * Trove, so that Trove's own clients work: a thin adapter over the services that GraphQL uses too.
 */
import type { IncomingMessage } from 'node:http';
import type { FastifyError, FastifyInstance, FastifyRequest } from 'fastify';
import type { Logger } from 'pino';
import { Fault, type FaultCode } from '../../errors.js';
import type { Caller, Services } from '../../services.js';
import { publicBody } from '../errorShape.js';
import { callerKey, retryAfter } from '../limits/callerLimits.js';
import type { Gate } from '../limits/gate.js';
import { logCause, logOperation } from '../operationLog.js';
import { serveBackups } from './backups.js';
import { answering } from './context.js';
import { faultOf, troveError } from './errors.js';
import { serveFlavors } from './flavors.js';
import { serveInstances } from './instances.js';
import { serveRecoveries } from './recoveries.js';

/** Everything under /v1.0/{tenant}. The checks of Host and Origin are the server's, and come before. */
export async function serveTrove(
  app: FastifyInstance,
  services: Services,
  logger: Logger,
  identify: (request: IncomingMessage) => Caller | Promise<Caller>,
  gate: Pick<Gate, 'callers' | 'limits'>,
): Promise<void> {
  await app.register(
    async (scope) => {
      const callers = identified(scope, identify, gate);
      answerErrors(scope, logger, callers);
      const answer = answering(services, callerAmong(callers), gate.limits.operationMs);
      serveInstances(scope, answer);
      serveBackups(scope, answer);
      serveRecoveries(scope, answer);
      serveFlavors(scope, answer);
    },
    { prefix: '/v1.0/:tenantId' },
  );
}

/** Who is asking is found out before a body is read. */
function identified(
  scope: FastifyInstance,
  identify: (request: IncomingMessage) => Caller | Promise<Caller>,
  gate: Pick<Gate, 'callers'>,
) {
  const callers = new WeakMap<FastifyRequest, Caller>();
  scope.addHook('onRequest', async (request) => {
    const caller = await identify(request.raw);
    callers.set(request, caller);
    gate.callers.arrive(callerKey(caller, request.raw.socket.remoteAddress));
  });
  return callers;
}

function callerAmong(callers: WeakMap<FastifyRequest, Caller>) {
  return (request: FastifyRequest): Caller => {
    const caller = callers.get(request);
    if (!caller) throw new Error('nobody was identified');
    return caller;
  };
}

function answerErrors(scope: FastifyInstance, logger: Logger, callers: WeakMap<FastifyRequest, Caller>): void {
  const refusals = new WeakMap<FastifyRequest, FaultCode>();

  scope.addHook('onRequest', async (request, reply) => {
    // OpenStack's clients show the first of these that they find, and write it into their logs.
    const id = `req-${request.id}`;
    reply.header('x-openstack-request-id', id).header('x-compute-request-id', id);
  });

  scope.setErrorHandler<FastifyError>(async (error, request, reply) => {
    const { fault, status: given } = faultOf(error);
    refusals.set(request, fault.code);
    const [shown] = publicBody(fault).errors;
    if (shown) logCause(logger, request.id, shown, fault);
    const { status, body } = troveError(fault, given);
    if (status === 401) reply.header('www-authenticate', 'Bearer');
    const seconds = retryAfter(fault);
    if (seconds !== null) reply.header('retry-after', String(seconds));
    return reply.code(status).send(body);
  });

  scope.setNotFoundHandler(async (_request, reply) => {
    const fault = new Fault('INVALID_ARGUMENT', 'There is nothing at this address', {
      hint: 'Instances and backups are served here; everything else is in GraphQL, at /graphql.',
    });
    const { status, body } = troveError(fault, 404);
    return reply.code(status).send(body);
  });

  scope.addHook('onResponse', async (request, reply) => {
    const code = refusals.get(request);
    logOperation(logger, {
      requestId: request.id,
      caller: callers.get(request) ?? null,
      via: 'rest',
      // The pattern and not the address: no ids, no parameters.
      operation: request.routeOptions.url,
      kind: request.method,
      startedAt: performance.now() - reply.elapsedTime,
      codes: code === undefined ? [] : [code],
    });
  });
}
