/**
 * Looks at a PostgreSQL server that is to be captured: whether everything that capture and backups need is there. What
 * is missing is refused with the setting to change; nothing is ever changed but the service's own replication slot.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import { Fault } from '../../../errors.js';
import type { InstanceFacts } from '../../datastore.js';
import { supportedInWords, supportedMajors } from '../formats/majors.js';
import { WAL_PAGE } from '../formats/walRecord.js';
import { endpointOf, type ServerAddress, uriOf } from './address.js';
import { ReplicationStream, type SystemIdentity } from './replicationStream.js';
import { sqlState, withSession } from './session.js';

/** How often the server is asked again whether the service's sessions have ended there. */
const ATTEMPT_MS = 100;
const ATTEMPTS = 50;

/** The service's slot for an instance: letters, digits and underscores, at most 63. */
export function slotName(instanceId: string): string {
  return `pitr_${instanceId.toLowerCase().replace(/[^a-z0-9_]/g, '_')}`.slice(0, 63);
}

interface ServerFacts {
  version_num: number;
  version: string;
  in_recovery: boolean;
  may_replicate: boolean;
  wal_level: string;
  max_wal_senders: number;
  senders: number;
  max_slots: number;
  slots: number;
  own_slot: boolean;
  wal_block_size: number;
  sync_names: string;
  tablespaces: string[];
  port: string;
  keep_size: string;
  /** Of 18 and later; null before. */
  slot_timeout: string | null;
}

const FACTS = `select current_setting('server_version_num')::int as version_num,
  current_setting('server_version') as version,
  pg_is_in_recovery() as in_recovery,
  (select rolreplication or rolsuper from pg_roles where rolname = current_user) as may_replicate,
  current_setting('wal_level') as wal_level,
  current_setting('max_wal_senders')::int as max_wal_senders,
  (select count(*)::int from pg_stat_activity where backend_type = 'walsender' and application_name <> $1) as senders,
  current_setting('max_replication_slots')::int as max_slots,
  (select count(*)::int from pg_replication_slots where slot_name <> $1) as slots,
  exists (select from pg_replication_slots where slot_name = $1) as own_slot,
  current_setting('wal_block_size')::int as wal_block_size,
  current_setting('synchronous_standby_names') as sync_names,
  array(select spcname::text from pg_tablespace where spcname not in ('pg_default', 'pg_global') order by oid) as tablespaces,
  current_setting('port') as port,
  current_setting('max_slot_wal_keep_size') as keep_size,
  current_setting('idle_replication_slot_timeout', true) as slot_timeout`;

/**
 * @param instanceId null before the source is an instance
 * @throws Fault INVALID_ARGUMENT (connectionUri), DATASTORE_UNAVAILABLE, DATASTORE_NOT_SUPPORTED
 */
export async function inspectSource(address: ServerAddress, instanceId: string | null): Promise<InstanceFacts> {
  const slot = instanceId === null ? 'pitr_<id of the instance>' : slotName(instanceId);
  const facts = await withSession(address, { applicationName: 'pitr' }, async (client) => {
    const { rows } = await client.query<ServerFacts>(FACTS, [slot]);
    return rows[0] as ServerFacts;
  });
  refuseUnfit(facts);
  // Also the proof that pg_hba.conf lets the service replicate.
  const stream = await ReplicationStream.open(address, 'pitr');
  const identity = await stream.identify().finally(() => stream.close());
  return {
    datastoreVersion: facts.version.split(' ')[0] ?? facts.version,
    endpoint: endpointOf(address),
    connectionUri: uriOf(address),
    identity: serverIdentity(identity, facts.port),
    state: { systemId: identity.systemId },
    notices: notices(slot, facts),
  };
}

/** A copy that was promoted shares the system identifier and differs in its timeline, or else in its port. */
function serverIdentity({ systemId, timeline }: SystemIdentity, port: string): string {
  return `${systemId}:${timeline}:${port}`;
}

/** As inspectSource() tells it, of the server that a stream is connected to. */
export async function identityBehind(client: pg.Client, server: SystemIdentity): Promise<string> {
  const { rows } = await client.query("select current_setting('port') as port");
  return serverIdentity(server, rows[0].port);
}

/** The same cluster on the same timeline or a later one: moved, restarted elsewhere, or its promoted standby. */
export function continuesIdentity(known: string, found: string): boolean {
  const [knownSystem, knownTimeline] = known.split(':');
  const [foundSystem, foundTimeline] = found.split(':');
  return knownSystem === foundSystem && Number(foundTimeline) >= Number(knownTimeline);
}

