/**
 * Replays the archived log onto a restored backup with PostgreSQL's own recovery, up to exactly the cut.
 *
 * Three independent things hold it there: the server is told to stop after the record that ends at the cut; it is given
 * no byte behind the cut; and the timeline that it opens afterwards says where it left the old one.
 */
import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { Fault } from '../../../errors.js';
import type { LogPosition } from '../../../model.js';
import type { RecoveryContext } from '../../datastore.js';
import { type BaseState, baseState } from '../backup/backup.js';
import { formatLsn, historyFileName, serverLsn } from '../formats/lsn.js';
import { readRecords } from '../formats/segmentFormat.js';
import type { Binaries } from '../server/binaries.js';
import { endProcess, launch, type RunAs, run } from '../server/processes.js';
import { endLeftover, freePort, makeSocketDirectory, privateAddress, socketDirectory } from '../server/server.js';
import { writeAccess, writeOwned, writeSettings } from '../server/settings.js';
import type { ServerAddress } from '../source/address.js';
import { withSession } from '../source/session.js';
import { RecoveringServer, SILENCE_MS, short } from './recoveringServer.js';
import { isRestored, restoreBase, scratchPlaces } from './restore.js';
import { WalFeed } from './walFeed.js';
import { WriteBack } from './writeBack.js';

/**
 * Room for prepared transactions: PostgreSQL stops a replay that meets more of them at once than it has room for, and the
 * source's limit may have been raised after the backup. Costs about 2 MB of memory.
 */
const PREPARED_ROOM = 1_000;

/** What a replay reached, as its own timeline tells it. */
export interface Reached {
  lsn: number;
  /** The timeline that was opened. */
  timeline: number;
}

/** What is written down once a replay has reached the cut. */
export interface ReplayNote extends Reached {
  /** Transactions that were prepared at the cut and neither committed nor rolled back. */
  prepared: number;
}

/** The room for prepared transactions that a copy needs to start and to be used as its parent was. */
export function preparedRoom(inherited: string | undefined, pending: number): string {
  return String(pending === 0 ? Number(inherited ?? 0) : Math.max(Number(inherited ?? 0), PREPARED_ROOM));
}

export async function replayLog(
  context: RecoveryContext,
  binaries: Binaries,
  runAs: RunAs | null,
): Promise<LogPosition> {
  const { scratch, cut } = context;
  const places = scratchPlaces(scratch);
  const state = baseState(context.base.facts);
  await endLeftover(places.data);
  // A data directory on which a replay was begun is good for nothing else.
  if (!(await isRestored(scratch))) await restoreBase(context, binaries, runAs);
  let prepared = 0;
  await replayUpToCut(context, binaries, runAs, 'promote', async (address) => {
    prepared = await withSession(address, { applicationName: 'pitr' }, async (client) => {
      const { rows } = await client.query(
        'select pg_is_in_recovery() as recovering, (select count(*)::int from pg_prepared_xacts) as prepared',
      );
      if (rows[0].recovering !== false) throw short('the server is still in recovery');
      return Number(rows[0].prepared);
    });
  });
  const reached = await readReached(places.data, state.timeline);
  if (reached.lsn !== cut.position.ordinal) throw short(`it ended at ${formatLsn(reached.lsn)}`);
  await writeOwned(places.reached, JSON.stringify({ ...reached, prepared } satisfies ReplayNote), null);
  return { ...cut.position };
}

export type ReplayContext = Pick<RecoveryContext, 'scratch' | 'base' | 'cut' | 'segments' | 'signal'> & {
  progress: Pick<RecoveryContext['progress'], 'replayedTo'>;
};

/**
 * Has a server replay the log onto the restored backup in scratch; it is gone when this resolves.
 *
 * `promote`: it opens at the cut, on a new timeline, and `serving` is called. `shutdown`: it stays on its timeline and
 * shuts itself down at the cut, at the lowest priority.
 */
