/** Operations over one WebSocket per client, in the graphql-transport-ws protocol: subscriptions, queries and mutations alike. */

import type { IncomingMessage } from 'node:http';
import { type ExecutionArgs, execute, GraphQLError, subscribe } from 'graphql';
import {
  CloseCode,
  type Context,
  type ID,
  makeServer,
  type ServerOptions,
  type SubscribePayload,
  type WebSocket,
} from 'graphql-ws';
import type { Logger } from 'pino';
import { uuidv7 } from 'uuidv7';
import { Fault } from '../errors.js';
import { RequestScope } from '../requestScope.js';
import type { Services } from '../services.js';
import type { Telemetry } from '../telemetry/telemetry.js';
import { wellFormedTraceparent } from '../telemetry/tracing.js';
import { createContext, type GatewayContext } from './context.js';
import { type PublicError, publicError } from './errorShape.js';
import type { Authenticator, Identity } from './identity/authenticator.js';
import { watchIdentity } from './identity/lifetime.js';
import { callerKey, type Release } from './limits/callerLimits.js';
import { asGraphqlError, type Gate } from './limits/gate.js';
import { withOwnIds } from './operationIds.js';
import { logCause, logOperation, refused } from './operationLog.js';
import { OperationWatch } from './operationWatch.js';
import { isUsableRequestId, requestIdOf, traceparentOf } from './requestIds.js';

/** What is known of one connection. */
export interface Connection {
  request: IncomingMessage;
  /** Set by connection_init, before any operation. */
  identity: Identity | null;
  /** Whom the limits count; set with the identity. */
  callerKey: string;
  /** Gives its place among the caller's connections back. */
  leave: Release | null;
  close(code: number, reason: string): void;
  /** Set while its identity is watched. */
  stopWatching: (() => void) | null;
  closed: boolean;
  operations: Map<ID, Operation>;
}

interface Operation {
  requestId: string;
  scope: RequestScope;
  watch: OperationWatch;
  startedAt: number;
  operation: string | null | undefined;
  kind: string | undefined;
  codes: Set<string>;
  /** Gives its place among the caller's operations back. */
  release: Release | null;
}

/** 1013, "try again later": what clients of the protocol do of themselves, with growing pauses. */
const TRY_AGAIN_LATER = 1013;

type Params = Record<string, unknown> | undefined;

