/** The end of a recovery: proves the replayed copy once more from its files, moves it into its home, brings it up. */
import { open, readFile, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { Fault } from '../../../errors.js';
import type { Cut } from '../../../model.js';
import type { InstanceFacts, RecoveryContext } from '../../datastore.js';
import { syncToDisk } from '../../durable.js';
import { baseState } from '../backup/backup.js';
import { ControlFileError, readControlFile } from '../formats/controlFile.js';
import { formatLsn } from '../formats/lsn.js';
import type { Binaries } from '../server/binaries.js';
import { handOver, type RunAs } from '../server/processes.js';
import {
  dataDirectory,
  type ManagedState,
  managedFacts,
  managedState,
  servingSettings,
  startFirst,
} from '../server/provision.js';
import { endLeftover, freePort, type ManagedServer, socketDirectory } from '../server/server.js';
import { readIfThere, writeAccess, writeSettings } from '../server/settings.js';
import { settleTablespaces } from '../server/tablespaces.js';
import { endpointOf, parseConnectionUri, uriOf } from '../source/address.js';
import { connect } from '../source/session.js';
import { preparedRoom, type ReplayNote, readReached } from './replay.js';
import { scratchPlaces } from './restore.js';

/** @throws Fault RECOVERY_INCOMPLETE where the copy is not a cleanly closed database that left the log at the cut */
export async function verifyCopy(context: RecoveryContext): Promise<Cut> {
  const { data, reached: file } = scratchPlaces(context.scratch);
  const { major, timeline, systemId } = baseState(context.base.facts);
  const noted = await readIfThere(file);
  const reached = await readReached(data, timeline);
  const cut = context.cut.position.ordinal;
  const wrong = (why: string) => new Fault('RECOVERY_INCOMPLETE', `The copy is not what was asked for: ${why}`);
  if (noted === null || (JSON.parse(noted) as ReplayNote).lsn !== reached.lsn)
    throw wrong('its replay was not finished');
  if (reached.lsn !== cut) throw wrong(`it ends at ${formatLsn(reached.lsn)}`);
  if ((await readIfThere(path.join(data, 'recovery.signal'))) !== null) throw wrong('its recovery is not over');
  const control = await readControlFile(data, major).catch((error: unknown) => {
    throw error instanceof ControlFileError ? wrong(error.message) : error;
  });
  if (control.state !== 'shut down') throw wrong(`its state is ${control.state}`);
  if (control.systemId !== systemId) throw wrong('it belongs to another cluster');
  if (control.timeline !== reached.timeline) throw wrong('its timeline is another');
  return structuredClone(context.cut);
}

/** Moves the copy home and starts it; where an earlier attempt did either, goes on from there. */
export async function activateCopy(
  context: RecoveryContext,
  binaries: Binaries,
  runAs: RunAs | null,
  running: ManagedServer | undefined,
): Promise<{ server: ManagedServer; facts: InstanceFacts }> {
  const { home } = context.target;
  const places = scratchPlaces(context.scratch);
  const base = baseState(context.base.facts);
  const data = dataDirectory(home);
  const noted = path.join(home, 'server.json');
  if ((await readIfThere(path.join(data, 'PG_VERSION'))) === null) {
    const state: ManagedState = { managed: true, major: base.major, port: await freePort(), user: base.user };
    await endLeftover(places.data);
    const { prepared } = JSON.parse(await readFile(places.reached, 'utf8')) as ReplayNote;
    await writeSettings(places.data, runAs, base.settings, {
      ...servingSettings,
      max_prepared_transactions: preparedRoom(base.settings.max_prepared_transactions, prepared),
    });
    await writeAccess(places.data, runAs, true);
    await handOver(home, runAs);
    await settleTablespaces(places.data, home, runAs);
    await note(noted, state);
    await rename(places.data, data);
    await syncToDisk(home);
    await syncToDisk(context.scratch);
  }
  const chosen = managedState(JSON.parse(await readFile(noted, 'utf8')));
  if (!chosen) throw new Fault('INTERNAL', 'The recovered server’s own notes cannot be read');
  // Nobody has been told its port yet, so it may still be another one.
  const { server, state } = running
    ? { server: running, state: chosen }
    : await startFirst(home, chosen, binaries, runAs, (changed) => note(noted, changed), context.signal);
  return { server, facts: await withCredentials(await managedFacts(server, state, null), context) };
}

async function note(file: string, state: ManagedState): Promise<void> {
  const handle = await open(`${file}.part`, 'w', 0o600);
  try {
    await handle.writeFile(JSON.stringify(state));
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(`${file}.part`, file);
}

/**
 * The copy's users and passwords are those of the cut. Where the source's own credentials open it too, its connection
 * URI carries them; where they do not, because the password was changed since or the user came later, it names the
 * superuser and no password.
 */
async function withCredentials(facts: InstanceFacts, context: RecoveryContext): Promise<InstanceFacts> {
  const { connectionUri } = context.source;
  if (!connectionUri) return facts;
  const { user, password, database } = parseConnectionUri(connectionUri, null);
  if (password === null) return facts;
  const address = { ...parseConnectionUri(facts.connectionUri, null), user, password, database };
  try {
    await (await connect(address, { applicationName: 'pitr' })).end();
  } catch {
    // The copy is whole whoever may enter it; what the server said of a password goes nowhere.
    return facts;
  }
  return { ...facts, endpoint: endpointOf(address), connectionUri: uriOf(address) };
}

/** Ends what a recovery runs, wherever it is, and removes what lies outside scratch and home. */
export async function discardCopy(target: { home: string; scratch: string }): Promise<void> {
  await endLeftover(scratchPlaces(target.scratch).data);
  await endLeftover(dataDirectory(target.home));
  for (const base of [target.scratch, target.home]) {
    await rm(socketDirectory(base), { recursive: true, force: true });
  }
}
