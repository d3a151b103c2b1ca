/** Keeps the engine process running and talks to it: calls with answers one way, events of captures the other. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { Fault } from '../../../errors.js';
import type { SessionEvent } from '../follower/captureTerms.js';
import type { CallName, EngineCalls, FromEngine } from './engineProtocol.js';
import { FileSyncer } from './fileSync.js';
import { Pulse } from './pulse.js';

/** Where the driver's lines go; nothing but sentences and plain facts. */
export interface SqliteLogger {
  warn(facts: Record<string, unknown>, message: string): void;
  info(facts: Record<string, unknown>, message: string): void;
}

export interface CaptureListener {
  event(event: SessionEvent): void;
  /** The engine process ended; the capture must be attached anew. */
  lost(): void;
  /** `trouble` of the engine is another one now. */
  troubled(): void;
}

interface Waiting {
  resolve(answer: unknown): void;
  reject(error: Error): void;
}

const engineProgram = fileURLToPath(new URL('./engineProcess.js', import.meta.url));
const stderrKept = 4096;
const longestBackoffMs = 10_000;

export class Engine {
  /** Nothing the engine is asked takes longer, but for a lock or a disk that hangs. Set by tests that do not wait as long. */
  callTimeoutMs = 120_000;
  private child: ChildProcess | null = null;
  private readonly waiting = new Map<number, Waiting>();
  private readonly listeners = new Map<number, CaptureListener>();
  private nextId = 1;
  private stderr = '';
  private closed = false;
  private startedAt = 0;
  private backoffMs = 0;
  private readonly syncer = new FileSyncer();
  private readonly pulse: Pulse;

  /** `hangMs`: an engine process that has not answered for this long is called hanging, ms. */
  constructor(
    private readonly logger: SqliteLogger,
    private readonly hangMs: number,
    private readonly program = engineProgram,
  ) {
    this.pulse = new Pulse(
      hangMs,
      // Nobody waits for this answer, and what comes of a process that ended is told anyway.
      () => this.child?.send({ id: this.nextId++, call: 'ping', arguments: {} }, () => {}),
      () => this.hangChanged(),
    );
  }

  /** Why no capture goes on although the process is there; null when all is well. */
  get trouble(): string | null {
    if (!this.pulse.hangs) return null;
    return (
      `The process that follows the logs of SQLite databases has not answered for ${this.hangMs / 1000} seconds. ` +
      'Look whether it is stopped, or a disk of the databases or of the service hangs; capture goes on once it answers.'
    );
  }

  /**
   * Answers with the number by which `attach` names the listener. Each attachment has one of its own: a session that ends
   * later than it was waited for is not heard by the one after it, which hands over what that left in the spool.
   */
  listen(listener: CaptureListener): number {
    const number = this.nextId++;
    this.listeners.set(number, listener);
    return number;
  }

  unlisten(listener: number): void {
    this.listeners.delete(listener);
  }

  /** How long to wait before attaching again after a loss: longer and longer while the process keeps dying early. */
  get restartDelayMs(): number {
    return this.backoffMs;
  }

  /** The engine process, for tests that kill it. */
  get pid(): number | null {
    return this.child?.pid ?? null;
  }

  /** @throws Fault as the engine gave it; DATASTORE_UNAVAILABLE where its process ended before it answered */
  async call<K extends CallName>(name: K, given: EngineCalls[K]['arguments']): Promise<EngineCalls[K]['answer']> {
    if (this.closed) throw new Fault('DATASTORE_UNAVAILABLE', 'The SQLite driver is closed');
    const child = this.running();
    const id = this.nextId++;
    let timer: NodeJS.Timeout | undefined;
    try {
      return (await new Promise<unknown>((resolve, reject) => {
        this.waiting.set(id, { resolve, reject });
        timer = setTimeout(() => {
          reject(new Fault('DATASTORE_UNAVAILABLE', `The SQLite process did not answer ${name} in time`));
        }, this.callTimeoutMs);
        child.send({ id, call: name, arguments: given }, (error) => {
          if (error) reject(this.gone(error));
        });
      })) as EngineCalls[K]['answer'];
    } finally {
      clearTimeout(timer);
      this.waiting.delete(id);
    }
  }

  async close(): Promise<void> {
    this.closed = true;
    const child = this.child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    if (child.connected) child.disconnect();
    const timer = setTimeout(() => child.kill('SIGKILL'), 5000);
    await exited;
    clearTimeout(timer);
  }

  private running(): ChildProcess {
    if (this.child) return this.child;
    this.stderr = '';
    this.startedAt = performance.now();
    const child = fork(this.program, [], {
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
      // Little here lives for long, and what does is outside the heap.
      execArgv: ['--max-semi-space-size=2'],
      // Each database may have a call in SQLite at the same time; libuv's own four threads would queue them.
      // An allocator arena per thread would keep memory of many small databases apart in each.
      env: {
        PATH: process.env.PATH,
        TZ: process.env.TZ,
        UV_THREADPOOL_SIZE: '16',
        MALLOC_ARENA_MAX: '2',
        MALLOC_TRIM_THRESHOLD_: '131072',
      },
    });
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.stderr = (this.stderr + text).slice(-stderrKept);
    });
    child.on('message', (message: FromEngine) => this.receive(child, message));
    child.on('error', (error) => this.ended(child, error.message));
    child.on('exit', (code, signal) => this.ended(child, signal ?? `exit code ${code}`));
    this.child = child;
    this.pulse.start();
    return child;
  }

  private receive(child: ChildProcess, message: FromEngine): void {
    this.pulse.heard();
    if ('sync' in message) {
      void this.sync(child, message.sync, message.request);
      return;
    }
    if ('event' in message) {
      this.listeners.get(message.listener)?.event(message.event);
      return;
    }
    const waiting = this.waiting.get(message.id);
    if ('fault' in message) {
      const fault = Fault.fromData(message.fault);
      fault.cause = message.cause;
      waiting?.reject(fault);
    } else {
      waiting?.resolve(message.answer);
    }
  }

  private async sync(child: ChildProcess, file: string, request: number): Promise<void> {
    await this.syncer.sync(file);
    child.send({ id: this.nextId++, call: 'synced', arguments: { request } }, () => {});
  }

  private ended(child: ChildProcess, how: string): void {
    if (this.child !== child) return;
    this.child = null;
    this.pulse.stop();
    const error = this.gone(new Error(`${how}: ${this.stderr}`));
    for (const waiting of [...this.waiting.values()]) waiting.reject(error);
    if (this.closed) return;
    const lived = performance.now() - this.startedAt;
    this.backoffMs = lived > 60_000 ? 100 : Math.min(Math.max(100, this.backoffMs * 2), longestBackoffMs);
    this.logger.warn({ how, stderr: this.stderr }, 'The SQLite process ended; it is started again');
    for (const listener of [...this.listeners.values()]) listener.lost();
  }

  private hangChanged(): void {
    const facts = { pid: this.pid };
    if (this.pulse.hangs)
      this.logger.warn(facts, 'The SQLite process does not answer; nothing is captured until it does');
    else this.logger.info(facts, 'The SQLite process answers again');
    for (const listener of [...this.listeners.values()]) listener.troubled();
  }

  private gone(cause: Error): Fault {
    return new Fault('DATASTORE_UNAVAILABLE', 'The SQLite process ended before it answered', {
      hint: 'It is started again by itself; try again in a moment.',
      cause,
    });
  }
}
