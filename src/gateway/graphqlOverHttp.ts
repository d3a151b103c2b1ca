/** Apollo Server, set up for this schema: queries and mutations over HTTP. */
import { ApolloServer, type ApolloServerPlugin } from '@apollo/server';
import {
  ApolloServerPluginCacheControlDisabled,
  ApolloServerPluginInlineTraceDisabled,
  ApolloServerPluginLandingPageDisabled,
  ApolloServerPluginSchemaReportingDisabled,
  ApolloServerPluginUsageReportingDisabled,
} from '@apollo/server/plugin/disabled';
import { GraphQLError } from 'graphql';
import type { Logger } from 'pino';
import { type Fault, invalidArgument } from '../errors.js';
import { RequestScope } from '../requestScope.js';
import type { Telemetry } from '../telemetry/telemetry.js';
import { answerStatus } from './answerStatus.js';
import type { GatewayContext } from './context.js';
import { publicError } from './errorShape.js';
import { DocumentCache } from './limits/documentCache.js';
import { MOST_TOKENS } from './limits/documentText.js';
import { asGraphqlError, type Gate } from './limits/gate.js';
import { logCause, logOperation } from './operationLog.js';
import { OperationWatch } from './operationWatch.js';

/** Not started yet. */
export function createApollo(gate: Gate, logger: Logger, telemetry: Telemetry): ApolloServer<GatewayContext> {
  return new ApolloServer<GatewayContext>({
    schema: gate.schema,
    logger,
    // The gate's own rule says it, alike on every way in.
    introspection: true,
    csrfPrevention: true,
    allowBatchedHttpRequests: false,
    // documentInRequest.ts has put the document in already.
    persistedQueries: false,
    includeStacktraceInErrorResponses: false,
    stopOnTerminationSignals: false,
    documentStore: new DocumentCache(),
    parseOptions: { maxTokens: MOST_TOKENS },
    validationRules: [...gate.rules],
    formatError: (formatted, thrown) => publicError(formatted, thrown),
    plugins: [
      ApolloServerPluginLandingPageDisabled(),
      ApolloServerPluginCacheControlDisabled(),
      // This one starts by itself in a subgraph, and would tell gateways the errors as they were thrown.
      ApolloServerPluginInlineTraceDisabled(),
      // These two would start by themselves where the environment holds a key of Apollo's.
      ApolloServerPluginUsageReportingDisabled(),
      ApolloServerPluginSchemaReportingDisabled(),
      costLimit(gate),
      answerStatus,
      operationLog(logger),
      operationWatch(telemetry),
    ],
  });
}

function costLimit(gate: Gate): ApolloServerPlugin<GatewayContext> {
  return {
    async requestDidStart() {
      return {
        async didResolveOperation({ document, operation, request, contextValue }) {
          if (!operation) return;
          try {
            if (operation.operation === 'subscription') throw streamNeeded();
            gate.admit(contextValue.callerKey, document, operation, request.variables);
          } catch (thrown) {
            throw asGraphqlError(thrown, { status: 400 });
          }
        },
      };
    },
  };
}

/** Executed like a query it would fail somewhere inside. */
function streamNeeded(): Fault {
  return invalidArgument(
    'query',
    'A subscription is answered with a stream',
    'Use a WebSocket with the sub-protocol graphql-transport-ws, or a POST that accepts text/event-stream.',
  );
}

function operationLog(logger: Logger): ApolloServerPlugin<GatewayContext> {
  return {
    async requestDidStart({ contextValue: { requestId, caller } }) {
      const startedAt = performance.now();
      return {
        async didEncounterErrors({ errors }) {
          for (const error of errors) logCause(logger, requestId, publicError(error.toJSON(), error), error);
        },
        async willSendResponse({ response, operationName, operation }) {
          const errors = response.body.kind === 'single' ? response.body.singleResult.errors : undefined;
          const codes = (errors ?? []).map((error) => error.extensions?.code);
          logOperation(logger, {
            requestId,
            caller,
            via: 'http',
            operation: operationName,
            kind: operation?.operation,
            startedAt,
            codes,
          });
        },
      };
    },
  };
}

/** The span is the one that everything done for the operation comes under, a recovery that it starts too. */
function operationWatch(telemetry: Telemetry): ApolloServerPlugin<GatewayContext> {
  return {
    async invalidRequestWasReceived({ error }) {
      const formatted = error instanceof GraphQLError ? error.toJSON() : { message: error.message };
      telemetry.refused('http', publicError(formatted, error).extensions.code);
    },
    async requestDidStart({ contextValue: { requestId, caller } }) {
      const scope = RequestScope.current;
      const watch = new OperationWatch(telemetry, 'http', {
        requestId,
        caller,
        traceparent: scope?.traceparent ?? null,
      });
      if (scope) scope.traceparent = watch.traceparent;
      return {
        async didResolveOperation({ document, operation }) {
          if (operation) watch.resolved(document, operation);
        },
        async didEncounterErrors({ errors }) {
          for (const error of errors) watch.failed(publicError(error.toJSON(), error));
        },
        async willSendResponse() {
          watch.end();
        },
      };
    },
  };
}
