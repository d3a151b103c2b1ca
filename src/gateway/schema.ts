/** Builds the one schema from the resolvers: the one that the server runs, a subgraph of Apollo Federation. */
import 'reflect-metadata';
import { type GraphQLSchema, isObjectType } from 'graphql';
import { buildSchemaSync, type PubSub } from 'type-graphql';
import { BackupResolver } from './backupResolver.js';
import { asSubgraph, subgraphSdl } from './federation.js';
import { InstanceResolver } from './instanceResolver.js';
import { enforcePatience } from './limits/patience.js';
import { PlanResolver } from './planResolver.js';
import { ProgressResolver } from './progressResolver.js';
import { RecoveryResolver } from './recoveryResolver.js';
import { enforceRoles } from './roles.js';

/** type-graphql demands one. Every subscription here brings its own source, so it is never asked. */
const noPubSub: PubSub = {
  publish() {
    throw new Error('Nothing is published through the schema');
  },
  subscribe() {
    throw new Error('Nothing is subscribed through the schema');
  },
};

/** What the server runs. */
export function createSchema(): GraphQLSchema {
  const schema = asSubgraph(createApi());
  enforcePatience(schema);
  return schema;
}

/** The same as text, for schema.graphql and for federated gateways. */
export function createSdl(): string {
  return subgraphSdl(createApi());
}

function createApi(): GraphQLSchema {
  const schema = buildSchemaSync({
    resolvers: [InstanceResolver, BackupResolver, PlanResolver, RecoveryResolver, ProgressResolver],
    pubSub: noPubSub,
    // Arguments are checked in arguments.ts.
    validate: false,
  });
  inWrittenOrder(schema);
  enforceRoles(schema);
  return schema;
}

/** Decorators of parameters run from the last to the first; people read arguments the other way round. */
function inWrittenOrder(schema: GraphQLSchema): void {
  for (const type of Object.values(schema.getTypeMap())) {
    if (!isObjectType(type) || type.name.startsWith('__')) continue;
    for (const field of Object.values(type.getFields())) field.args = field.args.toReversed();
  }
}
