/** Operations over one WebSocket per client, in the graphql-transport-ws protocol: subscriptions, queries and mutations alike. */

import type { IncomingMessage } from 'node:http';
import {
  type ExecutionArgs,
  GraphQLError,
  type GraphQLSchema,
  getOperationAST,
  parse,
  specifiedRules,
  validate,
} from 'graphql';
import { type Context, type ID, makeServer, type ServerOptions, type SubscribePayload } from 'graphql-ws';
import type { Logger } from 'pino';
import { uuidv7 } from 'uuidv7';
import type { Caller, Services } from '../services.js';
import { createContext, identify } from './context.js';
import { depthLimit } from './depthLimit.js';
import { type PublicError, publicError } from './errorShape.js';
import { MOST_TOKENS } from './graphqlOverHttp.js';
import { logCause, logOperation } from './operationLog.js';

/** What is known of one connection. */
export interface Connection {
  request: IncomingMessage;
  /** Set by connection_init, before any operation. */
  caller: Caller | null;
  operations: Map<ID, Operation>;
}

interface Operation {
  requestId: string;
  startedAt: number;
  operation: string | null | undefined;
  kind: string | undefined;
  codes: Set<string>;
}

type Params = Record<string, unknown> | undefined;

/** The protocol without the sockets: webSockets.ts feeds it. */
export function createProtocol(schema: GraphQLSchema, services: Services, logger: Logger) {
  function begin({ extra }: Context<Params, Connection>, id: ID, payload: SubscribePayload): Operation {
    const begun: Operation = {
      requestId: uuidv7(),
      startedAt: performance.now(),
      operation: payload.operationName,
      kind: undefined,
      codes: new Set(),
    };
    extra.operations.set(id, begun);
    return begun;
  }

  function show({ extra }: Context<Params, Connection>, id: ID, errors: readonly GraphQLError[]): PublicError[] {
    const operation = extra.operations.get(id);
    return errors.map((error) => {
      const shown = publicError(error.toJSON(), error);
      operation?.codes.add(shown.extensions.code);
      logCause(logger, operation?.requestId ?? 'unknown', shown, error);
      return shown;
    });
  }

  function end({ extra }: Context<Params, Connection>, id: ID): void {
    const operation = extra.operations.get(id);
    if (!operation) return;
    extra.operations.delete(id);
    logOperation(logger, { ...operation, via: 'websocket', codes: [...operation.codes] });
  }

  const options: ServerOptions<Params, Connection> = {
    onConnect({ extra, connectionParams }) {
      extra.caller = identify(extra.request, connectionParams);
    },
    onSubscribe({ extra, ...context }, id, payload) {
      const begun = begin({ extra, ...context }, id, payload);
      if (!extra.caller) throw new Error('An operation came before connection_init was answered');
      const prepared = prepare(schema, payload);
      if (!('document' in prepared)) return prepared;
      const operation = getOperationAST(prepared.document, payload.operationName);
      begun.kind = operation?.operation;
      begun.operation = operation?.name?.value;
      return { ...prepared, contextValue: createContext(services, extra.caller, begun.requestId) };
    },
    onNext(context, id, _payload, _args, { errors, ...result }) {
      return errors ? { ...result, errors: show(context, id, errors) } : undefined;
    },
    onError(context, id, _payload, errors) {
      const shown = show(context, id, errors);
      end(context, id);
      return shown;
    },
    onComplete: (context, id) => end(context, id),
  };
  return makeServer(options);
}

/** Parses and checks as Apollo Server does for HTTP, with its codes. */
function prepare(schema: GraphQLSchema, payload: SubscribePayload): ExecutionArgs | readonly GraphQLError[] {
  let document: ExecutionArgs['document'];
  try {
    document = parse(payload.query, { maxTokens: MOST_TOKENS });
  } catch (thrown) {
    if (!(thrown instanceof GraphQLError)) throw thrown;
    return [withCode(thrown, 'GRAPHQL_PARSE_FAILED')];
  }
  const mistakes = validate(schema, document, [...specifiedRules, depthLimit]);
  if (mistakes.length > 0) return mistakes.map((mistake) => withCode(mistake, 'GRAPHQL_VALIDATION_FAILED'));
  return { schema, document, operationName: payload.operationName, variableValues: payload.variables };
}

function withCode(error: GraphQLError, code: string): GraphQLError {
  const { message, nodes, source, positions, originalError } = error;
  return new GraphQLError(message, { nodes, source, positions, originalError, extensions: { code } });
}
