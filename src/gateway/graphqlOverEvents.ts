/**
 * Operations over server-sent events, for clients without WebSocket: graphql-sse's protocol in its "distinct connections
 * mode", one POST and one stream per operation. Its own server is not used, because it reads ahead of a slow client without a bound.
 */
import type { ServerResponse } from 'node:http';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { type ExecutionResult, execute, type GraphQLError, subscribe } from 'graphql';
import type { Logger } from 'pino';
import { invalidArgument } from '../errors.js';
import type { Services } from '../services.js';
import { createContext } from './context.js';
import { publicBody, publicError } from './errorShape.js';
import { EventStream } from './eventStream.js';
import type { Authenticator } from './identity/authenticator.js';
import { unauthenticated } from './identity/credentials.js';
import { watchIdentity } from './identity/lifetime.js';
import { callerKeyOf, identityOf } from './identity/onRequest.js';
import { asGraphqlError, type Gate, type PreparedOperation, type RequestedOperation } from './limits/gate.js';
import { logCause, logOperation } from './operationLog.js';

export function createEventStreams(gate: Gate, services: Services, authenticator: Authenticator, logger: Logger) {
  const open = new Set<EventStream>();

  async function answer(request: FastifyRequest, reply: FastifyReply): Promise<void> {
    const asked = requestedIn(request.body);
    const key = callerKeyOf(request);
    const identity = identityOf(request);
    const { caller } = identity;
    const leave = gate.callers.connect(key);
    let release = leave;
    try {
      const done = gate.callers.begin(key);
      release = () => {
        leave();
        done();
      };
      const codes = new Set<string>();
      const show = (error: GraphQLError) => {
        const shown = publicError(error.toJSON(), error);
        codes.add(shown.extensions.code);
        logCause(logger, request.id, shown, error);
        return shown;
      };
      const startedAt = performance.now() - reply.elapsedTime;
      const prepared = gate.prepare(caller, key, asked);
      const stream = begin(reply);
      open.add(stream);
      const stopWatching = watchIdentity(authenticator, identity, () =>
        stream.end(publicBody(unauthenticated('The token has expired or was taken back'))),
      );
      const contextValue = createContext(services, {
        requestId: request.id,
        caller,
        callerKey: key,
        patienceMs: gate.limits.operationMs,
      });
      try {
        await stream.send(await resultsOf(prepared, contextValue, show));
      } finally {
        stopWatching();
        open.delete(stream);
        const operation = 'operation' in prepared ? prepared.operation : null;
        logOperation(logger, {
          requestId: request.id,
          caller,
          via: 'events',
          operation: operation?.name?.value ?? null,
          kind: operation?.operation,
          startedAt,
          codes: [...codes],
        });
      }
    } finally {
      release();
    }
  }

  return {
    /** For a route's `preHandler`: answers what asks for a stream, and leaves everything else alone. */
    async answering(request: FastifyRequest, reply: FastifyReply): Promise<void> {
      if (request.method === 'POST' && asksForEvents(request.headers.accept)) await answer(request, reply);
    },
    /** Ends every stream without completing its operation: clients come back, to a service that runs. */
    close(): void {
      for (const stream of open) stream.end(null);
    },
  };
}

/** Named as such: a client that takes anything wants JSON. */
function asksForEvents(accept: string | undefined): boolean {
  return (accept ?? '').split(',').some((range) => range.split(';')[0]?.trim().toLowerCase() === 'text/event-stream');
}

/** From here on the response is ours and not Fastify's. */
function begin(reply: FastifyReply): EventStream {
  reply.hijack();
  const response: ServerResponse = reply.raw;
  for (const [name, value] of Object.entries(reply.getHeaders()))
    if (value !== undefined) response.setHeader(name, value);
  return new EventStream(response);
}

/** @throws Fault INVALID_ARGUMENT */
function requestedIn(body: unknown): RequestedOperation {
  const isObject = (value: unknown) => typeof value === 'object' && value !== null && !Array.isArray(value);
  if (!isObject(body)) throw invalidArgument('body', 'The body is not a JSON object');
  const { query, operationName, variables, extensions } = body as Record<string, unknown>;
  if (query !== undefined && query !== null && typeof query !== 'string') {
    throw invalidArgument('query', 'query is not a text');
  }
  if (operationName !== undefined && operationName !== null && typeof operationName !== 'string') {
    throw invalidArgument('operationName', 'operationName is not a text');
  }
  for (const [name, value] of Object.entries({ variables, extensions })) {
    if (value !== undefined && value !== null && !isObject(value)) {
      throw invalidArgument(name, `${name} is not an object`);
    }
  }
  return { query, operationName, variables: variables as Record<string, unknown> | null | undefined, extensions };
}

/** Of a query or mutation, and of a refusal, the one result. A failure in the middle of a subscription is its last. */
async function resultsOf(
  prepared: PreparedOperation | readonly GraphQLError[],
  contextValue: unknown,
  show: (error: GraphQLError) => unknown,
): Promise<AsyncIterator<unknown>> {
  const shown = ({ errors, ...result }: ExecutionResult) => (errors ? { errors: errors.map(show), ...result } : result);
  if (!('operation' in prepared)) return only({ errors: prepared.map(show) });
  const { operation, ...args } = prepared;
  if (operation.operation !== 'subscription') return only(shown(await execute({ ...args, contextValue })));
  const source = await subscribe({ ...args, contextValue });
  if (!(Symbol.asyncIterator in source)) return only(shown(source));
  let failed = false;
  return {
    async next() {
      try {
        const next = failed ? null : await source.next();
        return !next || next.done ? { done: true, value: undefined } : { done: false, value: shown(next.value) };
      } catch (thrown) {
        failed = true;
        return { done: false, value: { errors: [show(asGraphqlError(thrown))] } };
      }
    },
    // Not a generator: its return() would wait for the next event, and on a quiet source that may be never.
    return: () => source.return(undefined),
  };
}

async function* only(result: unknown): AsyncGenerator<unknown> {
  yield result;
}