export async function replayUpToCut(
  context: ReplayContext,
  binaries: Binaries,
  runAs: RunAs | null,
  end: 'promote' | 'shutdown',
  serving: (address: ServerAddress) => Promise<void> = async () => {},
): Promise<void> {
  const { scratch, signal } = context;
  const places = scratchPlaces(scratch);
  const state = baseState(context.base.facts);
  // The server would stop there and be content, where it had been stopped before: pg_xact tells of commits behind it.
  if (context.cut.position.ordinal < context.base.facts.consistent.ordinal) {
    throw short('the backup is of a later point');
  }
  await rm(places.restored);
  const stopRecord = await findStopRecord(context);
  const stopping = new AbortController();
  const either = AbortSignal.any([signal, stopping.signal]);
  const feed = new WalFeed(places.feed, feedPlan(context, state), runAs, either);
  await feed.prepare();
  const place = { socketDir: socketDirectory(scratch), port: await freePort() };
  await prepareData(places.data, runAs, state, { ...place, restoreCommand: feed.restoreCommand, stopRecord, end });
  await makeSocketDirectory(place.socketDir, runAs);
  const postgres = await binaries.find('postgres', state.major, runAs);
  const server = new RecoveringServer(
    launch(postgres, ['-D', places.data], { runAs, stdio: ['ignore', 'ignore', 'pipe'], gently: end === 'shutdown' }),
  );
  server.onFile = (name) => {
    const at = feed.reached(name);
    if (at !== null) context.progress.replayedTo(at);
  };
  // Nobody waits for the end of what has the lowest priority.
  const writeBack = end === 'promote' ? new WriteBack(path.join(places.data, 'base')) : null;
  const kill = () => server.child.kill('SIGQUIT');
  signal.addEventListener('abort', kill);
  try {
    const feeding = feed.run(context.segments('oldest-first'));
    feeding.catch(() => {});
    // A server that stops early makes the feed stop; a feed that fails makes the server stop.
    const over = end === 'promote' ? server.opened() : server.closed();
    const finished = over.finally(() => stopping.abort());
    const [fed, served] = await Promise.allSettled([feeding, finished]);
    signal.throwIfAborted();
    // Damaged or missing log is the cause of the server's complaint, so it is told first; a feed that was merely cut
    // short is not.
    if (fed.status === 'rejected' && fed.reason instanceof Fault) throw fed.reason;
    if (served.status === 'rejected') throw served.reason;
    if (fed.status === 'rejected') throw fed.reason;
    if (end === 'promote') {
      server.demandCompletion();
      await serving(privateAddress(place.socketDir, place.port, state.user));
    } else server.demandStopAfter(stopRecord);
  } finally {
    signal.removeEventListener('abort', kill);
    stopping.abort();
    await endProcess(server.child, signal.aborted ? 'SIGQUIT' : 'SIGINT', 120_000);
    await rm(place.socketDir, { recursive: true, force: true });
    await writeBack?.stop();
  }
  writeBack?.demandWritten();
  // Once for the backup and the replay together: file by file, and twice, it took longer than both. It also tells of
  // writes that failed, whose bytes nobody must read back for the server's.
  await run('sync', process.platform === 'linux' ? ['-f', places.data] : [], {
    runAs: null,
    timeoutMs: SILENCE_MS,
    signal,
  });
}

/** Where the timeline that follows `parent` leaves it: the last line of the newest history file. */
export async function readReached(data: string, parent: number): Promise<Reached> {
  const wal = path.join(data, 'pg_wal');
  const newest = (await readdir(wal))
    .filter((name) => /^[0-9A-F]{8}\.history$/.test(name))
    .sort()
    .at(-1);
  const timeline = Number.parseInt(newest ?? '0', 16);
  const lines = newest === undefined ? [] : (await readFile(path.join(wal, newest), 'utf8')).trim().split('\n');
  const [from, lsn] = lines.at(-1)?.split('\t') ?? [];
  if (timeline !== parent + 1 || Number(from) !== parent || lsn === undefined || newest !== historyFileName(timeline)) {
    throw short('no new timeline follows the one that was replayed');
  }
  return { lsn: serverLsn(lsn), timeline };
}

/** Where the record begins that ends at the cut; it lies whole in the newest segment of the plan. */
async function findStopRecord(context: ReplayContext): Promise<number> {
  const cut = context.cut.position.ordinal;
  for await (const segment of context.segments('newest-first')) {
    let found: number | null = null;
    await readRecords(
      segment,
      () => {},
      (start, end) => {
        if (end === cut) found = start;
      },
    );
    if (found !== null) return found;
    break;
  }
  throw short('no record of the archived log ends there');
}

function feedPlan(context: ReplayContext, state: BaseState) {
  const { major, timeline, segmentSize, systemId, history } = state;
  const { replayAfter } = context.base.facts;
  return {
    major,
    timeline,
    segmentSize,
    systemId,
    history,
    after: replayAfter.ordinal,
    cut: context.cut.position.ordinal,
  };
}

interface ReplayPlace {
  socketDir: string;
  port: number;
  restoreCommand: string;
  stopRecord: number;
  end: 'promote' | 'shutdown';
}

async function prepareData(data: string, runAs: RunAs | null, state: BaseState, place: ReplayPlace): Promise<void> {
  await mkdir(path.join(data, 'pg_wal', 'archive_status'), { recursive: true });
  await writeSettings(data, runAs, state.settings, {
    listen_addresses: '',
    port: String(place.port),
    unix_socket_directories: place.socketDir,
    // Nobody may look before the end; and a server that is not looked at needs no more room than it has.
    hot_standby: 'off',
    // Whatever ends this server early, the backup is unpacked again; in the end everything is synced at once.
    fsync: 'off',
    autovacuum: 'off',
    // What does not fit is in the system's cache, and what does has to be written at the end while nothing else is done.
    shared_buffers: '64MB',
    // What would be fetched ahead is in the system's cache: it has just been written there.
    recovery_prefetch: 'off',
    // One process replays; another one writes the pages that it changed, so that it need not do that itself.
    bgwriter_delay: '10ms',
    bgwriter_lru_maxpages: '1000',
    bgwriter_lru_multiplier: '10',
    // Replayed log would be kept to be written over, and go to the disk with everything else in the end.
    wal_recycle: 'off',
    // Replayed log is removed no sooner than this.
    max_wal_size: place.end === 'promote' ? '4GB' : '512MB',
    checkpoint_timeout: '1h',
    allow_in_place_tablespaces: 'on',
    max_prepared_transactions: preparedRoom(state.settings.max_prepared_transactions, 1),
    restore_command: place.restoreCommand,
    recovery_target_timeline: String(state.timeline),
    recovery_target_lsn: formatLsn(place.stopRecord),
    recovery_target_inclusive: 'on',
    recovery_target_action: place.end,
  });
  await writeAccess(data, runAs, false);
  await writeOwned(path.join(data, 'recovery.signal'), '', runAs);
}
