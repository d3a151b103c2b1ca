/**
 * One service following many databases that mostly idle: processor time at rest, memory, open files, and how long it takes
 * until a plan for the latest point covers a commit just made (a fence). Linux only: the figures are those of /proc.
 * PITR_BENCH_DATABASES of them, 300 unless told; PITR_BENCH_SECONDS at rest, 30 unless told.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import sqlite3 from 'sqlite3';
import { startFlags } from '../test/support/startFlags.js';

const DATABASES = Number(process.env.PITR_BENCH_DATABASES ?? 300);
const SECONDS = Number(process.env.PITR_BENCH_SECONDS ?? 30);
const FENCES = 20;
/** How long after the last event the service is left alone before it counts as idle; some 30 s after, making them still takes 0.3 s. */
const SETTLE_MS = 60_000;

export async function run(): Promise<void> {
  const home = await mkdtemp(path.join(tmpdir(), 'pitr-bench-'));
  const main = fileURLToPath(new URL('../src/main.js', import.meta.url));
  const service = spawn(process.execPath, [...startFlags, main], {
    env: { PATH: process.env.PATH, PITR_HOME: home, PORT: '0', LOG_LEVEL: 'info', PITR_LIMIT_RATE: '0' },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    const url = await addressOf(service);
    const begin = performance.now();
    const files = new Map<string, string>();
    for (let i = 0; i < DATABASES; i++) {
      const { createInstance } = await ask<{ createInstance: { id: string; endpoint: string } }>(
        url,
        'mutation ($name: String!) { createInstance(input: { name: $name, datastore: "sqlite" }) { id endpoint } }',
        { name: `many-${i}` },
      );
      const file = fileURLToPath(createInstance.endpoint.replace(/^sqlite:/, 'file:'));
      files.set(createInstance.id, file);
      await commit(file, 'CREATE TABLE t (a); INSERT INTO t VALUES (randomblob(20000))');
    }
    console.log(`${DATABASES} databases made and followed in ${((performance.now() - begin) / 1000).toFixed(1)} s`);
    const pids = await processesOf(service);
    await delay(SETTLE_MS);
    const before = await cpuSecondsOf(pids);
    await delay(SECONDS * 1000);
    const after = await cpuSecondsOf(pids);
    const rows: Record<string, Record<string, string | number>> = {};
    for (const [i, pid] of pids.entries()) {
      rows[i === 0 ? 'service' : `child ${i}`] = {
        '% of a core at rest': ((((after[i] ?? 0) - (before[i] ?? 0)) / SECONDS) * 100).toFixed(2),
        'resident MiB': await memoryMiB(pid, 'Rss'),
        'its share MiB': await memoryMiB(pid, 'Pss'),
        'open files': (await readdir(`/proc/${pid}/fd`)).length,
        threads: (await readdir(`/proc/${pid}/task`)).length,
      };
    }
    console.table(rows);
    const times = await fences(url, [...files]);
    console.log(
      `fence on any of them: median ${times[Math.floor(times.length / 2)]?.toFixed(0)} ms, longest ${times.at(-1)?.toFixed(0)} ms`,
    );
  } finally {
    service.kill('SIGTERM');
    await once(service, 'exit');
    await rm(home, { recursive: true, force: true });
  }
}

/** Milliseconds, sorted, until a commit in one of the databases is in the plan for the latest point. */
async function fences(url: string, files: [string, string][]): Promise<number[]> {
  const times: number[] = [];
  for (let i = 0; i < FENCES; i++) {
    const [id, file] = files[Math.floor((i * files.length) / FENCES)] as [string, string];
    await backedUp(url, id);
    // A fence is asked of a database at most once a second.
    await delay(1100);
    await commit(file, 'INSERT INTO t VALUES (1)');
    const begin = performance.now();
    const { recoveryPlan } = await ask<{ recoveryPlan: { plan: unknown } }>(
      url,
      'query ($id: ID!) { recoveryPlan(instanceId: $id) { plan { closestPointInTime } } }',
      { id },
    );
    if (!recoveryPlan.plan) throw new Error('there is no plan');
    times.push(performance.now() - begin);
  }
  return times.sort((a, b) => a - b);
}

async function backedUp(url: string, id: string): Promise<void> {
  await ask(url, 'mutation ($id: ID!) { takeBackup(instanceId: $id) { id } }', { id });
  for (let i = 0; i < 300; i++) {
    const { backups } = await ask<{ backups: { id: string }[] }>(
      url,
      'query ($id: ID!) { backups(instanceId: $id) { id } }',
      { id },
    );
    if (backups.length > 0) return;
    await delay(100);
  }
  throw new Error('the backup did not complete');
}

async function addressOf(service: ChildProcess): Promise<string> {
  if (!service.stdout) throw new Error('the service has no output');
  for await (const line of createInterface({ input: service.stdout })) {
    const url = (JSON.parse(line) as { url?: string }).url;
    if (!url) continue;
    service.stdout.resume();
    return url;
  }
  throw new Error('the service ended');
}

async function ask<T>(url: string, query: string, variables: object): Promise<T> {
  const response = await fetch(new URL('/graphql', url), {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ query, variables }),
  });
  const { data, errors } = (await response.json()) as { data: T; errors?: unknown };
  if (errors) throw new Error(JSON.stringify(errors));
  return data;
}

function commit(file: string, sql: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const database = new sqlite3.Database(file, (opening) => {
      if (opening) return reject(opening);
      database.configure('busyTimeout', 10_000);
      database.exec(sql, (error) => database.close(() => (error ? reject(error) : resolve())));
    });
  });
}

async function processesOf(service: ChildProcess): Promise<number[]> {
  const { pid } = service;
  if (pid === undefined) throw new Error('the service did not start');
  const children = (await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8')).split(' ').filter(Boolean);
  return [pid, ...children.map(Number)];
}

/** Of each process, by the scheduler's own clock: the ticks of /proc/PID/stat are too coarse for so little. Threads that end are left out. */
function cpuSecondsOf(pids: number[]): Promise<number[]> {
  return Promise.all(
    pids.map(async (pid) => {
      const threads = await readdir(`/proc/${pid}/task`);
      const times = await Promise.all(
        threads.map((thread) => readFile(`/proc/${pid}/task/${thread}/schedstat`, 'utf8')),
      );
      return times.reduce((sum, line) => sum + Number(line.split(' ')[0]) / 1e9, 0);
    }),
  );
}

/** Pss counts a page that several processes share, such as Node's own program, in parts. */
async function memoryMiB(pid: number, what: 'Rss' | 'Pss'): Promise<number> {
  const lines = (await readFile(`/proc/${pid}/smaps_rollup`, 'utf8')).split('\n');
  return Math.round(Number(lines.find((each) => each.startsWith(`${what}:`))?.replaceAll(/\D/g, '')) / 1024);
}
