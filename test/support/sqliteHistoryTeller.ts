/**
 * A database's random life under a capture: acts in which programs write while things happen to the capture, and things
 * that happen between the acts to the file. Tells which line of commits each generation of log belongs to, so that every
 * recovery can be judged by the programs' own logs.
 */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { copyFile, rename, rm, stat, truncate, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type { LogCapture } from '../../src/datastores/datastore.js';
import { frameBytes } from '../../src/datastores/sqlite/walFormat.js';
import { Fault } from '../../src/errors.js';
import type { Instant } from '../../src/instant.js';
import type { SqliteBench } from './sqliteBench.js';
import { attached, holding } from './sqliteHistory.js';
import type { Content, History } from './sqliteOracle.js';
import { readLog } from './sqliteProgram.js';
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

interface Copy {
  history: History;
  n: number;
  /** File and log, as they lie on disk. */
  file: string;
  /** The same as one file without a log. */
  whole: string;
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

const pageSizes = [512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536];

/** Pragmas for a new database: any page size, any auto-vacuum. */
export function randomShape(random: () => number): string[] {
  return [
    `PRAGMA page_size=${pageSizes[Math.floor(random() * pageSizes.length)]}`,
    `PRAGMA auto_vacuum=${Math.floor(random() * 3)}`,
  ];
}

export class HistoryTeller {
  /** Every line of commits there ever was, the present one last. */
  readonly histories: History[] = [];
  readonly promised: Promised[] = [];
  /** What happened, for whoever has to understand a failure. */
  readonly events: string[] = [];
  private capture: LogCapture | null = null;
  private writers = 0;
  private backups = 0;
  private copies: Copy[] = [];
  /** The history of each generation of log. */
  private readonly ofStretch = new Map<string, History>();

  constructor(
    private readonly t: TestContext,
    private readonly bench: SqliteBench,
    private readonly dir: string,
    private readonly random: () => number,
    /** Where the engine's clock reads by how much it is wrong, milliseconds. */
    private readonly clockFile: string,
  ) {
    this.histories.push({ file: bench.file, logs: [] });
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
      const log = this.newLog();
      return start(t, 'write', bench.file, log, String(this.writers), String(transactions), seed);
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

  private get history(): History {
    const history = this.histories.at(-1);
    assert.ok(history);
    return history;
  }

  private newLog(): string {
    const log = path.join(this.dir, `writer-${++this.writers}.log`);
    writeFileSync(log, '');
    this.history.logs.push(log);
    return log;
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
    const { t, bench, random } = this;
    const { file } = bench;
    if (event === 'outage, log kept') {
      const reader = await holding(t, bench);
      await this.write(10);
      await reader.kill();
    } else if (event === 'outage, log lost') {
      await this.write(5);
      await ask(t, 'run', file, `PRAGMA wal_checkpoint(${random() < 0.5 ? 'TRUNCATE' : 'RESTART'})`);
      await this.write(5);
    } else if (event === 'outage, journal mode') {
      await ask(t, 'run', file, 'PRAGMA journal_mode=DELETE');
      if (random() < 0.7) await this.write(5);
      await ask(t, 'run', file, 'PRAGMA journal_mode=WAL');
    } else if (event === 'outage, tail lost') {
      await this.loseTail();
    } else if (event === 'outage, removed' || event === 'removed') {
      await this.keepForReplay();
      for (const ending of ['', '-wal', '-shm']) await rm(`${file}${ending}`, { force: true });
      this.histories.push({ file, logs: [] });
      await ask(t, 'setup', file, ...randomShape(random), 'PRAGMA journal_mode=WAL');
    } else if (event === 'outage, older copy' || event === 'older copy moved over it') {
      const copy = this.copies[Math.floor(random() * this.copies.length)];
      if (!copy) return;
      await this.keepForReplay();
      await this.branch(copy.history, copy.n);
      for (const ending of ['-wal', '-shm']) await rm(`${file}${ending}`, { force: true });
      if (event === 'outage, older copy') {
        await putOver(copy.file, file);
        await putOver(`${copy.file}-wal`, `${file}-wal`);
      } else {
        await copyFile(copy.whole, `${copy.whole}.moved`);
        await rename(`${copy.whole}.moved`, file);
      }
    }
  }

  /** As after the loss of power without syncs: the last frames of the log never reached the disk. */
  private async loseTail(): Promise<void> {
    const { t, bench, random } = this;
    const reader = await holding(t, bench);
    await this.write(6);
    const capture = await bench.capture(bench.archive.resumePoint());
    await attached(capture);
    this.learn();
    await capture.stop();
    await this.write(2);
    await reader.kill();
    await this.keepForReplay();
    const [[size] = []] = await ask<{ page_size: number }[][]>(t, 'run', this.history.file, 'PRAGMA page_size');
    const wal = `${bench.file}-wal`;
    const frame = frameBytes(size?.page_size ?? 0);
    const frames = Math.floor(((await stat(wal)).size - 32) / frame);
    await truncate(wal, 32 + Math.max(0, frames - 1 - Math.floor(random() * Math.min(frames, 40))) * frame);
    await rm(`${bench.file}-shm`, { force: true });
    // Looked at in a copy: the last program to close a database copies its log and deletes it.
    const looked = path.join(this.dir, `tail-${this.histories.length}.db`);
    await copyFile(bench.file, looked);
    await copyFile(wal, `${looked}-wal`);
    const { n } = await this.content(looked);
    await this.branch(this.history, n);
  }

  /** From here on commits follow transaction `n` of another line. */
  private async branch(from: History, n: number): Promise<void> {
    const log = path.join(this.dir, `branch-${this.histories.length}.log`);
    const lines = from.logs.flatMap(readLog).filter((line) => line.n <= n);
    await writeFile(log, lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
    this.histories.push({ file: this.bench.file, logs: [log] });
  }

  /** Keeps the file as it is, to read the history's order from when the file is no more. */
  private async keepForReplay(): Promise<void> {
    const kept = path.join(this.dir, `history-${this.histories.length}.db`);
    await copyFile(this.bench.file, kept);
    await copyFile(`${this.bench.file}-wal`, `${kept}-wal`).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
    });
    this.history.file = kept;
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
    if (newest) this.ofStretch.set(newest.stretch, this.history);
    await this.withBase();
    await until('all of it is archived', () => this.promise());
    const last = this.promised.at(-1);
    assert.ok(last);
    // Nobody writes: what the file holds is what the newest promise has to keep.
    const { n } = await this.content(this.bench.file);
    last.acknowledged = n;
    if (this.copies.length < 3) {
      const file = path.join(this.dir, `copy-${this.promised.length}.db`);
      await copyFile(this.bench.file, file);
      await copyFile(`${this.bench.file}-wal`, `${file}-wal`);
      await ask(this.t, 'run', this.bench.file, `VACUUM INTO '${file}.whole'`);
      await ask(this.t, 'run', `${file}.whole`, 'PRAGMA journal_mode=WAL');
      this.copies.push({ history: this.history, n, file, whole: `${file}.whole` });
    }
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
    const acknowledged = this.acknowledged();
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

  private acknowledged(): number {
    return this.history.logs
      .flatMap(readLog)
      .reduce((greatest, line) => ('acknowledged' in line ? Math.max(greatest, line.n) : greatest), 0);
  }

  private learn(): void {
    for (const { stretch } of this.bench.archive.stretches) {
      if (!this.ofStretch.has(stretch)) this.ofStretch.set(stretch, this.history);
    }
  }

  private async write(count: number): Promise<void> {
    const log = this.newLog();
    await start(this.t, 'write', this.bench.file, log, String(this.writers), String(count), '7').done;
  }

  private async content(file: string): Promise<Content> {
    const [content] = await ask<Content[]>(this.t, 'content', file);
    assert.ok(content);
    return content;
  }
}

/** As cp -p does it: into the same inode, with the old times. */
async function putOver(from: string, to: string): Promise<void> {
  await copyFile(from, to);
  const { atime, mtime } = await stat(from);
  await utimes(to, atime, mtime);
}
