/**
 * What capture costs and how far behind it is. The application's throughput with nothing else, with the service, with
 * Litestream and with a program that only keeps another core busy, in turns; and, with an application that commits now and
 * then, how long after a commit has returned the capture has it, a plan for the latest point covers it, it is archived
 * without being asked for, or is in Litestream's replica.
 */
import { createReadStream, existsSync } from 'node:fs';
import { mkdir, readdir } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { LogSink } from '../../src/datastores/datastore.js';
import { ByteReader } from '../../src/datastores/sqlite/formats/byteReader.js';
import { readHead } from '../../src/datastores/sqlite/formats/segmentFormat.js';
import { uriOfFile } from '../../src/datastores/sqlite/source/databasePaths.js';
import { createSqliteDatastore } from '../../src/datastores/sqlite/sqlite.js';
import { plainOf } from '../../test/support/unpacked.js';
import { benchDirectory } from './benchDirectory.js';
import { meanRatio, quantile, ratios, spread } from './figures.js';
import { Litestream, type Pace } from './litestream.js';
import { runProgram, start, stop } from './program.js';
import { Service } from './service.js';
import { Database } from './workload.js';

const ROUNDS = Number(process.env.PITR_BENCH_ROUNDS ?? 5);
const TITLES = { full: 'commits, synchronous FULL', normal: 'commits, NORMAL', bulk: 'bulk, NORMAL' };
const MODES = (process.env.PITR_BENCH_MODES ?? Object.keys(TITLES).join()).split(',') as (keyof typeof TITLES)[];
const SECONDS = 3;
/** What one has left to the disk and to the archive does not weigh on the next. */
const REST_MS = 2_500;
/** A service runs for months: what V8 compiles in its first seconds of log is no part of what it costs. */
const WARM_UPS = 3;
const COMMITS = 100;
/** Of what takes a second or so for each. */
const FEW_COMMITS = 25;
/** A segment is archived by its age before that. */
const UNASKED_MS = 6_000;
/** A fence is asked of a database at most once a second. */
const FENCE_MS = 1_100;
/** Litestream has found its database by then. */
const START_MS = 1_500;
const writer = fileURLToPath(new URL('./writer.js', import.meta.url));
const busy = fileURLToPath(new URL('./busy.js', import.meta.url));
const paces: Pace[] = ['default', 'fastest'];

export async function run(): Promise<void> {
  const { dir, remove } = await benchDirectory();
  try {
    await throughput(dir);
    await lag(dir);
  } finally {
    remove();
  }
}

async function throughput(dir: string): Promise<void> {
  const peer = await Litestream.find();
  const service = await Service.start(path.join(dir, 'home'));
  try {
    // Apart from each other: whatever watches the one's directory must not weigh on the other.
    const [followed = '', alone = ''] = ['followed', 'alone'].map((name) => path.join(dir, name, 'source.db'));
    for (const file of [alone, followed]) {
      await mkdir(path.dirname(file));
      await (await Database.open(file, '1:1')).close();
    }
    await service.register('followed', followed);
    const contestants: Record<string, (mode: string) => Promise<number>> = {
      alone: (mode) => write(alone, mode),
      captured: (mode) => write(followed, mode),
      'one core busy': async (mode) => {
        const other = start(process.execPath, [busy]);
        const rows = await write(alone, mode);
        await stop(other);
        return rows;
      },
    };
    for (const pace of peer ? paces : []) {
      const file = path.join(dir, `${pace}.db`);
      await (await Database.open(file, '1:1')).close();
      contestants[`Litestream, ${pace}`] = async (mode) => {
        const process = await peer?.replicate(file, path.join(dir, `replica-${pace}`), pace);
        await delay(START_MS);
        const rows = await write(file, mode);
        if (process) await stop(process);
        return rows;
      };
    }
    const rows: Record<string, Record<string, string>> = {};
    for (const mode of MODES) {
      const rates: Record<string, number[]> = {};
      const names = Object.keys(contestants);
      for (let round = 0; round < WARM_UPS; round++) await write(followed, mode);
      for (let round = 0; round < ROUNDS; round++) {
        // In an order of its own each round: what one leaves to the disk must not always weigh on the same other.
        for (const name of shuffled(names)) {
          await delay(REST_MS);
          rates[name] ??= [];
          rates[name].push((await contestants[name]?.(mode)) ?? 0);
        }
      }
      const { alone: base = [], ...others } = rates;
      const row: Record<string, string> = { 'rows per second, alone': spread(base, 0) };
      for (const name of names.slice(1)) row[name] = meanRatio(ratios(others[name] ?? [], base));
      rows[TITLES[mode]] = row;
    }
    console.log(`\nWhat the application writes: alone, and as ratios to it; ${ROUNDS} rounds of ${SECONDS} s`);
    console.table(rows);
  } finally {
    await service.stop();
  }
}

function shuffled(names: readonly string[]): string[] {
  const drawn = names.map((name) => ({ name, lot: Math.random() }));
  return drawn.sort((a, b) => a.lot - b.lot).map(({ name }) => name);
}

async function write(file: string, mode: string): Promise<number> {
  await bringIntoMemory(file);
  return JSON.parse(await runProgram(process.execPath, [writer, file, mode, String(SECONDS)]));
}

