/** Apollo's own gateway over a supergraph, on a free port. */
import { ApolloGateway } from '@apollo/gateway';
import { ApolloServer } from '@apollo/server';
import { startStandaloneServer } from '@apollo/server/standalone';

export async function startApolloGateway(supergraphSdl: string): Promise<{ url: string; close(): Promise<void> }> {
  const logger = { debug() {}, info() {}, warn: console.warn, error: console.error };
  const gateway = new ApolloGateway({ supergraphSdl, logger });
  const server = new ApolloServer({ gateway, logger, stopOnTerminationSignals: false });
  const { url } = await startStandaloneServer(server, { listen: { host: '127.0.0.1', port: 0 } });
  return { url, close: () => server.stop() };
}
