/** Makes new, empty PostgreSQL servers in an instance's home, and knows what lies where in such a home. */
import { randomBytes } from 'node:crypto';
import { rm } from 'node:fs/promises';
import path from 'node:path';
import type { JsonObject } from '../../../errors.js';
import type { InstanceFacts } from '../../datastore.js';
import { endpointOf, type ServerAddress, uriOf } from '../source/address.js';
import { withSession } from '../source/session.js';
import type { Binaries } from './binaries.js';
import { handOver, type RunAs, run } from './processes.js';
import { freePort, isPortFree, ManagedServer, type ServerPlace, socketDirectory } from './server.js';
import { type Settings, writeAccess, writeOwned, writeSettings } from './settings.js';

const SUPERUSER = 'postgres';
const PORTS_TRIED = 5;

/** What the service has to remember of a server that it runs; part of the instance's state. */
export interface ManagedState {
  managed: true;
  major: number;
  port: number;
  user: string;
}

export function managedState(state: JsonObject): ManagedState | null {
  const { managed, major, port, user } = state;
  if (managed !== true || typeof major !== 'number' || typeof port !== 'number' || typeof user !== 'string')
    return null;
  return { managed, major, port, user };
}

export function dataDirectory(home: string): string {
  return path.join(home, 'data');
}

export async function serverPlace(
  home: string,
  state: ManagedState,
  binaries: Binaries,
  runAs: RunAs | null,
): Promise<ServerPlace> {
  return {
    postgres: await binaries.find('postgres', state.major, runAs),
    data: dataDirectory(home),
    socketDir: socketDirectory(home),
    port: state.port,
    user: state.user,
    runAs,
    logFile: path.join(home, 'server.log'),
  };
}

/** The settings with which a managed server serves its users. */
export const servingSettings: Settings = { listen_addresses: '127.0.0.1' };

/**
 * Starts a server for the first time. Where somebody has taken its port since that was chosen it gets another one: the
 * answer says which, and `note` is told before it is tried.
 */
export async function startFirst(
  home: string,
  chosen: ManagedState,
  binaries: Binaries,
  runAs: RunAs | null,
  note: (state: ManagedState) => Promise<void>,
  signal?: AbortSignal,
): Promise<{ server: ManagedServer; state: ManagedState }> {
  for (let state = chosen, attempt = 1; ; attempt++) {
    const server = new ManagedServer(await serverPlace(home, state, binaries, runAs));
    try {
      await server.start(signal);
      return { server, state };
    } catch (error) {
      signal?.throwIfAborted();
      if (attempt === PORTS_TRIED || (await isPortFree(state.port))) throw error;
      state = { ...state, port: await freePort() };
      await note(state);
    }
  }
}

/** Makes and starts a server; the caller keeps it. */
export async function provisionServer(
  home: string,
  major: number,
  binaries: Binaries,
  runAs: RunAs | null,
  signal?: AbortSignal,
): Promise<{ server: ManagedServer; facts: InstanceFacts }> {
  const data = dataDirectory(home);
  const password = randomBytes(18).toString('base64url');
  const passwordFile = path.join(home, 'initial-password');
  const initdb = await binaries.find('initdb', major, runAs);
  await handOver(home, runAs);
  await rm(data, { recursive: true, force: true });
  await writeOwned(passwordFile, password, runAs);
  try {
    await run(
      initdb,
      [
        `--pgdata=${data}`,
        `--username=${SUPERUSER}`,
        `--pwfile=${passwordFile}`,
        '--auth=scram-sha-256',
        '--data-checksums',
        '--encoding=UTF8',
        '--locale=C.UTF-8',
      ],
      { runAs, timeoutMs: 300_000, signal },
    );
  } finally {
    await rm(passwordFile, { force: true });
  }
  await writeSettings(data, runAs, {}, servingSettings);
  await writeAccess(data, runAs, true);
  const chosen: ManagedState = { managed: true, major, port: await freePort(), user: SUPERUSER };
  const { server, state } = await startFirst(home, chosen, binaries, runAs, async () => {}, signal);
  return { server, facts: await managedFacts(server, state, password) };
}

/** What the rest of the service is told of a running managed server. `password` where the service made it. */
export async function managedFacts(
  server: ManagedServer,
  state: ManagedState,
  password: string | null,
): Promise<InstanceFacts> {
  const { version, system } = await withSession(server.address, { applicationName: 'pitr' }, async (client) => {
    const { rows } = await client.query(
      `select current_setting('server_version') as version, system_identifier::text as system,
              (select timeline_id from pg_control_checkpoint()) as timeline from pg_control_system()`,
    );
    return { version: String(rows[0].version), system: `${rows[0].system}:${rows[0].timeline}` };
  });
  const shown: ServerAddress = {
    ...server.address,
    host: '127.0.0.1',
    database: 'postgres',
    password,
    sslMode: 'prefer',
  };
  return {
    datastoreVersion: version.split(' ')[0] ?? version,
    endpoint: endpointOf(shown),
    connectionUri: uriOf(shown),
    identity: `${system}:${state.port}`,
    state: { ...state },
    notices: [],
  };
}