/** The protocol without the sockets: webSockets.ts feeds it. */
export function createProtocol(
  gate: Gate,
  services: Services,
  authenticator: Authenticator,
  logger: Logger,
  telemetry: Telemetry,
) {
  function begin({ extra }: Context<Params, Connection>, id: ID, payload: SubscribePayload): Operation {
    // A connection carries many operations, so each may bring what a request over HTTP has in its headers.
    const { requestId: sent, traceparent } = payload.extensions ?? {};
    const requestId = isUsableRequestId(sent) ? sent : uuidv7();
    const watch = new OperationWatch(telemetry, 'websocket', {
      requestId,
      caller: extra.identity?.caller ?? null,
      traceparent: wellFormedTraceparent(traceparent) ?? traceparentOf(extra.request),
    });
    const begun: Operation = {
      requestId,
      scope: new RequestScope(requestId, watch.traceparent),
      watch,
      startedAt: performance.now(),
      operation: payload.operationName,
      kind: undefined,
      codes: new Set(),
      release: null,
    };
    extra.operations.set(id, begun);
    return begun;
  }

  function show({ extra }: Context<Params, Connection>, id: ID, errors: readonly GraphQLError[]): PublicError[] {
    const operation = extra.operations.get(id);
    return errors.map((error) => {
      const shown = publicError(error.toJSON(), error, operation?.requestId ?? null);
      operation?.codes.add(shown.extensions.code);
      operation?.watch.failed(shown);
      logCause(logger, operation?.requestId ?? 'unknown', shown, error);
      return shown;
    });
  }

  function end({ extra }: Context<Params, Connection>, id: ID): void {
    const operation = extra.operations.get(id);
    if (!operation) return;
    extra.operations.delete(id);
    operation.watch.end();
    operation.scope.end();
    operation.release?.();
    const { requestId, startedAt, operation: name, kind } = operation;
    logOperation(logger, {
      requestId,
      startedAt,
      operation: name,
      kind,
      caller: extra.identity?.caller ?? null,
      via: 'websocket',
      codes: [...operation.codes],
    });
  }

  /** Ends it at once: graphql-ws does not say that a refused one has ended where its client has left it meanwhile. */
  function refuse(context: Context<Params, Connection>, id: ID, errors: readonly GraphQLError[]): GraphQLError[] {
    const shown = show(context, id, errors);
    end(context, id);
    return shown.map(({ message, extensions }, index) => {
      const { nodes, source, positions } = errors[index] as GraphQLError;
      return new GraphQLError(message, { nodes, source, positions, extensions });
    });
  }

  const scopes = new WeakMap<GatewayContext, RequestScope>();
  const within = <T>({ contextValue }: ExecutionArgs, work: () => T): T =>
    scopes.get(contextValue as GatewayContext)?.run(work) ?? work();

  const options: ServerOptions<Params, Connection> = {
    async onConnect({ extra, connectionParams }) {
      try {
        extra.identity = await authenticator.identify(extra.request, connectionParams);
      } catch (thrown) {
        if (!(thrown instanceof Fault)) throw thrown;
        logger.info({ requestId: requestIdOf(extra.request), ...refused(thrown) }, 'connection refused');
        telemetry.refused('websocket', thrown.code);
        extra.close(CloseCode.Forbidden, `${thrown.code}: ${thrown.message}`);
        return false;
      }
      // It may have gone while its token was looked at.
      if (extra.closed) return false;
      extra.callerKey = callerKey(extra.identity.caller, extra.request.socket.remoteAddress);
      try {
        gate.callers.arrive(extra.callerKey);
        extra.leave = gate.callers.connect(extra.callerKey);
      } catch (thrown) {
        const fault = Fault.from(thrown);
        logger.info(refused(fault), 'connection refused');
        extra.close(TRY_AGAIN_LATER, `${fault.code}: ${fault.message}`);
        return false;
      }
      // 4403 is what clients of the protocol come back from, with the new token that they get for it.
      extra.stopWatching = watchIdentity(authenticator, extra.identity, () =>
        extra.close(CloseCode.Forbidden, 'UNAUTHENTICATED: The token has expired or was taken back'),
      );
      return true;
    },
    onClose(context) {
      const { extra } = context;
      extra.closed = true;
      extra.stopWatching?.();
      extra.leave?.();
      // What is still being answered has nobody to be answered for.
      for (const id of extra.operations.keys()) end(context, id);
    },
    onSubscribe(context, id, payload) {
      const { extra } = context;
      const begun = begin(context, id, payload);
      if (!extra.identity) throw new Error('An operation came before connection_init was answered');
      const { caller } = extra.identity;
      try {
        gate.callers.arrive(extra.callerKey);
        begun.release = gate.callers.begin(extra.callerKey);
      } catch (thrown) {
        return refuse(context, id, [asGraphqlError(thrown)]);
      }
      const prepared = gate.prepare(caller, extra.callerKey, payload);
      if (!('operation' in prepared)) return refuse(context, id, prepared);
      const { operation, ...args } = prepared;
      begun.kind = operation.operation;
      begun.operation = operation.name?.value;
      begun.watch.resolved(args.document, operation);
      const contextValue = createContext(services, {
        requestId: begun.requestId,
        caller,
        callerKey: extra.callerKey,
        patienceMs: gate.limits.operationMs,
      });
      scopes.set(contextValue, begun.scope);
      return { ...args, contextValue };
    },
    execute: (args) => within(args, () => execute(args)),
    subscribe: (args) => within(args, () => subscribe(args)),
    onNext(context, id, _payload, _args, { errors, ...result }) {
      return errors ? { ...result, errors: show(context, id, errors) } : undefined;
    },
    onError(context, id, _payload, errors) {
      // What was refused has ended, and its errors are as they are shown.
      if (!context.extra.operations.has(id)) return;
      const shown = show(context, id, errors);
      end(context, id);
      return shown;
    },
    onComplete: (context, id) => end(context, id),
  };
  const server = makeServer(options);
  return { opened: (socket: WebSocket, connection: Connection) => server.opened(withOwnIds(socket), connection) };
}
