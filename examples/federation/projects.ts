/**
 * A small subgraph next to ours, as a larger cloud might have: projects and the databases that belong to them. Of a
 * database it knows the id, which is all that the two subgraphs have to agree on, and a name and a date of its own.
 */
import { ApolloServer } from '@apollo/server';
import { ApolloServerPluginInlineTraceDisabled } from '@apollo/server/plugin/disabled';
import { startStandaloneServer } from '@apollo/server/standalone';
import { buildSubgraphSchema } from '@apollo/subgraph';
import { parse } from 'graphql';

export interface Project {
  id: string;
  title: string;
  startedAt: string;
  databases: readonly { id: string; name: string; createdAt: string }[];
}

const typeDefs = parse(`
  extend schema @link(url: "https://specs.apollo.dev/federation/v2.9", import: ["@key", "@shareable"])

  type Query {
    projects: [Project!]!
  }

  type Project @key(fields: "id") {
    id: ID!
    title: String!
    startedAt: DateTime!
    databases: [DatabaseInstance!]!
  }

  type DatabaseInstance @key(fields: "id") {
    id: ID!
    name: String! @shareable
    createdAt: DateTime! @shareable
  }

  "Whatever this subgraph takes for a date."
  scalar DateTime
`);

export interface ProjectsSubgraph {
  url: string;
  close(): Promise<void>;
}

/** Listens on a free port of this machine. `projects` is asked anew for every query. */
export async function startProjects(projects: () => readonly Project[]): Promise<ProjectsSubgraph> {
  const databases = () => projects().flatMap((project) => project.databases);
  const resolvers = {
    Query: { projects },
    Project: {
      __resolveReference: ({ id }: { id: string }) => projects().find((project) => project.id === id) ?? null,
    },
    DatabaseInstance: {
      __resolveReference: ({ id }: { id: string }) => databases().find((database) => database.id === id) ?? null,
    },
  };
  const server = new ApolloServer({
    schema: buildSubgraphSchema({ typeDefs, resolvers }),
    stopOnTerminationSignals: false,
    plugins: [ApolloServerPluginInlineTraceDisabled()],
  });
  const { url } = await startStandaloneServer(server, { listen: { host: '127.0.0.1', port: 0 } });
  return { url, close: () => server.stop() };
}
