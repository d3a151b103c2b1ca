/**
 * Transactions per second of a source that nobody follows, that the service archives, and that PostgreSQL's own receiver
 * follows, which only writes the log to files: in short turns, there and back, since disk and machine change from one
 * minute to the next. Between its turns the service is held as it stands and its sender ended, so that its code stays
 * compiled: a service runs for months, and what V8 does in the first half minute of log is no part of a source's load.
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

interface Throughput {
  rows: Record<string, Record<string, string>>;
  /** The greatest of the service and what it starts but PostgreSQL, while it archived. */
  memoryBytes: number;
}

/** @param client a superuser's, of the source */
export async function measureThroughput(rig: PostgresRig, service: Service, client: pg.Client): Promise<Throughput> {
  // To look at the memory takes the processor's time, so it is done while nothing is measured.
  const sampled = sampleMemory(service);
  await transactions(rig, WARM_SECONDS);
  const memoryBytes = await sampled();
  const measured = { nobody: [] as number[], archiving: [] as number[], receiving: [] as number[] };
  const turn = async (into: number[]) => {
    await transactions(rig, SETTLE_SECONDS);
    into.push(await transactions(rig, ROUND_SECONDS));
  };
  const turns = [
    () => turn(measured.nobody),
    () => whileArchiving(service, client, () => turn(measured.archiving)),
    () => whileReceiving(rig, client, () => turn(measured.receiving)),
  ];
  await hold(service, client);
  try {
    for (let round = 0; round < ROUNDS; round++) {
      for (const each of round % 2 === 0 ? turns : turns.toReversed()) await each();
    }
  } finally {
    resume(service);
  }
  const { nobody, archiving, receiving } = measured;
  const toNobody = (all: number[]) => all.map((each, i) => each / (nobody[i] ?? 1));
  for (const [who, all] of Object.entries({ archiving, pg_receivewal: receiving })) {
    console.log(`${who} to nobody following, mean of ${ROUNDS} rounds: ${meanWithError(toNobody(all))}`);
  }
  return {
    rows: {
      [`pgbench -c ${CLIENTS}, nobody following, tps`]: figures(nobody),
      [`pgbench -c ${CLIENTS}, archiving, tps`]: figures(archiving),
      [`pgbench -c ${CLIENTS}, pg_receivewal, tps`]: figures(receiving),
      'archiving to nobody, of the same round': figures(toNobody(archiving), 2),
      'pg_receivewal to nobody, of the same round': figures(toNobody(receiving), 2),
    },
    memoryBytes,
  };
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
