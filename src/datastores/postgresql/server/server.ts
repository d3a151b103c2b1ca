/** A PostgreSQL server as a child of the service: started, watched over, started again when it dies, taken down. */
import type { ChildProcess } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmod, chown, copyFile, mkdir, open, readFile, rm, stat, truncate } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Fault } from '../../../errors.js';
import type { ServerAddress } from '../source/address.js';
import { connect } from '../source/session.js';
import { ended, endProcess, launch, type RunAs } from './processes.js';
import { readIfThere } from './settings.js';

const STOP_PATIENCE_MS = 60_000;
const READY_POLL_MS = 50;
/** A server's log is set aside as `server.log.1` when it is longer, so it takes twice as much at most, and a little. */
const LOG_BYTES = 16 * 1024 * 1024;
const LOG_LOOK_MS = 60_000;
const RESTART_MS = [500, 1_000, 2_000, 5_000, 10_000, 30_000];
/** sizeof(sockaddr_un.sun_path) less the closing zero. */
const LONGEST_SOCKET_PATH = 107;

export interface ServerPlace {
  postgres: string;
  data: string;
  socketDir: string;
  port: number;
  /** A superuser. */
  user: string;
  runAs: RunAs | null;
  logFile: string;
}

/** How the service itself reaches a server that it runs: by its private socket, without a password. */
export function privateAddress(socketDir: string, port: number, user: string): ServerAddress {
  const none = { password: null, sslRootCert: null, sslCert: null, sslKey: null, bounds: null };
  // template1 is always there; a database of the user's may have been dropped.
  return { host: socketDir, port, user, database: 'template1', sslMode: 'disable', ...none };
}

/** Below `base`, or in the system's directory for temporary files where the path would be too long for a socket. */
export function socketDirectory(base: string): string {
  const near = path.join(base, 'run');
  if (Buffer.byteLength(`${near}/.s.PGSQL.65535`) <= LONGEST_SOCKET_PATH) return near;
  return path.join(tmpdir(), `pitr-pg-${createHash('sha256').update(base).digest('hex').slice(0, 16)}`);
}

/** Makes an empty directory that only PostgreSQL's user may enter. */
export async function makeSocketDirectory(directory: string, runAs: RunAs | null): Promise<void> {
  await rm(directory, { recursive: true, force: true });
  await mkdir(directory, { mode: 0o700 });
  await chmod(directory, 0o700);
  if (runAs) await chown(directory, runAs.uid, runAs.gid);
}

/** A TCP port of the loopback interface on which nobody listens at the moment. */
export function freePort(): Promise<number> {
  return listenOnce(0);
}

export async function isPortFree(port: number): Promise<boolean> {
  return await listenOnce(port).then(
    () => true,
    () => false,
  );
}

function listenOnce(port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once('error', reject);
    probe.listen(port, '127.0.0.1', () => {
      const bound = probe.address();
      probe.close(() => (bound && typeof bound === 'object' ? resolve(bound.port) : reject(new Error('no port'))));
    });
  });
}

/** Resolves once the server takes connections. @throws Fault DATASTORE_UNAVAILABLE where it ends or takes too long */
export async function untilReady(
  child: ChildProcess,
  address: ServerAddress,
  lastWords: () => Promise<string>,
  timeoutMs: number,
  signal?: AbortSignal,
): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    signal?.throwIfAborted();
    if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) {
      throw new Fault('DATASTORE_UNAVAILABLE', `PostgreSQL did not start: ${await lastWords()}`);
    }
    try {
      await (await connect(address, { applicationName: 'pitr' })).end();
      return;
    } catch (error) {
      if (Date.now() > deadline) {
        throw new Fault('DATASTORE_UNAVAILABLE', `PostgreSQL did not start in time: ${await lastWords()}`, {
          cause: error,
        });
      }
    }
    await new Promise((resolve) => setTimeout(resolve, READY_POLL_MS));
  }
}

export class ManagedServer {
  private child: ChildProcess | null = null;
  private stopping = false;
  private restartTimer: NodeJS.Timeout | null = null;
  private logTimer: NodeJS.Timeout | null = null;
  private restarts = 0;
  /** A launch under way, which a stop has to see through. */
  private relaunching: Promise<void> = Promise.resolve();

