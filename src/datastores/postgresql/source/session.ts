/** Connections to a PostgreSQL server, ordinary and for replication, and what their failures mean to a user. */
import type { Socket } from 'node:net';
import pg from 'pg';
import { Fault, invalidArgument } from '../../../errors.js';
import { endpointOf, resolvedWithin, type ServerAddress, tlsOptions } from './address.js';
import { socketTo } from './networks.js';
import { guardMessages } from './serverMessages.js';

const CONNECT_TIMEOUT_MS = 15_000;
const QUERY_TIMEOUT_MS = 60_000;
/** Characters of a server's own words that are repeated; they may be as many as a hostile one likes. */
const MOST_SAID = 500;

export interface SessionOptions {
  applicationName: string;
  /** A connection on which the server understands replication commands and nothing else. */
  replication?: boolean;
}

/**
 * Opens a connection; the caller ends it. An error while it lies idle shows at its next use.
 * @throws Fault INVALID_ARGUMENT (connectionUri), DATASTORE_UNAVAILABLE
 */
export async function connect(address: ServerAddress, options: SessionOptions): Promise<pg.Client> {
  try {
    const tls = await tlsOptions(address);
    try {
      return await open(address, options, tls ?? false);
    } catch (error) {
      // sslmode=prefer: in the clear where the server offers nothing else.
      const refused = error instanceof Error && error.message.includes('does not support SSL');
      if (address.sslMode !== 'prefer' || !refused) throw error;
      return await open(address, options, false);
    }
  } catch (error) {
    throw connectionFault(error, address);
  }
}

async function open(address: ServerAddress, options: SessionOptions, ssl: pg.ClientConfig['ssl']): Promise<pg.Client> {
  const resolved = await resolvedWithin(address);
  const config: pg.ClientConfig & { replication?: string } = {
    host: address.host,
    ...(resolved ? { stream: () => socketTo(resolved) } : {}),
    port: address.port,
    user: address.user,
    // The function keeps pg from looking for a password in files and environment variables of the service's own.
    password: () => address.password ?? '',
    database: address.database,
    application_name: options.applicationName,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    keepAlive: true,
    ssl,
    ...(options.replication ? { replication: 'true' } : { query_timeout: QUERY_TIMEOUT_MS }),
  };
  const client = new pg.Client(config);
  client.on('error', () => {});
  guardMessages(client);
  try {
    await client.connect();
    return client;
  } catch (error) {
    void client.end().catch(() => {});
    throw error;
  }
}

/** Runs `work` on a connection of its own. */
export async function withSession<T>(
  address: ServerAddress,
  options: SessionOptions,
  work: (client: pg.Client) => Promise<T>,
): Promise<T> {
  const client = await connect(address, options);
  try {
    return await work(client);
  } catch (error) {
    throw error instanceof Fault ? error : connectionFault(error, address);
  } finally {
    await client.end().catch(() => {});
  }
}

/**
 * The row that answers a replication command. Connections for these have no time limit of their own, since what streams
 * over them takes as long as it takes.
 * @throws Fault DATASTORE_UNAVAILABLE
 */
export async function askRow(client: pg.Client, command: string, address: ServerAddress): Promise<pg.QueryResultRow> {
  const query: pg.QueryConfig & { query_timeout: number } = { text: command, query_timeout: QUERY_TIMEOUT_MS };
  try {
    const { rows } = await client.query(query);
    return rows[0];
  } catch (error) {
    throw connectionFault(error, address);
  }
}

/** Ends a connection without a word to the server, which may not answer any more. */
export function hangUp(client: pg.Client): void {
  (client as unknown as { connection: { stream: Socket } }).connection.stream.destroy();
  void client.end().catch(() => {});
}

/** The SQLSTATE of a server's error. */
export function sqlState(error: unknown): string | null {
  const cause = error instanceof Fault ? error.cause : error;
  const code = cause instanceof Error && 'code' in cause ? cause.code : null;
  return typeof code === 'string' && /^[0-9A-Z]{5}$/.test(code) ? code : null;
}

/** What PostgreSQL or the network said, as a Fault that names the server and no credential. */
export function connectionFault(error: unknown, address: ServerAddress): Fault {
  if (error instanceof Fault) return error;
  const said = (error instanceof Error ? error.message : String(error)).slice(0, MOST_SAID);
  // What pg says when the server wants a password and there is none.
  if (said.includes('client password must be')) {
    return invalidArgument('connectionUri', 'PostgreSQL asks for a password and the connection URI has none');
  }
  switch (sqlState(error)) {
    case '28P01':
      return invalidArgument(
        'connectionUri',
        `PostgreSQL refuses user ${address.user}: ${said}`,
        'Check the user name and the password.',
      );
    case '28000':
      return invalidArgument(
        'connectionUri',
        `PostgreSQL lets nobody in this way: ${said}`,
        'Add lines to pg_hba.conf that let this user connect from the service, to its database and to "replication".',
      );
    case '3D000':
      return invalidArgument('connectionUri', said, 'Name a database that exists.');
    default:
      return new Fault('DATASTORE_UNAVAILABLE', `PostgreSQL at ${endpointOf(address)} does not answer: ${said}`, {
        hint: 'Check that the server runs and that the service can reach it.',
        cause: error,
      });
  }
}
