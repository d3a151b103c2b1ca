/** What Hive gateway has to be told about this service: `hive-gateway supergraph FILE --config-path gateway.config.js`. */
import { defineConfig } from '@graphql-hive/gateway';

export const gatewayConfig = defineConfig({
  // `pitr` is this service's name in the supergraph. Its subscriptions are served over WebSocket.
  transportEntries: { pitr: { options: { subscriptions: { kind: 'ws', location: '/graphql' } } } },
});

// Where another process forked the gateway: it ends when that process lets go of it, or dies.
if (process.connected) process.once('disconnect', () => process.kill(process.pid, 'SIGTERM'));
