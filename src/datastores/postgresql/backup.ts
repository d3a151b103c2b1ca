/** Takes a full backup: pg_basebackup's tar stream into the sink, then the earliest cut that the backup can reach. */
import { Fault, type JsonObject } from '../../errors.js';
import type { BackupFacts, BackupRequest, BackupSink } from '../datastore.js';
import { libpqEnvironment } from './address.js';
import type { Binaries } from './binaries.js';
import { WalCapture } from './capture.js';
import { formatLsn, positionAt, segmentFloor, serverLsn } from './lsn.js';
import { ended, endProcess, launch } from './processes.js';
import { withSession } from './session.js';
import { readSettings, type Settings } from './settings.js';
import type { Progress } from './walBuffer.js';

const FENCES = 10;
/** A header of 512 bytes and the label itself, which is shorter than this. */
const LABEL_WITHIN = 4096;

/** What a restore needs to know of the source; version 1. */
export interface BaseState {
  version: 1;
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
}

export async function takeBackup(request: BackupRequest, sink: BackupSink, binaries: Binaries): Promise<BackupFacts> {
  const { capture, signal } = request;
  if (!(capture instanceof WalCapture)) throw new Fault('INTERNAL', 'The capture is not PostgreSQL’s');
  // The log must be flowing before the backup begins.
  await capture.fence(signal);
  const before = stretchOf(capture);
  const source = await describeSource(capture);
  const program = await binaries.find('pg_basebackup', source.major);
  const written = await streamBase(program, request, capture, sink);
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
    version: 1,
    systemId,
    timeline,
    segmentSize,
    startLsn: formatLsn(written.start),
    history: timeline > 1 ? await capture.history(timeline) : null,
  };
  return {
    // From the beginning of the file: the server replays whole files only.
    replayAfter: positionAt(stretch, segmentFloor(written.start, segmentSize)),
    consistent: positionAt(stretch, watched.end),
    consistentAt: watched.at,
    sizeBytes: written.bytes,
    state: state as unknown as JsonObject,
  };
}

/** @throws Fault VERSION_MISMATCH for a state that another release wrote */
export function baseState(facts: BackupFacts): BaseState {
  if (facts.state.version !== 1) {
    throw new Fault('VERSION_MISMATCH', `This release cannot restore backups of version ${facts.state.version}`);
  }
  return facts.state as unknown as BaseState;
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
  bytes: number;
}

async function streamBase(
  program: string,
  request: BackupRequest,
  capture: WalCapture,
  sink: BackupSink,
): Promise<Written> {
  request.signal.throwIfAborted();
  const child = launch(
    program,
    // Without log and manifest: the log is in the archive, and hashes are made of what is stored.
    [
      '--pgdata=-',
      '--format=tar',
      '--wal-method=none',
      '--no-manifest',
      '--checkpoint=fast',
      '--no-password',
      '--progress',
      '--verbose',
    ],
    { runAs: null, env: await libpqEnvironment(capture.address, 'pitr_base') },
  );
  const said = new Said();
  child.stderr?.on('data', (chunk: Buffer) => said.hear(chunk.toString()));
  const gone = ended(child);
  let bytes = 0;
  let head: Buffer = Buffer.alloc(0);
  async function* content(): AsyncIterable<Buffer> {
    for await (const chunk of child.stdout ?? []) {
      bytes += chunk.length;
      if (head.length < LABEL_WITHIN) head = Buffer.concat([head, chunk]);
      request.progress(bytes, said.total === null ? null : Math.max(said.total, bytes));
      yield chunk as Buffer;
    }
    const status = await gone;
    request.signal.throwIfAborted();
    // Thrown inside the stream, so that the sink never takes half a backup for a whole one.
    if (status !== 0) throw said.failure(status);
  }
  const abort = () => child.kill('SIGKILL');
  request.signal.addEventListener('abort', abort);
  try {
    await sink.write(content());
    request.signal.throwIfAborted();
    return { ...readLabel(head), bytes };
  } finally {
    request.signal.removeEventListener('abort', abort);
    await endProcess(child, 'SIGTERM', 5_000);
  }
}

/** The backup's label, a small text file that PostgreSQL puts first into the tar stream. */
function readLabel(head: Buffer): { start: number; timeline: number } {
  const text = head.subarray(0, LABEL_WITHIN).toString('latin1');
  const start = /^START WAL LOCATION: (\S+) /m.exec(text.slice(512));
  const timeline = /^START TIMELINE: (\d+)$/m.exec(text);
  if (!text.startsWith('backup_label\0') || !start || !timeline) throw broken('its label was not found');
  return { start: serverLsn(start[1] ?? ''), timeline: Number(timeline[1]) };
}

/** What pg_basebackup tells on its standard error. */
class Said {
  total: number | null = null;
  private rest = '';
  private errors = '';

  hear(text: string): void {
    const lines = (this.rest + text).split(/[\r\n]+/);
    this.rest = lines.pop() ?? '';
    for (const line of lines) {
      const progress = /^\s*\d+\/(\d+) kB \(/.exec(line);
      if (progress) this.total = Number(progress[1]) * 1024;
      else if (/error|fatal/i.test(line)) this.errors = `${this.errors}${line}\n`.slice(-2000);
    }
  }

  failure(status: number | string): Fault {
    const why = `${this.errors}${this.rest}`.trim() || `it ended with ${status}`;
    if (why.includes('single tablespace')) {
      return new Fault('DATASTORE_NOT_SUPPORTED', 'The server has tablespaces of its own by now', {
        hint: 'Move what they hold to pg_default and drop them; backups across tablespaces are not supported yet.',
      });
    }
    return new Fault('DATASTORE_UNAVAILABLE', `pg_basebackup failed: ${why}`, { hint: 'Take the backup again.' });
  }
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
