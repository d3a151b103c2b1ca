/**
 * The compiled service in a process of its own, as users run it: reached over HTTP only, killed, stopped and started
 * again on the same home. The test's end takes the process and the directory away.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import type { TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { startFlags } from './startFlags.js';

const MAIN = fileURLToPath(new URL('../../src/main.js', import.meta.url));
const START_LIMIT_MS = 30_000;
const STOP_LIMIT_MS = 15_000;
/** What the service started must not outlive it by more than this. */
const ORPHANS_END_MS = 10_000;
const LOG_LINES_KEPT = 2_000;

export interface ServiceOptions {
  /** Settings on top of PITR_HOME, HOST, PORT, LOG_LEVEL and PITR_SYNTHETIC_BACKUPS. */
  env?: Record<string, string>;
  /** A compiled entry other than the service's own. */
  entry?: string;
  /** An existing directory to work in; one is made and removed where this is left out. */
  dir?: string;
  /** Whom it runs as, where the test is root. */
  user?: { uid: number; gid: number };
}

/** A refusal as clients see it. */
export class GraphqlError extends Error {
  constructor(
    message: string,
    readonly code: string | undefined,
    readonly hint: string | null,
    readonly details: Record<string, unknown>,
  ) {
    super(message);
  }
}

export async function startService(t: Pick<TestContext, 'after'>, options: ServiceOptions = {}): Promise<Service> {
  const dir = options.dir ?? (await mkdtemp(path.join(tmpdir(), 'pitr-test-')));
  const service = new Service(dir, options);
  // In one hook: the process must be gone before its directory.
  t.after(async () => {
    await service.kill();
    if (!options.dir) await rm(dir, { recursive: true, force: true });
  });
  await service.start();
  return service;
}

export class Service {
  /** Base address without a path; a new one after every start. */
  url = '';
  /** The service's own log, the newest lines, over all its lives. */
  readonly log: Record<string, unknown>[] = [];
  /** What it wrote to its standard error. */
  stderr = '';
  private child: ChildProcess | null = null;

  /** `dir` is the test's own, for databases and the like; PITR_HOME is inside it. */
  constructor(
    readonly dir: string,
    private readonly options: ServiceOptions,
  ) {}

  get home(): string {
    return path.join(this.dir, 'home');
  }

  get pid(): number | undefined {
    return this.child?.pid;
  }

