/** Takes a full backup: the server's tar archives into the sink, then the earliest cut that the backup can reach. */
import { Fault, type JsonObject } from '../../../errors.js';
import type { BackupFacts, BackupRequest, BackupSink } from '../../datastore.js';
import { WalCapture } from '../capture/capture.js';
import type { Progress } from '../capture/walBuffer.js';
import { formatLsn, positionAt, segmentFloor } from '../formats/lsn.js';
import { readSettings, type Settings } from '../server/settings.js';
import type { ServerAddress } from '../source/address.js';
import type { SystemIdentity } from '../source/replicationStream.js';
import { withSession } from '../source/session.js';
import { type BaseArchive, BaseStream } from './baseStream.js';
import type { PartStarts } from './partMarks.js';

const FENCES = 10;
/** 1 had no `archives`: everything was one. */
const STATE_VERSION = 2;
/** Of backups that were rolled forward: what reads only version 2 must not touch them. */
export const ROLLED_VERSION = 3;

/** What a restore needs to know of the source. */
export interface BaseState {
  /**
   * ROLLED_VERSION: the data directory of a server that was shut down in its recovery. It has no backup_label: replay goes
   * on from its control file.
   */
  version: typeof STATE_VERSION | typeof ROLLED_VERSION;
  major: number;
  systemId: string;
  timeline: number;
  segmentSize: number;
  /** Where replay starts, as text. */
  startLsn: string;
  /** A superuser's name, for the service's own connection. */
  user: string;
  settings: Settings;
  /** The timeline's history file; null for timeline 1, which has none. */
  history: string | null;
  /** What the content consists of, one after another, the data directory last. */
  archives: BaseArchive[];
  /** For parts to be unpacked side by side; older backups lack it, and a reader that does not know it needs it not. */
  starts?: PartStarts;
}

export async function takeBackup(request: BackupRequest, sink: BackupSink): Promise<BackupFacts> {
  const { capture, signal } = request;
  if (!(capture instanceof WalCapture)) throw new Fault('INTERNAL', 'The capture is not PostgreSQL’s');
  // The log must be flowing before the backup begins.
  await capture.fence(signal);
  const before = stretchOf(capture);
  const source = await describeSource(capture);
  const written = await streamBase(request, capture.address, before, sink);
  if (written.timeline !== before.timeline || written.start < before.end - (before.end % before.segmentSize)) {
    throw broken('the backup starts before the captured log');
  }

  // Everything is a place between transactions, so the earliest cut is the end of a commit after the backup's end.
  await capture.fence(signal);
  const watched = capture.watchCut();
  // That cut is known for good once a later commit is archived; another fence is one.
  for (let fence = 0; !watched.determined; fence++) {
    if (fence === FENCES) throw broken('the source’s clock does not go forward');
    await capture.fence(signal);
  }
  if (stretchOf(capture).stretch !== before.stretch) throw broken('the captured log has a gap');

  const { stretch, timeline, segmentSize, systemId } = before;
  const state: BaseState = {
    ...source,
    version: STATE_VERSION,
    systemId,
    timeline,
    segmentSize,
    startLsn: formatLsn(written.start),
    history: timeline > 1 ? await capture.history(timeline) : null,
    archives: written.archives,
    starts: written.starts,
  };
  return {
    // From the beginning of the file: the server replays whole files only.
    replayAfter: positionAt(stretch, segmentFloor(written.start, segmentSize)),
    consistent: positionAt(stretch, watched.end),
    consistentAt: watched.at,
    sizeBytes: written.archives.reduce((sum, archive) => sum + archive.bytes, 0),
    state: state as unknown as JsonObject,
  };
}

/** @throws Fault VERSION_MISMATCH for a state that another release wrote */
export function baseState(facts: BackupFacts): BaseState {
  const state = facts.state as unknown as BaseState;
  if (facts.state.version === STATE_VERSION || facts.state.version === ROLLED_VERSION) return state;
  if (facts.state.version === 1) {
    return { ...state, version: STATE_VERSION, archives: [{ tablespace: null, bytes: facts.sizeBytes }] };
  }
  throw new Fault('VERSION_MISMATCH', `This release cannot restore backups of version ${facts.state.version}`);
}

async function describeSource(capture: WalCapture): Promise<{ major: number; user: string; settings: Settings }> {
  return await withSession(capture.address, { applicationName: 'pitr' }, async (client) => {
    const { rows } = await client.query(
      `select current_setting('server_version_num')::int / 10000 as major,
              (select rolname::text from pg_roles where oid = 10) as name`,
    );
    return { major: Number(rows[0].major), user: String(rows[0].name), settings: await readSettings(client) };
  });
}

interface Written {
  start: number;
  timeline: number;
  archives: BaseArchive[];
  starts: PartStarts;
}

async function streamBase(
  request: BackupRequest,
  address: ServerAddress,
  captured: Progress,
  sink: BackupSink,
): Promise<Written> {
  const { signal } = request;
  signal.throwIfAborted();
  const stream = await BaseStream.open(address);
  let bytes = 0;
  async function* content(): AsyncIterable<Buffer> {
    for await (const chunk of stream.content()) {
      bytes += chunk.length;
      request.progress(bytes, stream.estimate === null ? null : Math.max(stream.estimate, bytes));
      yield chunk;
    }
  }
  const abort = () => stream.close();
  signal.addEventListener('abort', abort);
  try {
    signal.throwIfAborted();
    requireSame(captured, await stream.identify());
    const partBytes = await stream.begin();
    await sink.write(content(), partBytes);
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  } finally {
    signal.removeEventListener('abort', abort);
    stream.close();
  }
  const { start, archives, marks } = stream;
  // The data directory comes last.
  if (!start || archives.at(-1)?.tablespace !== null) throw broken('the server did not send its data directory');
  return { start: start.lsn, timeline: start.timeline, archives, starts: marks.noted };
}

/** The address may have come to lead to another server since the log began to flow. */
function requireSame(captured: Progress, { systemId, timeline }: SystemIdentity): void {
  if (systemId === captured.systemId && timeline === captured.timeline) return;
  const found = systemId === captured.systemId ? `on timeline ${timeline}` : 'of another database cluster';
  throw new Fault('DATASTORE_UNAVAILABLE', `The address leads to a server ${found} now, whose log is not captured`, {
    hint: 'Wait until the capture follows the server at this address, and take the backup again.',
  });
}

function stretchOf(capture: WalCapture): Progress {
  if (!capture.progress) throw broken('nothing is being captured');
  return capture.progress;
}

function broken(why: string): Fault {
  return new Fault('DATASTORE_UNAVAILABLE', `The backup cannot be recovered from: ${why}`, {
    hint: 'Take another backup.',
  });
}
