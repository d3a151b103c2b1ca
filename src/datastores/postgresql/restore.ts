/** Puts a backup's bytes back: the stored tar stream into a data directory, unpacked by tar(1) as PostgreSQL's user. */
import { mkdir, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { Fault } from '../../errors.js';
import type { RecoveryContext, StoredPart } from '../datastore.js';
import { baseState } from './backup.js';
import type { Binaries } from './binaries.js';
import { ended, endProcess, handOver, launch, type RunAs, tail } from './processes.js';
import { endLeftover } from './server.js';
import { readIfThere } from './settings.js';
import { tablespaceIn } from './tablespaces.js';

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

/** @throws Fault VERSION_MISMATCH, BACKUP_CORRUPT, STORAGE_FULL, and what reading the parts throws */
export async function restoreBase(context: RecoveryContext, binaries: Binaries, runAs: RunAs | null): Promise<void> {
  const { scratch, base, signal, target } = context;
  const places = scratchPlaces(scratch);
  const { archives, major } = baseState(base.facts);
  await requireMajor(binaries, major, runAs);
  await endLeftover(places.data);
  for (const left of Object.values(places)) await rm(left, { recursive: true, force: true });
  await handOver(scratch, runAs);
  await handOver(target.home, runAs);
  await mkdir(places.data);
  await handOver(places.data, runAs);
  const content = new Content(base.parts);
  for (const { tablespace, bytes } of archives) {
    // The data directory's own archive is the last, and what is stored is proved only by reading it to its end.
    const archive = tablespace === null ? content.rest() : content.take(bytes);
    const into = tablespace === null ? places.data : await makeTablespace(places.data, tablespace, runAs);
    await unpack(archive, into, runAs, signal);
  }
  // It would link the tablespaces to the source's own directories.
  await rm(path.join(places.data, 'tablespace_map'), { force: true });
  const holds = await readIfThere(path.join(places.data, 'PG_VERSION'));
  if (holds !== null && holds.trim() !== String(major)) {
    throw new Fault('VERSION_MISMATCH', `The backup is said to be of PostgreSQL ${major} and is of ${holds.trim()}`, {
      hint: 'Recover from another backup.',
    });
  }
  // Without its label a backup starts from the wrong place and is damaged silently.
  for (const file of ['PG_VERSION', 'global/pg_control', 'backup_label']) {
    if ((await readIfThere(path.join(places.data, file))) === null) {
      throw new Fault('BACKUP_CORRUPT', `The backup holds no ${file}`, { hint: 'Recover from another backup.' });
    }
  }
  await writeFile(places.restored, await bootId());
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

async function makeTablespace(data: string, tablespace: number, runAs: RunAs | null): Promise<string> {
  const directory = tablespaceIn(data, tablespace);
  for (const part of [path.dirname(directory), directory]) {
    await mkdir(part, { recursive: true });
    await handOver(part, runAs);
  }
  return directory;
}

async function unpack(
  archive: AsyncIterable<Buffer>,
  into: string,
  runAs: RunAs | null,
  signal: AbortSignal,
): Promise<void> {
  const options = [
    '--extract',
    '--file=-',
    '--preserve-permissions',
    // Reads and writes of half a megabyte instead of ten kilobytes: a quarter less of the processor.
    '--read-full-records',
    '--blocking-factor=1024',
    `--directory=${into}`,
  ];
  const tar = launch('tar', options, {
    runAs,
    stdio: ['pipe', 'ignore', 'pipe'],
  });
  const words = tail(tar.stderr);
  const gone = ended(tar);
  try {
    if (!tar.stdin) throw new Fault('INTERNAL', 'tar cannot be started');
    await pipeline(Readable.from(archive, { objectMode: false }), tar.stdin, { signal });
    const status = await gone;
    if (status !== 0) throw unpackFault(words() || String(status));
  } catch (error) {
    signal.throwIfAborted();
    const code = error instanceof Error && 'code' in error ? error.code : null;
    // tar ended before its input did; its own words say why.
    if (code !== 'EPIPE' && code !== 'ERR_STREAM_PREMATURE_CLOSE') throw error;
    throw unpackFault(words());
  } finally {
    await endProcess(tar, 'SIGKILL', 5_000);
  }
}

/** tar goes on after most failures, so its last words are of the same kind as its first. */
function unpackFault(words: string): Fault {
  const last = words.split('\n').slice(-5).join(' | ');
  if (!words.includes('No space left')) {
    return new Fault('BACKUP_CORRUPT', `The backup cannot be unpacked: ${last}`, {
      hint: 'Recover from another backup.',
    });
  }
  return new Fault('STORAGE_FULL', `There is no room for the backup: ${last}`, {
    hint: 'Make room where the service keeps its instances, and recover again.',
  });
}

/** A backup's content, taken off in pieces. */
class Content {
  private readonly chunks: AsyncIterator<Buffer>;
  private left: Buffer = Buffer.alloc(0);

  constructor(parts: StoredPart[]) {
    this.chunks = contentOf(parts)[Symbol.asyncIterator]();
  }

  /** The next `bytes` of it. @throws Fault BACKUP_CORRUPT where there are fewer */
  async *take(bytes: number): AsyncIterable<Buffer> {
    for (let missing = bytes; missing > 0; ) {
      const chunk = await this.next();
      if (!chunk) throw new Fault('BACKUP_CORRUPT', `The backup lacks ${missing} bytes of a tablespace`);
      yield chunk.subarray(0, missing);
      this.left = chunk.subarray(Math.min(missing, chunk.length));
      missing -= Math.min(missing, chunk.length);
    }
  }

  async *rest(): AsyncIterable<Buffer> {
    for (let chunk = await this.next(); chunk; chunk = await this.next()) yield chunk;
  }

  private async next(): Promise<Buffer | null> {
    const { left } = this;
    this.left = Buffer.alloc(0);
    if (left.length > 0) return left;
    const { done, value } = await this.chunks.next();
    return done ? null : value;
  }
}

async function* contentOf(parts: StoredPart[]): AsyncIterable<Buffer> {
  let offset = 0;
  for (const part of parts) {
    if (part.offset !== offset) throw new Fault('BACKUP_CORRUPT', `The backup has a hole at byte ${offset}`);
    yield* part.read();
    offset += part.plainBytes;
  }
}