  constructor(readonly place: ServerPlace) {}

  get address(): ServerAddress {
    return privateAddress(this.place.socketDir, this.place.port, this.place.user);
  }

  /** @throws Fault DATASTORE_UNAVAILABLE with the server's last words */
  async start(signal?: AbortSignal): Promise<void> {
    this.stopping = false;
    await endLeftover(this.place.data);
    await makeSocketDirectory(this.place.socketDir, this.place.runAs);
    try {
      const child = await this.launch();
      await untilReady(child, this.address, () => this.lastWords(), 120_000, signal);
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  /** After a start that failed: tries again until it succeeds or the server is stopped. */
  keepTrying(): void {
    this.stopping = false;
    this.startLater();
  }

  /** Ends all connections, writes everything to disk, removes the socket. */
  async stop(): Promise<void> {
    this.stopping = true;
    if (this.restartTimer) clearTimeout(this.restartTimer);
    if (this.logTimer) clearInterval(this.logTimer);
    this.logTimer = null;
    await this.relaunching;
    if (this.child) await endProcess(this.child, 'SIGINT', STOP_PATIENCE_MS);
    await rm(this.place.socketDir, { recursive: true, force: true });
  }

  private async launch(): Promise<ChildProcess> {
    const { postgres, data, port, socketDir, runAs, logFile } = this.place;
    await boundLog(logFile, LOG_BYTES);
    this.logTimer ??= setInterval(() => void boundLog(logFile, LOG_BYTES), LOG_LOOK_MS);
    const log = await open(logFile, 'a', 0o600);
    try {
      const args = ['-D', data, '-p', String(port), '-k', socketDir];
      const child = launch(postgres, args, { runAs, stdio: ['ignore', log.fd, log.fd] });
      this.child = child;
      const born = Date.now();
      void ended(child).then(() => {
        if (Date.now() - born > 60_000) this.restarts = 0;
        if (!this.stopping) this.startLater();
      });
      return child;
    } finally {
      await log.close();
    }
  }

  private startLater(): void {
    const wait = RESTART_MS[Math.min(this.restarts++, RESTART_MS.length - 1)] ?? 30_000;
    this.restartTimer = setTimeout(() => {
      this.relaunching = this.relaunch();
    }, wait);
  }

  private async relaunch(): Promise<void> {
    if (this.stopping) return;
    try {
      await makeSocketDirectory(this.place.socketDir, this.place.runAs);
      // Children of a server that was killed may still hold its memory; they end by themselves.
      await this.launch();
    } catch {
      if (!this.stopping) this.startLater();
    }
  }

  private async lastWords(): Promise<string> {
    const log = await readFile(this.place.logFile, 'utf8').catch(() => '');
    return log.slice(-2000).trim();
  }
}

/**
 * Keeps a log from growing without end: its writer keeps the file open and appends, so it is copied and emptied. What is
 * written in between is lost. Never rejects.
 */
export async function boundLog(file: string, mostBytes: number): Promise<void> {
  try {
    if ((await stat(file)).size <= mostBytes) return;
    await copyFile(file, `${file}.1`);
    await truncate(file, 0);
  } catch {
    // There is none yet, or no room for a copy: the next look tries again.
  }
}

/** Ends the server of an earlier run of the service that still has `data` open. */
export async function endLeftover(data: string): Promise<void> {
  const pid = Number((await readIfThere(path.join(data, 'postmaster.pid')))?.split('\n')[0]);
  if (!Number.isInteger(pid) || pid <= 1) return;
  const alive = async () => {
    const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
    return command.split('\0').includes(data);
  };
  for (const [signal, patience] of [
    ['SIGINT', 30_000],
    ['SIGQUIT', 10_000],
  ] as const) {
    if (!(await alive())) return;
    process.kill(pid, signal);
    for (const end = Date.now() + patience; Date.now() < end && (await alive()); ) {
      await new Promise((resolve) => setTimeout(resolve, READY_POLL_MS));
    }
  }
  if (await alive()) throw new Fault('DATASTORE_UNAVAILABLE', `An old server ${pid} does not let go of ${data}`);
}
