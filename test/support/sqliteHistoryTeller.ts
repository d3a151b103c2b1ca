/**
 * A database's random life under a capture: acts in which programs write while things happen to the capture, and things
 * that happen between the acts to the file. Tells which line of commits each generation of log belongs to, so that every
 * recovery can be judged by the programs' own logs.
 */
import assert from 'node:assert/strict';
import { rename, writeFile } from 'node:fs/promises';
import type { TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type { LogCapture } from '../../src/datastores/datastore.js';
import { Fault } from '../../src/errors.js';
import type { Instant } from '../../src/instant.js';
import type { SqliteBench } from './sqliteBench.js';
import { FileLife } from './sqliteFileLife.js';
import { attached, holding } from './sqliteHistory.js';
import type { History } from './sqliteOracle.js';
import { ask, start, until } from './sqlitePrograms.js';

/** What the archive promised at one moment of the life. */
export interface Promised {
  coveredTo: Instant;
  /** The position that this instant meant when it was promised. */
  position: string;
  stretch: string;
  history: History;
  /** The greatest transaction that was acknowledged before the promise was asked for. */
  acknowledged: number;
}

export const busyEvents = ['kill', 'restart', 'backup', 'fence', 'refuse', 'clock', 'nothing'] as const;
export const quietEvents = [
  'nothing',
  'restart',
  'outage, log kept',
  'outage, log lost',
  'outage, journal mode',
  'outage, tail lost',
  'outage, removed',
  'outage, older copy',
  'removed',
  'older copy moved over it',
] as const;
export type BusyEvent = (typeof busyEvents)[number];
export type QuietEvent = (typeof quietEvents)[number];

export class HistoryTeller {
  readonly promised: Promised[] = [];
  /** What happened, for whoever has to understand a failure. */
  readonly events: string[] = [];
  private capture: LogCapture | null = null;
  private backups = 0;
  private readonly life: FileLife;
  /** The history of each generation of log. */
  private readonly ofStretch = new Map<string, History>();

  constructor(
    private readonly t: TestContext,
    private readonly bench: SqliteBench,
    dir: string,
    private readonly random: () => number,
    /** Where the engine's clock reads by how much it is wrong, milliseconds. */
    private readonly clockFile: string,
  ) {
    this.life = new FileLife(t, bench.file, dir, random);
  }

  historyOf(stretch: string): History {
    const history = this.ofStretch.get(stretch);
    assert.ok(history, `nobody knows when stretch ${stretch} was`);
    return history;
  }

  async begin(): Promise<void> {
    this.capture = await this.bench.capture();
    await this.withBase();
  }

  /** Some programs write at the same time, one may be killed, and `happening` happens meanwhile. */
  async act(transactions: number, happening: readonly BusyEvent[]): Promise<void> {
    const { t, bench, random } = this;
    const seed = String(Math.floor(random() * 1e9));
    const disturber = start(t, 'disturb', bench.file, seed);
    const programs = Array.from({ length: 2 + Math.floor(random() * 2) }, () => {
      return start(t, 'write', bench.file, ...this.life.newWriter(), String(transactions), seed);
    });
    const victim = random() < 0.4 ? programs.pop() : undefined;
    for (const event of happening) {
      await delay(random() * 250);
      await this.happen(event);
    }
    victim?.child.kill('SIGKILL');
    await victim?.done.catch(() => {});
    await Promise.all(programs.map(({ done }) => done));
    disturber.child.stdin?.end();
    await disturber.done;
    await this.settle();
  }

  /** What happens to the file while nobody writes. */
  async between(event: QuietEvent): Promise<void> {
    this.events.push(event);
    if (event.startsWith('outage') || event === 'restart') await this.running.stop();
    await this.quietly(event);
    if (event.startsWith('outage') || event === 'restart') await this.resume();
    await this.settle();
  }

  async end(): Promise<void> {
    await this.running.stop();
  }

  private get running(): LogCapture {
    assert.ok(this.capture);
    return this.capture;
  }

  private async happen(event: BusyEvent): Promise<void> {
    const { bench, random } = this;
    this.events.push(event);
    const { pid } = bench.datastore.engine;
    if (event === 'kill' && pid) process.kill(pid, 'SIGKILL');
    else if (event === 'restart') {
      await this.running.stop();
      await delay(random() * 100);
      await this.resume();
    } else if (event === 'backup') await this.withBase(true);
    else if (event === 'fence') await this.promise();
    else if (event === 'clock') {
      await writeFile(`${this.clockFile}.part`, random() < 0.5 ? '-3600000' : '0');
      await rename(`${this.clockFile}.part`, this.clockFile);
    } else if (event === 'refuse') {
      bench.archive.refuseWith = new Fault('STORAGE_FULL', 'The storage is full');
      await delay(random() * 400);
      bench.archive.refuseWith = null;
    }
  }

  private async quietly(event: QuietEvent): Promise<void> {
    const { t, bench, life, random } = this;
    const { file } = bench;
    if (event === 'outage, log kept') {
      const reader = await holding(t, bench);
      await life.write(10);
      await reader.kill();
    } else if (event === 'outage, log lost') {
      await life.write(5);
      await ask(t, 'run', file, `PRAGMA wal_checkpoint(${random() < 0.5 ? 'TRUNCATE' : 'RESTART'})`);
      await life.write(5);
    } else if (event === 'outage, journal mode') {
      await ask(t, 'run', file, 'PRAGMA journal_mode=DELETE');
      if (random() < 0.7) await life.write(5);
      await ask(t, 'run', file, 'PRAGMA journal_mode=WAL');
    } else if (event === 'outage, tail lost') {
      await life.loseTail(async () => {
        const capture = await bench.capture(bench.archive.resumePoint());
        await attached(capture);
        this.learn();
        await capture.stop();
      });
    } else if (event === 'outage, removed' || event === 'removed') {
      await life.makeAnew();
    } else if (event === 'outage, older copy') {
      await life.putOlderCopy('in place');
    } else if (event === 'older copy moved over it') {
      await life.putOlderCopy('moved');
    }
  }

  private async resume(): Promise<void> {
    this.capture = await this.bench.capture(this.bench.archive.resumePoint());
  }

  /** Until the capture has the source, everything is archived, and the growing log has a base. */
  private async settle(): Promise<void> {
    await attached(this.running);
    this.learn();
    // A stretch that goes on although transactions were lost never had these: all of it is of the line that goes on, too.
    const newest = this.bench.archive.stretches.at(-1);
    if (newest) this.ofStretch.set(newest.stretch, this.life.history);
    await this.withBase();
    await until('all of it is archived', () => this.promise());
    const last = this.promised.at(-1);
    assert.ok(last);
    // Nobody writes: what the file holds is what the newest promise has to keep.
    const { n } = await this.life.content();
    last.acknowledged = n;
    await this.life.keepCopy(n);
  }

  /** Takes a backup where the growing log has none, as the service does by itself, or because one is wanted. */
  private async withBase(wanted = false): Promise<void> {
    const { archive } = this.bench;
    const lacking = () => {
      this.learn();
      const newest = archive.stretches.at(-1)?.stretch;
      return !archive.backups.some(({ facts }) => facts.consistent.stretch === newest);
    };
    if (!wanted && !lacking()) return;
    await until('there is a base', async () => {
      // Another gap, or a kill, may come in between.
      await this.bench.backup(this.running, `base-${++this.backups}`).catch((error: unknown) => {
        if (!(error instanceof Fault)) throw error;
      });
      return wanted || !lacking();
    });
  }

  /** Makes the archive catch up and remembers what it promises; false where the capture is not there just now. */
  private async promise(): Promise<boolean> {
    const { archive, datastore } = this.bench;
    const acknowledged = this.life.acknowledged();
    const fence = await this.running.fence().catch((error: unknown) => {
      if (error instanceof Fault) return null;
      throw error;
    });
    this.learn();
    if (!fence) return false;
    const { stretch } = fence.position;
    const { position } = await archive.locate(datastore, { at: fence.coveredTo }, stretch);
    this.promised.push({
      coveredTo: fence.coveredTo,
      position: position.text,
      stretch,
      history: this.historyOf(stretch),
      acknowledged,
    });
    return true;
  }

  private learn(): void {
    for (const { stretch } of this.bench.archive.stretches) {
      if (!this.ofStretch.has(stretch)) this.ofStretch.set(stretch, this.life.history);
    }
  }
}
