/** A connection URI as PostgreSQL's own clients read it, taken apart and put together in one spelling. */
import type { ConnectionOptions } from 'node:tls';
import { invalidArgument } from '../../../errors.js';
import type { NetworkBounds, Resolved } from './networks.js';
import { type FileRule, readTlsFile } from './tlsFiles.js';

export const sslModes = ['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full'] as const;
export type SslMode = (typeof sslModes)[number];

/** What a caller's URI may have the service do. */
export interface SourceBounds {
  networks: NetworkBounds;
  files: FileRule;
}

export interface ServerAddress {
  /** A name, an IP address, or the absolute path of a socket directory. */
  host: string;
  port: number;
  user: string;
  password: string | null;
  database: string;
  sslMode: SslMode;
  /** Paths of PEM files. */
  sslRootCert: string | null;
  sslCert: string | null;
  sslKey: string | null;
  /** Where a connection may lead and what it may be made with, now and later; null for the service's own servers. */
  bounds: SourceBounds | null;
}

const HINT =
  'Write it as postgresql://user:password@host:5432/database, with sslmode=… after a question mark if needed.';
const PARAMETERS = ['host', 'port', 'user', 'password', 'dbname', 'sslmode', 'sslrootcert', 'sslcert', 'sslkey'];

/** @throws Fault INVALID_ARGUMENT (connectionUri); the message never repeats the URI */
export function parseConnectionUri(uri: string, bounds: SourceBounds | null): ServerAddress {
  if (!/^postgres(ql)?:\/\//.test(uri)) throw wrong('The connection URI does not begin with postgresql://');
  if (!URL.canParse(uri)) throw wrong('The connection URI cannot be read');
  const url = new URL(uri);
  const unknown = [...url.searchParams.keys()].find((key) => !PARAMETERS.includes(key));
  if (unknown !== undefined) throw wrong(`The connection URI has a parameter that is not known here: ${unknown}`);
  const parameter = (name: string) => url.searchParams.get(name);
  const host = parameter('host') ?? decoded(url.hostname).replace(/^\[|\]$/g, '');
  const user = parameter('user') ?? decoded(url.username);
  const port = Number(parameter('port') ?? (url.port || '5432'));
  const sslMode = (parameter('sslmode') ?? 'prefer') as SslMode;
  if (host === '') throw wrong('The connection URI names no host');
  if (user === '') throw wrong('The connection URI names no user');
  if (host.includes(',')) throw wrong('The connection URI names several hosts');
  if (!Number.isInteger(port) || port < 1 || port > 65535) throw wrong('The connection URI has no usable port');
  if (!sslModes.includes(sslMode)) throw wrong('The connection URI has an sslmode that PostgreSQL does not know');
  return {
    host: host.startsWith('/') ? host : host.toLowerCase(),
    port,
    user,
    password: parameter('password') ?? (url.password === '' ? null : decoded(url.password)),
    database: parameter('dbname') ?? (decoded(url.pathname.slice(1)) || user),
    sslMode,
    sslRootCert: parameter('sslrootcert'),
    sslCert: parameter('sslcert'),
    sslKey: parameter('sslkey'),
    bounds,
  };
}

/** Where it leads, without credentials. */
export function endpointOf(address: ServerAddress): string {
  const { host, port, database } = address;
  if (host.startsWith('/')) return `postgresql:///${encodeURIComponent(database)}?host=${host}&port=${port}`;
  return `postgresql://${bracketed(host)}:${port}/${encodeURIComponent(database)}`;
}

/** The one spelling of it, with credentials. */
export function uriOf(address: ServerAddress): string {
  const { host, port, user, password, database } = address;
  const query = new URLSearchParams();
  const socket = host.startsWith('/');
  if (socket) {
    query.set('host', host);
    query.set('port', String(port));
    query.set('user', user);
    if (password !== null) query.set('password', password);
  }
  if (address.sslMode !== 'prefer') query.set('sslmode', address.sslMode);
  if (address.sslRootCert) query.set('sslrootcert', address.sslRootCert);
  if (address.sslCert) query.set('sslcert', address.sslCert);
  if (address.sslKey) query.set('sslkey', address.sslKey);
  const secret = password === null ? '' : `:${encodeURIComponent(password)}`;
  const authority = socket ? '' : `${encodeURIComponent(user)}${secret}@${bracketed(host)}:${port}`;
  const tail = query.size > 0 ? `?${query}` : '';
  return `postgresql://${authority}/${encodeURIComponent(database)}${tail}`;
}

/**
 * The addresses that may be connected to; null where the host says it, a socket or a server of the service's own.
 * @throws Fault INVALID_ARGUMENT (connectionUri), DATASTORE_UNAVAILABLE
 */
export async function resolvedWithin({ host, bounds }: ServerAddress): Promise<Resolved[] | null> {
  if (bounds === null) return null;
  if (!host.startsWith('/')) return await bounds.networks.resolve(host);
  bounds.networks.checkSocket();
  return null;
}

/**
 * What libpq's sslmode means for Node's TLS; null for a connection in the clear.
 * @throws Fault INVALID_ARGUMENT (connectionUri) for a file that cannot be used
 */
export async function tlsOptions(address: ServerAddress): Promise<ConnectionOptions | null> {
  if (address.sslMode === 'disable' || address.sslMode === 'allow' || address.host.startsWith('/')) return null;
  // For libpq, to name an authority is to ask for it: require then means verify-ca.
  const authority = address.sslMode === 'verify-ca' || (address.sslMode === 'require' && address.sslRootCert !== null);
  const file = async (parameter: string, path: string | null) =>
    path === null ? undefined : await readTlsFile(parameter, path, address.bounds?.files);
  return {
    rejectUnauthorized: authority || address.sslMode === 'verify-full',
    ca: await file('sslrootcert', address.sslRootCert),
    cert: await file('sslcert', address.sslCert),
    key: await file('sslkey', address.sslKey),
    // Whoever the authority vouches for is trusted, whatever name the certificate bears.
    ...(authority ? { checkServerIdentity: () => undefined } : {}),
  };
}

function bracketed(host: string): string {
  return host.includes(':') ? `[${host}]` : host;
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw wrong('The connection URI has a broken percent sign');
  }
}

function wrong(message: string) {
  return invalidArgument('connectionUri', message, HINT);
}
