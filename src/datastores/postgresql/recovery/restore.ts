/** Puts a backup's bytes back: the stored tar archives into a data directory that is PostgreSQL's user's in the end. */
import { chown, mkdir, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { Fault } from '../../../errors.js';
import type { RecoveryContext } from '../../datastore.js';
import { type BaseState, baseState, ROLLED_VERSION } from '../backup/backup.js';
import type { Binaries } from '../server/binaries.js';
import { handOver, type RunAs } from '../server/processes.js';
import { endLeftover } from '../server/server.js';
import { readIfThere } from '../server/settings.js';
import { tablespaceIn } from '../server/tablespaces.js';
import { unpack } from './unpack.js';
import type { ArchivePlace } from './unpackSink.js';
import { WriteBack } from './writeBack.js';

/** Where a recovery keeps its things inside its scratch directory. */
export function scratchPlaces(scratch: string) {
  return {
    data: path.join(scratch, 'data'),
    feed: path.join(scratch, 'feed'),
    /** Holds the machine's boot since which the backup lies there; gone once it is no longer the plain backup. */
    restored: path.join(scratch, 'restored'),
    /** What the replay reached. */
    reached: path.join(scratch, 'reached.json'),
  };
}

export type RestoreContext = Pick<RecoveryContext, 'scratch' | 'base' | 'signal'> & {
  target: Pick<RecoveryContext['target'], 'home'>;
};

/** @throws Fault VERSION_MISMATCH, BACKUP_CORRUPT, STORAGE_FULL, and what reading the parts throws */
export async function restoreBase(context: RestoreContext, binaries: Binaries, runAs: RunAs | null): Promise<void> {
  const { scratch, base, signal, target } = context;
  const places = scratchPlaces(scratch);
  const state = baseState(base.facts);
  const { major, version } = state;
  await requireMajor(binaries, major, runAs);
  await endLeftover(places.data);
  // Where the service is root nobody else can reach what it writes, until it is there.
  await takeBack(scratch, runAs);
  for (const left of Object.values(places)) await rm(left, { recursive: true, force: true });
  await mkdir(places.data, { mode: 0o700 });
  const archives = await archivePlaces(state, places.data, runAs);
  const writeBack = new WriteBack(places.data);
  const unpacked = { parts: base.parts, archives, starts: state.starts ?? null, owner: runAs };
  await unpack(unpacked, signal).finally(() => writeBack.stop());
  writeBack.demandWritten();
  for (const directory of [places.data, scratch, target.home]) await handOver(directory, runAs);
  // It would link the tablespaces to the source's own directories.
  await rm(path.join(places.data, 'tablespace_map'), { force: true });
  const holds = await readIfThere(path.join(places.data, 'PG_VERSION'));
  if (holds !== null && holds.trim() !== String(major)) {
    throw new Fault('VERSION_MISMATCH', `The backup is said to be of PostgreSQL ${major} and is of ${holds.trim()}`, {
      hint: 'Recover from another backup.',
    });
  }
  for (const file of ['PG_VERSION', 'global/pg_control']) {
    if ((await readIfThere(path.join(places.data, file))) === null) throw lacks(`no ${file}`);
  }
  // Without its label a backup starts from the wrong place and is damaged silently; so is a rolled one with a label.
  const label = (await readIfThere(path.join(places.data, 'backup_label'))) !== null;
  if (label !== (version !== ROLLED_VERSION)) throw lacks(label ? 'a backup_label of another' : 'no backup_label');
  await writeFile(places.restored, await bootId());
}

function lacks(what: string): Fault {
  return new Fault('BACKUP_CORRUPT', `The backup holds ${what}`, { hint: 'Recover from another backup.' });
}

/**
 * Whether the plain backup is there. What was unpacked is not yet on disk for sure, the replay's end sees to that: after
 * a sudden end of the machine in between it is unpacked again.
 */
export async function isRestored(scratch: string): Promise<boolean> {
  return (await readIfThere(scratchPlaces(scratch).restored)) === (await bootId());
}

async function bootId(): Promise<string> {
  return (await readIfThere('/proc/sys/kernel/random/boot_id')) ?? '';
}

/**
 * Before anything is unpacked: no other major's server opens these files.
 * @throws Fault VERSION_MISMATCH with what to install
 */
export async function requireMajor(binaries: Binaries, major: number, runAs: RunAs | null): Promise<void> {
  try {
    await binaries.find('postgres', major, runAs);
  } catch (error) {
    if (!(error instanceof Fault) || error.code !== 'DATASTORE_NOT_SUPPORTED') throw error;
    throw new Fault('VERSION_MISMATCH', `The backup is of PostgreSQL ${major}: ${error.message}`, {
      hint: error.hint ?? undefined,
    });
  }
}

/** After an earlier attempt it belongs to PostgreSQL's user. */
async function takeBack(scratch: string, runAs: RunAs | null): Promise<void> {
  if (runAs) await chown(scratch, process.getuid?.() ?? 0, process.getgid?.() ?? 0);
}

/** Each archive with the directory that it is unpacked into, which is made. */
async function archivePlaces(state: BaseState, data: string, runAs: RunAs | null): Promise<ArchivePlace[]> {
  const places: ArchivePlace[] = [];
  let from = 0;
  for (const { tablespace, bytes } of state.archives) {
    const into = tablespace === null ? data : await makeTablespace(data, tablespace, runAs);
    places.push({ from, to: from + bytes, into });
    from += bytes;
  }
  return places;
}

async function makeTablespace(data: string, tablespace: number, runAs: RunAs | null): Promise<string> {
  const directory = tablespaceIn(data, tablespace);
  for (const part of [path.dirname(directory), directory]) {
    await mkdir(part, { recursive: true, mode: 0o700 });
    if (runAs) await chown(part, runAs.uid, runAs.gid);
  }
  return directory;
}
