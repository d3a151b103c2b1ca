/** Apollo Server, set up for this schema: queries and mutations over HTTP. */
import { ApolloServer, type ApolloServerPlugin } from '@apollo/server';
import {
  ApolloServerPluginCacheControlDisabled,
  ApolloServerPluginInlineTraceDisabled,
  ApolloServerPluginLandingPageDisabled,
  ApolloServerPluginSchemaReportingDisabled,
  ApolloServerPluginUsageReportingDisabled,
} from '@apollo/server/plugin/disabled';
import { GraphQLError, type GraphQLSchema } from 'graphql';
import type { Logger } from 'pino';
import { RequestScope } from '../requestScope.js';
import type { Telemetry } from '../telemetry/telemetry.js';
import type { GatewayContext } from './context.js';
import { depthLimit } from './depthLimit.js';
import { publicError } from './errorShape.js';
import { logCause, logOperation } from './operationLog.js';
import { OperationWatch } from './operationWatch.js';

/** Far more than any sensible document has; stops one that only costs time to parse. */
export const MOST_TOKENS = 10_000;

/** Not started yet. */
export function createApollo(
  schema: GraphQLSchema,
  logger: Logger,
  telemetry: Telemetry,
): ApolloServer<GatewayContext> {
  return new ApolloServer<GatewayContext>({
    schema,
    logger,
    introspection: true,
    csrfPrevention: true,
    allowBatchedHttpRequests: false,
    persistedQueries: false,
    includeStacktraceInErrorResponses: false,
    stopOnTerminationSignals: false,
    parseOptions: { maxTokens: MOST_TOKENS },
    validationRules: [depthLimit],
    formatError: (formatted, thrown) => publicError(formatted, thrown),
    plugins: [
      ApolloServerPluginLandingPageDisabled(),
      ApolloServerPluginCacheControlDisabled(),
      // This one starts by itself in a subgraph, and would tell gateways the errors as they were thrown.
      ApolloServerPluginInlineTraceDisabled(),
      // These two would start by themselves where the environment holds a key of Apollo's.
      ApolloServerPluginUsageReportingDisabled(),
      ApolloServerPluginSchemaReportingDisabled(),
      operationLog(logger),
      operationWatch(telemetry),
    ],
  });
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
