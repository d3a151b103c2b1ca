/**
 * PostgreSQL through the service: seconds of a whole recovery beside a plain copy of the data directory with the
 * engine's own replay and, where it is installed, beside pgBackRest; seconds of a backup; transactions per second of a
 * source with and without the service; and the memory of the service with all it starts but PostgreSQL.
 * PITR_BENCH_SCALE is pgbench's, 20 unless told (about 300 MB); PITR_BENCH_WAL_MB of log to replay, 200 unless told;
 * PITR_BENCH_PARTS which of recovery, synthetic and throughput, all unless told. In PITR_BENCH_DIR, else the system's temporary
 * directory.
 */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type pg from 'pg';
import { run as runProgram } from '../src/datastores/postgresql/server/processes.js';
import { backUp, instance, register } from '../test/support/postgresql/postgresCalls.js';
import { BIN, PostgresRig } from '../test/support/postgresql/postgresRig.js';
import { Service } from '../test/support/service.js';
import { figures } from './postgresql/measures.js';
import { PgBackRest } from './postgresql/pgBackRest.js';
import { recoveries } from './postgresql/recoveries.js';
import { measureSynthetic } from './postgresql/synthetic.js';
import { measureThroughput, REST_MS } from './postgresql/throughput.js';

const SCALE = Number(process.env.PITR_BENCH_SCALE ?? 20);
const WAL_BYTES = Number(process.env.PITR_BENCH_WAL_MB ?? 200) * 1_000_000;
const PARTS = (process.env.PITR_BENCH_PARTS ?? 'recovery,synthetic,throughput').split(',');
const RECOVERIES = Number(process.env.PITR_BENCH_ROUNDS ?? 3);
const CLIENTS = 4;
const LIMIT_MS = 600_000;

export async function run(): Promise<void> {
  const directory = await mkdtemp(path.join(process.env.PITR_BENCH_DIR ?? tmpdir(), 'pitr-bench-'));
  const service = new Service(directory, {});
  await mkdir(path.join(directory, 'rig'));
  const rig = await PostgresRig.start(path.join(directory, 'rig'), {
    shared_buffers: '512MB',
    max_wal_size: '4GB',
    archive_mode: 'on',
    archive_command: 'true',
  });
  try {
    await service.start();
    await measure(rig, service, directory);
  } finally {
    await service.stop();
    await rig.close();
    await rm(directory, { recursive: true, force: true });
  }
}

async function measure(rig: PostgresRig, service: Service, directory: string): Promise<void> {
  const uri = rig.instance.connectionUri;
  await rig.pgbench('--initialize', '--quiet', `--scale=${SCALE}`);
  const { id } = await register(service, 'bench', uri);
  await backUp(service, id);
  const [backup] = await seconds(() => backUp(service, id));
  const peer =
    PARTS.includes('recovery') && PgBackRest.version() !== null
      ? await PgBackRest.setUp(rig.server.place, path.join(directory, 'rig/source/pgbackrest'))
      : null;
  await peer?.backUp();
  // Made right after the backup, so that both replay the same log; below the source, whose user writes it.
  const copied = path.join(directory, 'rig', 'source', 'plain');
  await runProgram(`${BIN}/pg_basebackup`, ['-D', copied, '-X', 'none', '-c', 'fast', ...rig.whereItIs], {
    runAs: rig.server.place.runAs,
    timeoutMs: LIMIT_MS,
  });
  const client = await rig.connect();
  const begun = await walPosition(client);
  while ((await walPosition(client)) - begun < WAL_BYTES) await rig.pgbench('--time=3', `--client=${CLIENTS}`);
  const bytes = (await walPosition(client)) - begun;
  await client.query('select pg_switch_wal()');
  const memory: number[] = [];
  const rows: Record<string, Record<string, string>> = {};
  if (PARTS.includes('recovery')) {
    await peer?.archived();
    const made = await recoveries({ rig, service, instanceId: id, copied, peer, rounds: RECOVERIES });
    memory.push(...made.memory);
    Object.assign(rows, made.rows);
  }
  rows['full backup, s'] = figures([backup]);
  if (PARTS.includes('synthetic')) {
    const { making, fromOlder, fromMade } = await measureSynthetic(client, service, id, RECOVERIES);
    rows['full backup made of another and the archive, s'] = figures([making]);
    rows['recovery from the other and the log behind it, s'] = figures(fromOlder);
    rows['recovery from the one that was made of it, s'] = figures(fromMade);
  }
  await peer?.archiving(false);
  if (PARTS.includes('throughput')) {
    const resting = new Service(path.join(directory, 'resting'), {
      env: { PITR_POSTGRESQL_STREAM_REST_MS: String(REST_MS) },
    });
    await resting.start();
    try {
      await backUp(resting, (await register(resting, 'resting', uri)).id);
      const measured = await measureThroughput(rig, { service, resting }, client);
      memory.push(measured.memoryBytes);
      Object.assign(rows, measured.rows);
    } finally {
      await resting.stop();
    }
  }
  rows['peak memory of the service and what it starts but PostgreSQL, MB'] = figures(memory.map((each) => each / 1e6));
  const { logArchive } = await instance(service, id);
  console.log(
    `pgbench scale ${SCALE}, ${megabytes(bytes)} MB of log, ${logArchive.segments} segments archived by the end`,
  );
  if (PgBackRest.version() === null) console.log('pgBackRest is not installed: apt-get install pgbackrest');
  console.table(rows);
}

async function walPosition(client: pg.Client): Promise<number> {
  const { rows } = await client.query("select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint as bytes");
  return Number(rows[0].bytes);
}

async function seconds<T>(work: () => Promise<T>): Promise<[number, T]> {
  const begun = performance.now();
  const result = await work();
  return [(performance.now() - begun) / 1000, result];
}

function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(0);
}