  /** Resolves when the service answers. `env` is for this life alone. */
  async start(env: Record<string, string> = {}): Promise<void> {
    const child = spawn(process.execPath, [...startFlags, this.options.entry ?? MAIN], {
      env: {
        ...process.env,
        PITR_HOME: this.home,
        HOST: '127.0.0.1',
        PORT: '0',
        LOG_LEVEL: 'info',
        // Backups are those that a test asks for.
        PITR_SYNTHETIC_BACKUPS: 'off',
        ...this.options.env,
        ...env,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
      ...this.options.user,
    });
    this.child = child;
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.stderr = (this.stderr + text).slice(-20_000);
    });
    const ready = new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no answer within ${START_LIMIT_MS} ms`)), START_LIMIT_MS);
      createInterface({ input: child.stdout }).on('line', (line) => {
        const entry = parsed(line);
        this.log.push(entry);
        if (this.log.length > LOG_LINES_KEPT) this.log.shift();
        if (typeof entry.url !== 'string' || !String(entry.msg).startsWith('ready')) return;
        this.url = entry.url;
        clearTimeout(timer);
        resolve();
      });
      child.once('exit', (code, signal) => {
        clearTimeout(timer);
        reject(new Error(`the service ended with ${code ?? signal} before it was ready: ${this.stderr}`));
      });
    });
    await ready;
  }

  /**
   * kill -9 of the service alone; resolves when it is gone and every process that it had started too. Not running is
   * no error.
   */
  async kill(): Promise<void> {
    const started = this.children();
    this.child?.kill('SIGKILL');
    await this.gone();
    await haveEnded(started);
  }

  /** SIGTERM; answers with the exit code when it is gone and every process that it had started too. */
  async stop(): Promise<number | null> {
    const started = this.children();
    this.child?.kill('SIGTERM');
    const killer = setTimeout(() => this.child?.kill('SIGKILL'), STOP_LIMIT_MS);
    try {
      const code = await this.gone();
      await haveEnded(started);
      return code;
    } finally {
      clearTimeout(killer);
    }
  }

  /** The processes that the service has started and that still run. */
  children(): Process[] {
    const pid = this.child?.pid;
    return processes().filter((each) => each.parent === pid);
  }

  /** kill -9 and a new life on the same home. */
  async restart(env: Record<string, string> = {}): Promise<void> {
    await this.kill();
    await this.start(env);
  }

  /** Resolves with the exit code when the process has ended by itself or by a signal (null). */
  async gone(): Promise<number | null> {
    const { child } = this;
    if (!child) return null;
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    return child.exitCode;
  }

  /** One operation over HTTP. @throws GraphqlError for the first error in the answer */
  async graphql<T = Record<string, unknown>>(query: string, variables: Record<string, unknown> = {}): Promise<T> {
    const response = await fetch(`${this.url}/graphql`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ query, variables }),
      signal: AbortSignal.timeout(START_LIMIT_MS),
    });
    const { data, errors } = (await response.json()) as {
      data?: T;
      errors?: { message: string; extensions?: { code?: string; hint?: string; details?: Record<string, unknown> } }[];
    };
    const error = errors?.[0];
    if (error) {
      const { code, hint, details } = error.extensions ?? {};
      throw new GraphqlError(error.message, code, hint ?? null, details ?? {});
    }
    if (!data) throw new Error(`status ${response.status} without data`);
    return data;
  }
}

/** Processes other than this one that name `dir` in their command or environment, or hold a file in it open. */
export function processesOf(dir: string): string[] {
  const found: string[] = [];
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)) {
    try {
      const words = ['cmdline', 'environ'].map((file) => readFileSync(`/proc/${pid}/${file}`, 'utf8'));
      const files = readdirSync(`/proc/${pid}/fd`).map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`));
      if ([...words, ...files].some((text) => text.includes(dir))) {
        found.push(`${pid} ${words[0]?.replaceAll('\0', ' ')}`);
      }
    } catch {
      // It ended while it was looked at, or is a zombie.
    }
  }
  return found;
}

export interface Process {
  pid: number;
  parent: number;
  /** Tells it from a later process with the same number: clock ticks since boot. */
  startedAt: string;
}

function processes(): Process[] {
  return readdirSync('/proc').flatMap((name) => {
    if (!/^\d+$/.test(name)) return [];
    try {
      // After the command, which is in parentheses and may hold anything: state, parent, … and the start as the 20th.
      const stat = readFileSync(`/proc/${name}/stat`, 'utf8');
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      if (fields[0] === 'Z') return [];
      return [{ pid: Number(name), parent: Number(fields[1]), startedAt: fields[19] ?? '' }];
    } catch {
      return []; // It ended while it was looked at.
    }
  });
}

/** Waits until none of these processes runs any more; rejects where one goes on running. */
export async function haveEnded(these: readonly Process[]): Promise<void> {
  for (const deadline = Date.now() + ORPHANS_END_MS; ; ) {
    const running = processes().filter((each) =>
      these.some(({ pid, startedAt }) => pid === each.pid && startedAt === each.startedAt),
    );
    if (running.length === 0) return;
    if (Date.now() > deadline) throw new Error(`still running: ${running.map(({ pid }) => pid).join(', ')}`);
    await delay(20);
  }
}

function parsed(line: string): Record<string, unknown> {
  try {
    return JSON.parse(line);
  } catch {
    return { msg: line };
  }
}