/**
 * As an application finds its files that writes all the time. A virtual machine may take memory from files that nobody has used
 * since the last turn, half a minute ago (Linux: DAMON), and a log of which a page is gone is read from the disk, frame by frame,
 * while it is written over.
 */
async function bringIntoMemory(file: string): Promise<void> {
  for (const each of [file, `${file}-wal`].filter(existsSync)) {
    for await (const _ of createReadStream(each, { highWaterMark: 1 << 20 }));
  }
}

async function lag(dir: string): Promise<void> {
  const rows: Record<string, { p50: string; p99: string }> = {};
  const add = (name: string, millis: number[]) => {
    rows[name] = { p50: quantile(millis, 0.5).toFixed(1), p99: quantile(millis, 0.99).toFixed(1) };
  };
  const ours = await ourLag(dir);
  add(`seen by the capture (${COMMITS} commits)`, ours.seen);
  add(`handed to the archive, unasked (${COMMITS})`, ours.archived);
  add(`in a plan for the latest point (${FEW_COMMITS})`, await planLag(dir));
  const peer = await Litestream.find();
  for (const pace of peer ? paces : [])
    add(`in Litestream's replica, ${pace} (${FEW_COMMITS})`, await peerLag(peer, dir, pace));
  console.log('\nMilliseconds after a commit has returned');
  console.table(rows);
}

async function ourLag(dir: string): Promise<{ seen: number[]; archived: number[] }> {
  const file = path.join(dir, 'lag.db');
  const home = path.join(dir, 'lag-home');
  await mkdir(home);
  await (await Database.open(file, '1:1')).close();
  const found: { tHi: number; archivedAt: number }[] = [];
  const nothing = async () => {};
  const sink: LogSink = {
    identified() {},
    stretchStarted: nothing,
    unobserved: nothing,
    covered: () => {},
    health: () => {},
    async segment(segment) {
      const reader = new ByteReader(plainOf(segment));
      const { transactions } = await readHead(reader.exactly);
      await reader.drain();
      const archivedAt = Date.now() * 1000;
      for (const { tHi } of transactions) found.push({ tHi, archivedAt });
    },
  };
  const datastore = createSqliteDatastore();
  try {
    const made = { id: 'lag', tenantId: 'local', origin: 'REGISTERED' as const };
    const handle = { ...made, connectionUri: uriOfFile(file), home, state: {} };
    const { connectionUri, state } = await datastore.adopt(handle);
    const capture = await datastore.capture({ ...handle, connectionUri, state }, null, sink);
    const returned: number[] = JSON.parse(await runProgram(process.execPath, [writer, file, 'paced', String(COMMITS)]));
    await delay(UNASKED_MS);
    await capture.stop();
    // The last transactions are the commits; the table was made before them.
    const commits = found.slice(-COMMITS);
    const after = (at: (commit: (typeof commits)[number]) => number) =>
      commits.map((commit, i) => Math.max(0, at(commit) - (returned[i] ?? 0)) / 1000);
    return { seen: after(({ tHi }) => tHi), archived: after(({ archivedAt }) => archivedAt) };
  } finally {
    await datastore.close();
  }
}

/** Of a service: the commit is on the disk of the archive by then, and in the catalog. */
async function planLag(dir: string): Promise<number[]> {
  const file = path.join(dir, 'lag-plan.db');
  const database = await Database.open(file, '1:1');
  await database.run('CREATE TABLE written (id INTEGER PRIMARY KEY, body BLOB NOT NULL)');
  const service = await Service.start(path.join(dir, 'lag-plan-home'));
  const millis: number[] = [];
  try {
    const id = await service.register('planned', file);
    await service.backUp(id);
    for (let commit = 0; commit < FEW_COMMITS; commit++) {
      await delay(FENCE_MS);
      await database.run('INSERT INTO written (body) VALUES (randomblob(200))');
      const start = performance.now();
      await service.plan(id);
      millis.push(performance.now() - start);
    }
  } finally {
    await service.stop();
    await database.close();
  }
  return millis;
}

/** Each commit waits until the replica has grown, so that it can be told which growth is whose. */
async function peerLag(peer: Litestream | null, dir: string, pace: Pace): Promise<number[]> {
  const file = path.join(dir, `lag-${pace}.db`);
  const replica = path.join(dir, `lag-replica-${pace}`);
  const database = await Database.open(file, '1:1');
  await database.run('CREATE TABLE written (id INTEGER PRIMARY KEY, body BLOB NOT NULL)');
  const process = await peer?.replicate(file, replica, pace);
  const millis: number[] = [];
  try {
    await delay(START_MS);
    for (let commit = 0; commit < FEW_COMMITS; commit++) {
      await delay(40 + Math.random() * 120);
      const before = await replicated(replica);
      await database.run('INSERT INTO written (body) VALUES (randomblob(200))');
      const start = performance.now();
      while ((await replicated(replica)) === before && performance.now() - start < 10_000) await delay(1);
      millis.push(performance.now() - start);
    }
  } finally {
    if (process) await stop(process);
    await database.close();
  }
  return millis;
}

async function replicated(replica: string): Promise<string> {
  const names = await readdir(replica, { recursive: true }).catch(() => [] as string[]);
  return names
    .filter((name) => name.endsWith('.wal.lz4'))
    .sort()
    .join();
}
