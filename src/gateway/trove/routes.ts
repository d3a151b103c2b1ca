/**
 * The REST interface of the original design (OpenStack's wiki page Trove/PointInTimeRecovery) in the shapes of OpenStack
 * Trove, so that Trove's own clients work: a thin adapter over the services that GraphQL uses too.
 */
import type { FastifyError, FastifyInstance, FastifyRequest } from 'fastify';
import type { Logger } from 'pino';
import { Fault, type FaultCode } from '../../errors.js';
import type { Caller, Services } from '../../services.js';
import { Telemetry, type WatchedOperation } from '../../telemetry/telemetry.js';
import { faultOf, publicBody } from '../errorShape.js';
import type { Authenticator } from '../identity/authenticator.js';
import { callerKey, retryAfter } from '../limits/callerLimits.js';
import type { Gate } from '../limits/gate.js';
import { logCause, logOperation } from '../operationLog.js';
import { scopeOf } from '../requestIds.js';
import { serveBackups } from './backups.js';
import { answering } from './context.js';
import { troveError } from './errors.js';
import { serveFlavors } from './flavors.js';
import { serveInstances } from './instances.js';
import { serveRecoveries } from './recoveries.js';

/** Everything under /v1.0/{tenant}. The checks of Host and Origin are the server's, and come before. */
export async function serveTrove(
  app: FastifyInstance,
  services: Services,
  logger: Logger,
  authenticator: Pick<Authenticator, 'required' | 'identify'>,
  gate: Pick<Gate, 'callers' | 'limits'>,
  telemetry = new Telemetry(),
): Promise<void> {
  await app.register(
    async (scope) => {
      const callers = identified(scope, authenticator, gate);
      const watched = watchOperations(scope, callers, telemetry);
      answerErrors(scope, logger, callers, watched, telemetry);
      const answer = answering(services, callerAmong(callers), authenticator.required, gate.limits.operationMs);
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
  authenticator: Pick<Authenticator, 'identify'>,
  gate: Pick<Gate, 'callers'>,
) {
  const callers = new WeakMap<FastifyRequest, Caller>();
  scope.addHook('onRequest', async (request) => {
    const { caller } = await authenticator.identify(request.raw);
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

/** After the caller is known; the pattern of the address stands for what GraphQL has as a field. */
function watchOperations(scope: FastifyInstance, callers: WeakMap<FastifyRequest, Caller>, telemetry: Telemetry) {
  const watched = new WeakMap<FastifyRequest, WatchedOperation>();
  scope.addHook('preParsing', async (request) => {
    const { traceparent } = scopeOf(request);
    const tenant = callers.get(request)?.tenantId ?? null;
    const operation = telemetry.operation({ via: 'rest', requestId: request.id, tenant, traceparent });
    operation.resolved(request.method, [request.routeOptions.url ?? 'none']);
    scopeOf(request).traceparent = operation.traceparent;
    watched.set(request, operation);
  });
  return watched;
}

function answerErrors(
  scope: FastifyInstance,
  logger: Logger,
  callers: WeakMap<FastifyRequest, Caller>,
  watched: WeakMap<FastifyRequest, WatchedOperation>,
  telemetry: Telemetry,
): void {
  const refusals = new WeakMap<FastifyRequest, FaultCode>();

  scope.addHook('onRequest', async (request, reply) => {
    // OpenStack's clients show the first of these that they find, and write it into their logs.
    const id = `req-${request.id}`;
    reply.header('x-openstack-request-id', id).header('x-compute-request-id', id);
  });

  scope.setErrorHandler<FastifyError>(async (error, request, reply) => {
    const { fault, status: given } = faultOf(error);
    refusals.set(request, fault.code);
    const operation = watched.get(request);
    if (operation) operation.failed(null, fault.code);
    else telemetry.refused('rest', fault.code);
    const [shown] = publicBody(fault, request.id).errors;
    if (shown) logCause(logger, request.id, shown, fault);
    const { status, body } = troveError(fault, request.id, given);
    if (status === 401) reply.header('www-authenticate', 'Bearer');
    const seconds = retryAfter(fault);
    if (seconds !== null) reply.header('retry-after', String(seconds));
    return reply.code(status).send(body);
  });

  scope.setNotFoundHandler(async (request, reply) => {
    const fault = new Fault('INVALID_ARGUMENT', 'There is nothing at this address', {
      hint: 'Instances and backups are served here; everything else is in GraphQL, at /graphql.',
    });
    const { status, body } = troveError(fault, request.id, 404);
    return reply.code(status).send(body);
  });

  scope.addHook('onResponse', async (request, reply) => {
    watched.get(request)?.end();
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
