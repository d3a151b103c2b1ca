/**
 * The configuration of a server that the service runs. It is always written afresh: what a source had set may name
 * libraries, files, addresses and standbys that are not there, or an archive that is not the copy's to write to.
 */
import { open, readFile } from 'node:fs/promises';
import path from 'node:path';
import type pg from 'pg';
import type { RunAs } from './processes.js';

/** What decides how data is understood, and how much room a copy needs to replay its parent's log and serve its users. */
const carried = [
  'max_connections',
  'max_worker_processes',
  'max_wal_senders',
  'max_replication_slots',
  // Since 18; before, there was room for as many origins as slots.
  'max_active_replication_origins',
  'max_prepared_transactions',
  'max_locks_per_transaction',
  'max_pred_locks_per_transaction',
  'track_commit_timestamp',
  'TimeZone',
  'DateStyle',
  'IntervalStyle',
  'lc_monetary',
  'lc_numeric',
  'lc_time',
  'default_text_search_config',
  'default_transaction_isolation',
  'default_toast_compression',
  'standard_conforming_strings',
  'backslash_quote',
  'array_nulls',
  'transform_null_equals',
  'xmloption',
  'bytea_output',
];

export type Settings = Record<string, string>;

export async function readSettings(client: pg.Client): Promise<Settings> {
  const { rows } = await client.query<{ name: string; reset_val: string }>(
    'select name, reset_val from pg_settings where name = any($1) and reset_val is not null',
    [carried],
  );
  return Object.fromEntries(rows.map((row) => [row.name, row.reset_val]));
}

/** What is set for every server here, over anything carried. */
function own(carriedOver: Settings): Settings {
  const atLeast = (name: string, least: number) => String(Math.max(least, Number(carriedOver[name] ?? 0)));
  return {
    wal_level: 'replica',
    // Its own capture and backups need a few, whatever the parent allowed.
    max_wal_senders: atLeast('max_wal_senders', 10),
    max_replication_slots: atLeast('max_replication_slots', 10),
    archive_mode: 'off',
    synchronous_standby_names: '',
    shared_preload_libraries: '',
    ssl: 'off',
    logging_collector: 'off',
    log_destination: 'stderr',
    log_line_prefix: '%m [%p] ',
    // The service reads the log.
    lc_messages: 'C',
    unix_socket_permissions: '0700',
  };
}

/** Writes postgresql.conf, and empties postgresql.auto.conf, which would override it. */
export async function writeSettings(
  data: string,
  runAs: RunAs | null,
  inherited: Settings,
  set: Settings,
): Promise<void> {
  const lines = Object.entries({ ...inherited, ...own(inherited), ...set }).map(
    ([name, value]) => `${name} = '${value.replaceAll("'", "''")}'\n`,
  );
  await writeOwned(path.join(data, 'postgresql.conf'), lines.join(''), runAs);
  await writeOwned(path.join(data, 'postgresql.auto.conf'), '', runAs);
}

/**
 * Who may connect: the service through a socket in a directory that only its user may enter, everybody else from this
 * machine with the passwords in the database. `md5` accepts both kinds of stored password.
 */
export async function writeAccess(data: string, runAs: RunAs | null, clients: boolean): Promise<void> {
  const local = 'local all all trust\nlocal replication all trust\n';
  const network = ['127.0.0.1/32', '::1/128'].map(
    (from) => `host all all ${from} md5\nhost replication all ${from} md5\n`,
  );
  await writeOwned(path.join(data, 'pg_hba.conf'), clients ? local + network.join('') : local, runAs);
  await writeOwned(path.join(data, 'pg_ident.conf'), '', runAs);
}

/** Writes a file that PostgreSQL's user owns and nobody else reads. */
export async function writeOwned(file: string, text: string, runAs: RunAs | null): Promise<void> {
  const handle = await open(file, 'w', 0o600);
  try {
    await handle.writeFile(text);
    if (runAs) await handle.chown(runAs.uid, runAs.gid);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** A file's text, or null where it does not exist. */
export async function readIfThere(file: string): Promise<string | null> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null;
    throw error;
  }
}
