/**
 * One database file and every line of commits it ever had: programs that write and log, and what happens to a file while
 * nobody writes. A file that is removed, put back or cut short begins another line; the programs' logs tell all of them.
 */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { copyFile, rename, rm, stat, truncate, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { frameBytes, walHeaderBytes } from '../../src/datastores/sqlite/formats/walFormat.js';
import { WalIndex } from '../../src/datastores/sqlite/formats/walIndex.js';
import { TestDatabase } from './sqliteDatabase.js';
import { holding } from './sqliteHistory.js';
import type { Content, History } from './sqliteOracle.js';
import { ask, start } from './sqlitePrograms.js';
import { readLog } from './sqliteWriters.js';

interface Copy {
  history: History;
  n: number;
  /** File and log, as they lie on disk. */
  file: string;
  /** The same as one file without a log. */
  whole: string;
}

const pageSizes = [512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536];
const copiesKept = 3;

/** Pragmas for a new database: any page size, any auto-vacuum. */
export function randomShape(random: () => number): string[] {
  return [
    `PRAGMA page_size=${pageSizes[Math.floor(random() * pageSizes.length)]}`,
    `PRAGMA auto_vacuum=${Math.floor(random() * 3)}`,
  ];
}

export class FileLife {
  /** Every line of commits there ever was, the present one last. */
  readonly histories: History[] = [];
  private writers = 0;
  private readonly copies: Copy[] = [];

  /** `dir` takes logs and copies, and is nobody else's. */
  constructor(
    private readonly t: TestContext,
    readonly file: string,
    private readonly dir: string,
    private readonly random: () => number,
  ) {
    this.histories.push({ file, logs: [] });
  }

  get history(): History {
    const history = this.histories.at(-1);
    assert.ok(history);
    return history;
  }

  /** A log for another writer, and the number that this one signs with. */
  newWriter(): [log: string, writer: string] {
    const log = path.join(this.dir, `writer-${++this.writers}.log`);
    writeFileSync(log, '');
    this.history.logs.push(log);
    return [log, String(this.writers)];
  }

  async write(count: number): Promise<void> {
    await start(this.t, 'write', this.file, ...this.newWriter(), String(count), '7').done;
  }

  /** The greatest transaction that a program was told of as committed. */
  acknowledged(): number {
    return this.history.logs
      .flatMap(readLog)
      .reduce((greatest, line) => ('acknowledged' in line ? Math.max(greatest, line.n) : greatest), 0);
  }

  async content(file = this.file): Promise<Content> {
    return contentOfFile(file);
  }

  /** Now and then, while nobody writes, a copy to put back later. */
  async keepCopy(n: number): Promise<void> {
    if (this.copies.length === copiesKept) return;
    const file = path.join(this.dir, `copy-${this.copies.length}.db`);
    await copyFile(this.file, file);
    await copyLog(this.file, file);
    await ask(this.t, 'run', this.file, `VACUUM INTO '${file}.whole'`);
    await ask(this.t, 'run', `${file}.whole`, 'PRAGMA journal_mode=WAL');
    this.copies.push({ history: this.history, n, file, whole: `${file}.whole` });
  }

  /** Another database, with nothing in it, under the file's name. */
  async makeAnew(): Promise<void> {
    await this.keepForReplay();
    for (const ending of ['', '-wal', '-shm']) await rm(`${this.file}${ending}`, { force: true });
    this.histories.push({ file: this.file, logs: [] });
    await ask(this.t, 'setup', this.file, ...randomShape(this.random), 'PRAGMA journal_mode=WAL');
  }

  /** False where there is no copy yet. In place is for files that nobody has open. */
  async putOlderCopy(how: 'in place' | 'moved'): Promise<boolean> {
    const copy = this.copies[Math.floor(this.random() * this.copies.length)];
    if (!copy) return false;
    await this.keepForReplay();
    await this.branch(copy.history, copy.n);
    for (const ending of ['-wal', '-shm']) await rm(`${this.file}${ending}`, { force: true });
    if (how === 'in place') {
      await putOver(copy.file, this.file);
      if (await exists(`${copy.file}-wal`)) await putOver(`${copy.file}-wal`, `${this.file}-wal`);
    } else {
      await copyFile(copy.whole, `${copy.whole}.moved`);
      await rename(`${copy.whole}.moved`, this.file);
    }
    return true;
  }

  /**
   * As after the loss of power without syncs: the last frames of the log never reached the disk. `archived` is to have
   * what was written before it captured, and nobody capturing afterwards. What is copied into the file stays in the log:
   * SQLite synchronises that before it copies.
   */
  async loseTail(archived: () => Promise<void>): Promise<void> {
    const { t, file, random } = this;
    const reader = await holding(t, this);
    await this.write(6);
    await archived();
    await this.write(2);
    await reader.kill();
    await this.keepForReplay();
    const [[size] = []] = await ask<{ page_size: number }[][]>(t, 'run', this.history.file, 'PRAGMA page_size');
    const index = new WalIndex(`${file}-shm`);
    const log = index.state();
    index.close();
    assert.ok(log && log.copied < log.frames, 'nothing of the log could be lost');
    const lost = 1 + Math.floor(random() * Math.min(log.frames - log.copied, 40));
    await truncate(`${file}-wal`, walHeaderBytes + (log.frames - lost) * frameBytes(size?.page_size ?? 0));
    await rm(`${file}-shm`, { force: true });
    // Looked at in a copy: the last program to close a database copies its log and deletes it.
    const looked = path.join(this.dir, `tail-${this.histories.length}.db`);
    await copyFile(file, looked);
    await copyLog(file, looked);
    const { n } = await this.content(looked);
    await this.branch(this.history, n);
  }

  /** From here on commits follow transaction `n` of another line. */
  private async branch(from: History, n: number): Promise<void> {
    const log = path.join(this.dir, `branch-${this.histories.length}.log`);
    const lines = from.logs.flatMap(readLog).filter((line) => line.n <= n);
    await writeFile(log, lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
    this.histories.push({ file: this.file, logs: [log] });
  }

  /** Keeps the file as it is, to read the history's order from when the file is no more. */
  private async keepForReplay(): Promise<void> {
    const kept = path.join(this.dir, `history-${this.histories.length}.db`);
    await copyFile(this.file, kept);
    await copyLog(this.file, kept);
    this.history.file = kept;
  }
}

/** In this process, which must have no other connection to the file. */
export async function contentOfFile(file: string): Promise<Content> {
  const database = await TestDatabase.open(file);
  try {
    return await database.content();
  } finally {
    await database.close();
  }
}

async function copyLog(file: string, to: string): Promise<void> {
  await copyFile(`${file}-wal`, `${to}-wal`).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
  });
}

async function exists(file: string): Promise<boolean> {
  return stat(file).then(
    () => true,
    () => false,
  );
}

/** As cp -p does it: into the same inode, with the old times. */
async function putOver(from: string, to: string): Promise<void> {
  await copyFile(from, to);
  const { atime, mtime } = await stat(from);
  await utimes(to, atime, mtime);
}
