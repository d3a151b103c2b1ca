/**
 * Child processes: as an unprivileged user where the service itself is root (PostgreSQL refuses to run as root), with an
 * end to every wait, and gone when the service is gone.
 */
import { type ChildProcess, type SpawnOptions, spawn, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { chmod, chown, stat } from 'node:fs/promises';
import path from 'node:path';
import { Fault } from '../../../errors.js';

export interface RunAs {
  uid: number;
  gid: number;
}

/** Enough of a program's last words for an error message. */
const KEPT_OUTPUT = 8192;
/** How long they may take to arrive after its end; children of its own may keep the pipe open longer. */
const LAST_WORDS_MS = 5_000;

/**
 * Who PostgreSQL's programs run as; null for the service's own user, which is right wherever that is not root.
 * @throws Fault DATASTORE_NOT_SUPPORTED where the user does not exist
 */
export function resolveRunAs(wanted: RunAs | string | undefined): RunAs | null {
  if (process.getuid?.() !== 0) return null;
  if (typeof wanted === 'object') return wanted;
  const name = wanted ?? 'postgres';
  const line = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .find((entry) => entry.startsWith(`${name}:`));
  const [, , uid, gid] = line?.split(':') ?? [];
  if (uid === undefined || gid === undefined || uid === '0') {
    throw new Fault('DATASTORE_NOT_SUPPORTED', `PostgreSQL does not run as root and there is no usable user ${name}`, {
      hint: 'Create an unprivileged user for it, or run the service as one.',
    });
  }
  return { uid: Number(uid), gid: Number(gid) };
}

/** setpriv(1) asks the kernel to end the child with its parent; without it only an orderly stop of the service does. */
const setpriv = spawnSync('setpriv', ['--pdeathsig', 'SIGINT', 'true'], { stdio: 'ignore' }).status === 0;

/**
 * What the child asked for it to be told of may have happened before it asked: a service that was killed just after the fork.
 * Then it has another parent by now.
 */
const unlessOrphaned = '[ "$PPID" = "$1" ] || exit 1; shift; exec "$@"';

export interface LaunchOptions {
  runAs: RunAs | null;
  env?: Record<string, string>;
  stdio?: SpawnOptions['stdio'];
  cwd?: string;
  /** It gets what of the processor others leave. */
  gently?: boolean;
}

/** Starts a program that gets SIGINT when the service ends, however it ends. */
export function launch(program: string, args: string[], options: LaunchOptions): ChildProcess {
  const [command, ...rest] = [
    ...(options.gently ? ['nice', '-n', '19'] : []),
    ...(setpriv ? ['setpriv', '--pdeathsig', 'SIGINT', 'sh', '-c', unlessOrphaned, 'sh', `${process.pid}`] : []),
    ...[program, ...args],
  ];
  return spawn(command ?? program, rest, {
    stdio: options.stdio ?? ['ignore', 'pipe', 'pipe'],
    cwd: options.cwd ?? '/',
    // Only what is named: PG* variables of the service's own environment must not lead a tool elsewhere.
    env: { PATH: process.env.PATH ?? '/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC', ...options.env },
    ...(options.runAs ?? {}),
  });
}

/** Resolves when the process is gone, with what it left: an exit code or the name of a signal. Never rejects. */
export function ended(child: ChildProcess): Promise<number | string> {
  if (child.exitCode !== null) return Promise.resolve(child.exitCode);
  if (child.signalCode !== null) return Promise.resolve(child.signalCode);
  return new Promise((resolve) => {
    child.once('exit', (code, signal) => resolve(code ?? signal ?? 'SIGKILL'));
    child.once('error', (error) => resolve(error.message));
  });
}

/** Resolves when all that a process that has ended wrote has been read too. Never rejects; waits not much longer than it must. */
export async function drained(child: ChildProcess): Promise<void> {
  const open = [child.stdout, child.stderr].filter((stream) => stream && !stream.readableEnded && !stream.destroyed);
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, LAST_WORDS_MS);
  });
  const all = open.map((stream) => new Promise<void>((resolve) => stream?.once('close', resolve)));
  await Promise.race([Promise.all(all), limit]);
  clearTimeout(timer);
}

/** Collects the last output of a stream. */
export function tail(stream: NodeJS.ReadableStream | null): () => string {
  let kept = '';
  stream?.on('data', (chunk: Buffer | string) => {
    kept = (kept + chunk.toString()).slice(-KEPT_OUTPUT);
  });
  return () => kept.trim();
}

/**
 * Runs a program to its end and answers with its output.
 * @throws Fault INTERNAL with its last words where it fails or takes longer than `timeoutMs`
 */
export async function run(
  program: string,
  args: string[],
  options: LaunchOptions & { timeoutMs: number; signal?: AbortSignal },
): Promise<string> {
  options.signal?.throwIfAborted();
  const child = launch(program, args, options);
  const output = tail(child.stdout);
  const errors = tail(child.stderr);
  const kill = () => child.kill('SIGKILL');
  const timer = setTimeout(kill, options.timeoutMs);
  options.signal?.addEventListener('abort', kill);
  const status = await ended(child);
  clearTimeout(timer);
  await drained(child);
  options.signal?.removeEventListener('abort', kill);
  options.signal?.throwIfAborted();
  if (status === 0) return output();
  throw new Fault('INTERNAL', `${path.basename(program)} failed (${status}): ${errors() || output()}`);
}

/** Ends a process with an orderly signal first and a hard one after `patienceMs`. */
export async function endProcess(child: ChildProcess, signal: NodeJS.Signals, patienceMs: number): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = ended(child);
  child.kill(signal);
  const timer = setTimeout(() => child.kill('SIGKILL'), patienceMs);
  await gone;
  clearTimeout(timer);
}

/**
 * Gives `directory` to PostgreSQL's user alone, as PostgreSQL demands, and lets that user pass through the directories
 * above it.
 * @throws Fault DATASTORE_NOT_SUPPORTED where one of those is not the service's to open
 */
export async function handOver(directory: string, runAs: RunAs | null): Promise<void> {
  await chmod(directory, 0o700);
  if (!runAs) return;
  await chown(directory, runAs.uid, runAs.gid);
  for (let parent = path.dirname(directory); parent !== path.dirname(parent); parent = path.dirname(parent)) {
    const { mode, uid, gid } = await stat(parent);
    const open = uid === runAs.uid ? 0o100 : gid === runAs.gid ? 0o010 : 0o001;
    if ((mode & open) !== 0) continue;
    // The right to pass, not to list. A home directory is nobody's to open.
    if (uid !== process.getuid?.() || parent === '/root' || path.dirname(parent) === '/home') {
      throw new Fault('DATASTORE_NOT_SUPPORTED', `PostgreSQL's user may not pass through ${parent}`, {
        hint: 'Keep the service’s data in a directory that this user can reach, such as one below /var/lib.',
      });
    }
    await chmod(parent, (mode & 0o7777) | open);
  }
}
