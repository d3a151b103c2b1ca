/**
 * The one place that knows of Apollo Federation 2: which types are entities, which of their fields other subgraphs may
 * answer too, and the two fields, _service and _entities, by which a federated gateway talks to a subgraph. Written
 * from the subgraph specification, https://www.apollographql.com/docs/graphos/schema-design/federated-schemas/reference/subgraph-spec;
 * docs/decisions/federation.md says why no library does it.
 */
import {
  GraphQLList,
  GraphQLNonNull,
  GraphQLObjectType,
  GraphQLScalarType,
  GraphQLSchema,
  GraphQLString,
  GraphQLUnionType,
  printSchema,
  printType,
  valueFromASTUntyped,
} from 'graphql';
import { invalidArgument } from '../errors.js';
import { findBackup } from './backupResolver.js';
import type { GatewayContext } from './context.js';
import { findInstance } from './instanceResolver.js';
import { findRecovery } from './recoveryResolver.js';

interface Entity {
  /** Fields that other subgraphs may define as well; everything else is answered here alone. */
  shareable: readonly string[];
  /** Null for an id that is unknown, malformed or another tenant's. Calls of one moment share one look-up. */
  find(context: GatewayContext, id: string): Promise<object | null>;
}

/** By the name of the type. The key of each is its id. */
const ENTITIES = new Map<string, Entity>([
  [
    'DatabaseInstance',
    { find: findInstance, shareable: ['name', 'datastore', 'datastoreVersion', 'flavor', 'createdAt'] },
  ],
  ['DatabaseBackup', { find: findBackup, shareable: [] }],
  ['Recovery', { find: findRecovery, shareable: [] }],
]);

/** How many entities one request may ask for. They become the parameters of one statement, and SQLite takes 32,766. */
const MOST_REPRESENTATIONS = 10_000;

const LINK = 'extend schema @link(url: "https://specs.apollo.dev/federation/v2.9", import: ["@key", "@shareable"])';

/** The schema that is served: `api`, and for gateways _service and _entities. */
export function asSubgraph(api: GraphQLSchema): GraphQLSchema {
  const { query, types, ...rest } = api.toConfig();
  if (!query) throw new Error('A subgraph needs a query');
  const { fields, ...named } = query.toConfig();
  const plumbing = { _service: serviceField(subgraphSdl(api)), _entities: entitiesField(api) };
  return new GraphQLSchema({
    ...rest,
    query: new GraphQLObjectType({ ...named, fields: { ...fields, ...plumbing } }),
    types: types.filter((type) => type !== query),
  });
}

/**
 * What a gateway composes from, and what schema.graphql holds: `api` with Federation's directives. They are written into
 * the text, whose layout is for people, because a printed syntax tree would lose its blank lines.
 */
export function subgraphSdl(api: GraphQLSchema): string {
  let text = printSchema(api);
  for (const [name, { shareable }] of ENTITIES) {
    const plain = printType(objectType(api, name));
    let marked = replaceOne(plain, `^type ${name} {$`, `type ${name} @key(fields: "id") {`);
    for (const field of shareable) marked = replaceOne(marked, `^  ${field}: .*$`, '$& @shareable');
    text = text.replace(plain, () => marked);
  }
  return `${LINK}\n\n${text}\n`;
}

/** @throws Error where there is no such line: a field was renamed and this file was not told */
function replaceOne(text: string, line: string, by: string): string {
  const pattern = new RegExp(line, 'm');
  if (!pattern.test(text)) throw new Error(`Federation looked for ${line} in vain`);
  return text.replace(pattern, by);
}

function serviceField(sdl: string) {
  const service = new GraphQLObjectType({
    name: '_Service',
    description: 'This service as a subgraph.',
    fields: {
      sdl: { type: new GraphQLNonNull(GraphQLString), description: 'Its schema with the directives of Federation 2.' },
    },
  });
  return {
    type: new GraphQLNonNull(service),
    description: 'For federated gateways: what this subgraph offers.',
    resolve: () => ({ sdl }),
  };
}

function entitiesField(api: GraphQLSchema) {
  const entity = new GraphQLUnionType({
    name: '_Entity',
    description: 'What other subgraphs may refer to.',
    types: [...ENTITIES.keys()].map((name) => objectType(api, name)),
  });
  const any = new GraphQLScalarType({
    name: '_Any',
    description: 'A reference to an entity: { __typename, id }.',
    parseValue: (value) => value,
    parseLiteral: valueFromASTUntyped,
  });
  return {
    type: new GraphQLNonNull(new GraphQLList(entity)),
    description: 'For federated gateways: the entities that are referred to, in order; null for what does not exist.',
    args: {
      representations: {
        type: new GraphQLNonNull(new GraphQLList(new GraphQLNonNull(any))),
        description: `The references, at most ${MOST_REPRESENTATIONS}.`,
      },
    },
    resolve(_root: unknown, { representations }: { representations: unknown[] }, context: GatewayContext) {
      if (representations.length > MOST_REPRESENTATIONS) {
        throw invalidArgument('representations', `Ask for at most ${MOST_REPRESENTATIONS} entities at once`);
      }
      return representations.map((reference) => resolveReference(context, reference));
    },
  };
}

async function resolveReference(context: GatewayContext, reference: unknown): Promise<object | null> {
  const { __typename, id } = Object(reference) as Record<string, unknown>;
  const entity = typeof __typename === 'string' ? ENTITIES.get(__typename) : undefined;
  if (!entity || typeof id !== 'string') {
    throw invalidArgument('representations', `A reference names one of ${[...ENTITIES.keys()].join(', ')}, and its id`);
  }
  const found = await entity.find(context, id);
  // The name tells the union which of its types it is.
  return found && { ...found, __typename };
}

/** @throws Error where an entity was renamed and this file was not told */
function objectType(api: GraphQLSchema, name: string): GraphQLObjectType {
  const type = api.getType(name);
  if (!(type instanceof GraphQLObjectType)) throw new Error(`The schema has no type ${name}`);
  return type;
}