function refuseUnfit(facts: ServerFacts): void {
  refuseOtherMajor(facts.version_num);
  if (facts.in_recovery) throw unfit('The server is a standby', 'Register the primary instead.');
  if (!facts.may_replicate) {
    throw unfit('The user may not replicate', 'As a superuser: ALTER ROLE … REPLICATION;');
  }
  if (facts.wal_level === 'minimal') {
    throw unfit('The server logs too little to recover from', 'Set wal_level = replica and restart it.');
  }
  if (facts.max_wal_senders - facts.senders < 2) {
    throw unfit(
      `All but ${Math.max(0, facts.max_wal_senders - facts.senders)} of ${facts.max_wal_senders} WAL senders are taken, and two are needed`,
      `Set max_wal_senders = ${facts.senders + 2} or more and restart it.`,
    );
  }
  if (!facts.own_slot && facts.max_slots <= facts.slots) {
    throw unfit(
      `All ${facts.max_slots} replication slots are taken`,
      `Set max_replication_slots = ${facts.slots + 1} or more and restart it.`,
    );
  }
  if (facts.wal_block_size !== WAL_PAGE) {
    throw unfit(
      `WAL pages of ${facts.wal_block_size} bytes are not supported`,
      'Use a build with pages of 8192 bytes.',
    );
  }
  if (facts.sync_names.includes('*')) {
    throw unfit(
      'The server would wait for the service at every commit, because synchronous_standby_names holds a *',
      'Name the standbys in synchronous_standby_names.',
    );
  }
}

function refuseOtherMajor(versionNumber: number): void {
  const major = Math.floor(versionNumber / 10_000);
  if (supportedMajors.includes(major)) return;
  throw unfit(`This release has not been proven with PostgreSQL ${major}`, `Use ${supportedInWords}.`);
}

/** A server that is captured may have become another major's since. @throws Fault DATASTORE_NOT_SUPPORTED */
export async function requireKnownMajor(client: pg.Client): Promise<void> {
  const { rows } = await client.query("select current_setting('server_version_num')::int as version");
  refuseOtherMajor(rows[0].version);
}

function notices(slot: string, facts: ServerFacts): string[] {
  const said = [
    `The service keeps a replication slot named ${slot} on the server, and one connection that receives the log.`,
    'It writes an empty transaction whenever it makes the present moment recoverable; it changes no table and no setting.',
    'Unlogged tables come back empty from a recovery.',
  ];
  if (facts.tablespaces.length > 0) {
    said.push(
      `The tablespaces ${facts.tablespaces.join(', ')} are backed up too; a recovery puts them below the new instance's own directory.`,
    );
  }
  if (facts.keep_size === '-1') {
    said.push(
      'While the service is down the server keeps all log for it; max_slot_wal_keep_size bounds how much, at the price of a gap.',
    );
  }
  if (facts.slot_timeout !== null && facts.slot_timeout !== '0') {
    said.push(
      `While the service is down for longer than idle_replication_slot_timeout, ${facts.slot_timeout}, the server takes its slot away; log that it then removes is a gap.`,
    );
  }
  return said;
}

/** Makes the slot where it is missing or has lost its log. The user needs REPLICATION. */
export async function ensureSlot(client: pg.Client, slot: string): Promise<void> {
  const { rows } = await client.query('select wal_status from pg_replication_slots where slot_name = $1', [slot]);
  if (rows.length > 0 && rows[0].wal_status !== 'lost') return;
  if (rows.length > 0) await client.query('select pg_drop_replication_slot($1)', [slot]);
  await client.query('select pg_create_physical_replication_slot($1, true)', [slot]);
}

/** Removes the slot, waiting for a connection that still uses it to end; one that is not there is no error. */
export async function dropSlot(address: ServerAddress, slot: string): Promise<void> {
  await withSession(address, { applicationName: 'pitr' }, (client) => drop(client, slot));
}

/**
 * Leaves a server that is captured no more: ends what is left there of the capture's sessions and removes its slot. Doing
 * it twice is no error.
 * @throws Fault INVALID_ARGUMENT (connectionUri), DATASTORE_UNAVAILABLE; also where a session has not ended within five
 *   seconds, for it could still make the slot
 */
export async function leaveSource(address: ServerAddress, slot: string): Promise<void> {
  await withSession(address, { applicationName: 'pitr' }, async (client) => {
    for (let attempt = 0; ; attempt++) {
      // A server goes on with what a session that was hung up has asked for, and that may be the slot. Every role may end
      // its own sessions; one of another role, from before the connection URI changed, can only be waited for.
      const { rowCount } = await client.query(
        `select case when usename = current_user then pg_terminate_backend(pid) end
           from pg_stat_activity where application_name = $1`,
        [slot],
      );
      // Also while one is left: if it stays, the server at least keeps no log until this is tried again.
      await drop(client, slot);
      if (rowCount === 0) return;
      if (attempt >= ATTEMPTS) {
        throw new Fault('DATASTORE_UNAVAILABLE', `A session named ${slot} does not end on the server`, {
          hint: 'End it there with pg_terminate_backend().',
        });
      }
      await delay(ATTEMPT_MS);
    }
  });
}

async function drop(client: pg.Client, slot: string): Promise<void> {
  for (let attempt = 0; ; attempt++) {
    try {
      await client.query('select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1', [
        slot,
      ]);
      return;
    } catch (error) {
      // 55006: the server has not yet noticed that the service's connection is gone.
      if (sqlState(error) !== '55006' || attempt >= ATTEMPTS) throw error;
      await delay(ATTEMPT_MS);
    }
  }
}

function unfit(message: string, hint: string): Fault {
  return new Fault('DATASTORE_NOT_SUPPORTED', message, { hint });
}
