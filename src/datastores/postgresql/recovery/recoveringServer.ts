/** A server in recovery, as its log tells of it: what it takes, where it stops, and how it ends. */
import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { Fault } from '../../../errors.js';
import { serverLsn } from '../formats/lsn.js';
import { ended } from '../server/processes.js';

/** A replay that shows no sign of life for so long has hung. */
export const SILENCE_MS = 30 * 60_000;
const KEPT_LINES = 40;
/** What a server said last may be read a moment after it has ended. */
const LAST_WORDS_MS = 10_000;

/** Listens to a server's log until the recovery is over, one way or the other. */
export class RecoveringServer {
  onFile: (name: string) => void = () => {};
  /** Where the record begins after which it stopped. */
  private stoppedAfter: number | null = null;
  private complete = false;
  private ready = false;
  private shutAtTarget = false;
  private heardAt = Date.now();
  private readonly lines: string[] = [];
  private readonly heardOut: Promise<void>;
  private wake: () => void = () => {};

  constructor(readonly child: ChildProcess) {
    if (!child.stderr) throw new Fault('INTERNAL', 'The server has no log');
    const lines = createInterface({ input: child.stderr }).on('line', (line) => this.hear(line));
    this.heardOut = new Promise((resolve) => lines.once('close', resolve));
  }

  /** Until it serves. @throws Fault RECOVERY_INCOMPLETE with the server's words where it ends instead of opening */
  async opened(): Promise<void> {
    const status = await this.readyOrGone();
    if (status !== null) throw await this.complaint(status);
  }

  /**
   * Until it has shut itself down at its target.
   * @throws Fault RECOVERY_INCOMPLETE with the server's words where it ends in another way, or opens
   */
  async closed(): Promise<void> {
    const status = await this.readyOrGone();
    if (status === null) throw short('the server opened instead of shutting down');
    await this.heard();
    if (status !== 0 || !this.shutAtTarget) throw await this.complaint(status);
  }

  /** The server opens for business before recovery is over in some configurations: its log has to say both. */
  demandCompletion(): void {
    if (this.stoppedAfter === null) throw short('the server did not stop at the target');
    if (!this.complete) throw short('the server does not say that its recovery is complete');
  }

  /** No new timeline tells where a server that shut down had stopped. */
  demandStopAfter(record: number): void {
    if (this.stoppedAfter !== record) throw short('the server did not stop at the target');
  }

  /** Null once it serves, else what it left. */
  private async readyOrGone(): Promise<number | string | null> {
    let status: number | string | null = null;
    void ended(this.child).then((left) => {
      status = left;
      this.wake();
    });
    while (!this.ready && status === null) {
      if (Date.now() - this.heardAt > SILENCE_MS) throw short('the server has hung');
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, 60_000);
        this.wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    return this.ready ? null : status;
  }

  private async heard(): Promise<void> {
    const timer = new AbortController();
    const limit = new Promise<void>((resolve) => {
      const late = setTimeout(resolve, LAST_WORDS_MS);
      timer.signal.addEventListener('abort', () => clearTimeout(late));
    });
    await Promise.race([this.heardOut, limit]);
    timer.abort();
  }

  private async complaint(status: number | string): Promise<Fault> {
    await this.heard();
    const words = `it ended with ${status}: ${this.lines.slice(-8).join(' | ')}`;
    if (this.lines.some((line) => line.includes('No space left on device'))) return full(words);
    return short(words);
  }

  private hear(line: string): void {
    this.heardAt = Date.now();
    this.lines.push(line);
    if (this.lines.length > KEPT_LINES) this.lines.shift();
    const file = /restored log file "([0-9A-F]{24})" from archive/.exec(line);
    const stop = /recovery stopping after WAL location \(LSN\) "([0-9A-F]+\/[0-9A-F]+)"/.exec(line);
    if (file?.[1]) this.onFile(file[1]);
    else if (stop?.[1]) this.stoppedAfter = serverLsn(stop[1]);
    else if (line.includes('archive recovery complete')) this.complete = true;
    else if (line.includes('shutdown at recovery target')) this.shutAtTarget = true;
    else if (line.includes('database system is ready to accept connections')) this.ready = true;
    if (this.ready) this.wake();
  }
}

function full(why: string): Fault {
  return new Fault('STORAGE_FULL', `There is no room for the replay: ${why}`, {
    hint: 'Make room where the service keeps its instances, and recover again.',
  });
}

export function short(why: string): Fault {
  return new Fault('RECOVERY_INCOMPLETE', `The replay did not reach the target: ${why}`, {
    hint: 'Recover again; if it fails the same way, recover from another backup.',
  });
}
