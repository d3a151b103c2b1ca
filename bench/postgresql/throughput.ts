/**
 * Transactions per second of a source that nobody follows, that the service archives, as it does by itself and with rests
 * between its streams, and that PostgreSQL's own receiver follows, which only writes the log to files: in short turns,
 * there and back, since disk and machine change from one minute to the next. Between its turns a service is held as it
 * stands and its sender ended, so that its code stays compiled: a service runs for months, and what V8 does in the first
 * half minute of log is no part of a source's load.
 */
import { mkdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import { endProcess, handOver, launch } from '../../src/datastores/postgresql/server/processes.js';
import { BIN, type PostgresRig } from '../../test/support/postgresql/postgresRig.js';
import type { Service } from '../../test/support/service.js';
import { figures, sampleMemory } from './measures.js';

const CLIENTS = 4;
const ROUNDS = 14;
const ROUND_SECONDS = 4;
/** Before each measured turn, in its own state. */
const SETTLE_SECONDS = 1;
const WARM_SECONDS = 30;
const LIMIT_MS = 60_000;
/** A follower this near to the end of the log has caught up. */
const BEHIND_BYTES = 100_000;

/** Of a service that ends its stream whenever it has received everything. */
export const REST_MS = 250;

interface Services {
  /** As it is unless told otherwise. */
  service: Service;
  /** With rests between its streams, of the same source. */
  resting: Service;
}

interface Throughput {
  rows: Record<string, Record<string, string>>;
  /** The greatest of the service and what it starts but PostgreSQL, while it archived. */
  memoryBytes: number;
}

/** @param client a superuser's, of the source */
export async function measureThroughput(
  rig: PostgresRig,
  { service, resting }: Services,
  client: pg.Client,
): Promise<Throughput> {
  // To look at the memory takes the processor's time, so it is done while nothing is measured.
  const sampled = sampleMemory(service);
  await transactions(rig, WARM_SECONDS);
  const memoryBytes = await sampled();
  const alone = 'nobody following';
  const followers: Record<string, (work: () => Promise<void>) => Promise<void>> = {
    [alone]: (work) => work(),
    archiving: (work) => whileArchiving(service, client, work),
    [`archiving, with rests of ${REST_MS} ms`]: (work) => whileArchiving(resting, client, work),
    pg_receivewal: (work) => whileReceiving(rig, client, work),
  };
  const measured = Object.entries(followers).map(([who, during]) => {
    const rates: number[] = [];
    const turn = () =>
      during(async () => {
        await transactions(rig, SETTLE_SECONDS);
        rates.push(await transactions(rig, ROUND_SECONDS));
      });
    return { who, rates, turn };
  });
  for (const each of [service, resting]) await hold(each, client);
  try {
    for (let round = 0; round < ROUNDS; round++) {
      for (const { turn } of round % 2 === 0 ? measured : measured.toReversed()) await turn();
    }
  } finally {
    for (const each of [service, resting]) resume(each);
  }
  const nobody = measured.find(({ who }) => who === alone)?.rates ?? [];
  const rows: Throughput['rows'] = {};
  for (const { who, rates } of measured) rows[`pgbench -c ${CLIENTS}, ${who}, tps`] = figures(rates);
  for (const { who, rates } of measured) {
    if (who === alone) continue;
    const toNobody = rates.map((each, i) => each / (nobody[i] ?? 1));
    console.log(`${who} to nobody following, mean of ${ROUNDS} rounds: ${meanWithError(toNobody)}`);
    rows[`${who}, to nobody, of the same round`] = figures(toNobody, 2);
  }
  return { rows, memoryBytes };
}

async function transactions(rig: PostgresRig, seconds: number): Promise<number> {
  const said = await rig.pgbench(`--time=${seconds}`, `--client=${CLIENTS}`);
  return Number(/tps = ([\d.]+) \(without/.exec(said)?.[1]);
}

async function whileArchiving(service: Service, client: pg.Client, work: () => Promise<void>): Promise<void> {
  resume(service);
  await followed(client);
  await work();
  await hold(service, client);
}

async function whileReceiving(rig: PostgresRig, client: pg.Client, work: () => Promise<void>): Promise<void> {
  const { data, runAs } = rig.server.place;
  const received = path.join(data, '..', 'received');
  await mkdir(received, { recursive: true });
  await handOver(received, runAs);
  const receiver = launch(`${BIN}/pg_receivewal`, ['-D', received, ...rig.whereItIs], { runAs, stdio: 'ignore' });
  try {
    await followed(client);
    await work();
  } finally {
    await endProcess(receiver, 'SIGINT', LIMIT_MS);
    await rm(received, { recursive: true, force: true });
  }
}

async function hold(service: Service, client: pg.Client): Promise<void> {
  process.kill(service.pid ?? 0, 'SIGSTOP');
  await client.query('SELECT pg_terminate_backend(pid) FROM pg_stat_replication');
}

function resume(service: Service): void {
  process.kill(service.pid ?? 0, 'SIGCONT');
}

/** Waits until somebody who follows has caught up. */
async function followed(client: pg.Client): Promise<void> {
  for (const end = Date.now() + LIMIT_MS; Date.now() < end; await delay(100)) {
    const { rows } = await client.query(
      `SELECT FROM pg_stat_replication
       WHERE state = 'streaming' AND pg_wal_lsn_diff(pg_current_wal_lsn(), sent_lsn) < ${BEHIND_BYTES}`,
    );
    if (rows.length > 0) return;
  }
  throw new Error('nobody follows the source');
}

/** The geometric mean and its standard error, which is one of its logarithm. */
function meanWithError(all: number[]): string {
  const logarithms = all.map(Math.log);
  const mean = logarithms.reduce((sum, each) => sum + each, 0) / all.length;
  const squares = logarithms.reduce((sum, each) => sum + (each - mean) ** 2, 0);
  const error = Math.sqrt(squares / (all.length - 1) / all.length);
  return `${Math.exp(mean).toFixed(3)} ± ${error.toFixed(3)}`;
}
