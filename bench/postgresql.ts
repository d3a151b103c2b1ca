/**
 * PostgreSQL through the service: seconds of a whole recovery beside a plain copy of the data directory with the
 * engine's own replay and, where it is installed, beside pgBackRest; seconds of a backup; transactions per second of a
 * source with and without the service; and the memory of the service with all it starts but PostgreSQL.
 * PITR_BENCH_SCALE is pgbench's, 20 unless told (about 300 MB); PITR_BENCH_WAL_MB of log to replay, 200 unless told;
 * PITR_BENCH_PARTS which of recovery, synthetic and throughput, all unless told. In PITR_BENCH_DIR, else the system's temporary
 * directory.
 */
import { readFileSync } from 'node:fs';
import { appendFile, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type pg from 'pg';
import { ended, launch, run as runProgram } from '../src/datastores/postgresql/processes.js';
import { freePort, makeSocketDirectory, privateAddress } from '../src/datastores/postgresql/server.js';
import { withSession } from '../src/datastores/postgresql/session.js';
import { writeOwned } from '../src/datastores/postgresql/settings.js';
import { backUp, instance, plan, recover, register, remove } from '../test/support/postgresql/postgresCalls.js';
import { BIN, PostgresRig } from '../test/support/postgresql/postgresRig.js';
import { Service } from '../test/support/service.js';
import { PgBackRest } from './postgresql/pgBackRest.js';
import { measureSynthetic } from './postgresql/synthetic.js';

const SCALE = Number(process.env.PITR_BENCH_SCALE ?? 20);
const WAL_BYTES = Number(process.env.PITR_BENCH_WAL_MB ?? 200) * 1_000_000;
const PARTS = (process.env.PITR_BENCH_PARTS ?? 'recovery,synthetic,throughput').split(',');
const RECOVERIES = Number(process.env.PITR_BENCH_ROUNDS ?? 3);
const ROUNDS = 3;
const ROUND_SECONDS = 8;
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
  await pgbench(rig, ['--initialize', '--quiet', `--scale=${SCALE}`]);
  const { id } = await register(service, 'bench', uri);
  await backUp(service, id);
  const [backup] = await seconds(() => backUp(service, id));
  const peer =
    PARTS.includes('recovery') && PgBackRest.version() !== null
      ? await PgBackRest.setUp(rig.server.place, path.join(directory, 'rig/source/pgbackrest'))
      : null;
  await peer?.backUp();
  const plain = path.join(directory, 'rig', 'source', 'replayed');
  const from = ['-h', rig.server.place.socketDir, '-p', String(rig.server.place.port), '-U', rig.server.place.user];
  // Made right after the backup, so that both replay the same log; below the source, whose user writes it.
  const copied = path.join(directory, 'rig', 'source', 'plain');
  await runProgram(`${BIN}/pg_basebackup`, ['-D', copied, '-X', 'none', '-c', 'fast', ...from], {
    runAs: rig.server.place.runAs,
    timeoutMs: LIMIT_MS,
  });
  const client = await rig.connect();
  const begun = await walPosition(client);
  while ((await walPosition(client)) - begun < WAL_BYTES) await pgbench(rig, ['--time=3', `--client=${CLIENTS}`]);
  const bytes = (await walPosition(client)) - begun;
  await client.query('select pg_switch_wal()');
  const memory: number[] = [];
  const rows: Record<string, Record<string, string>> = {};
  if (PARTS.includes('recovery')) {
    const own: number[] = [];
    const floor: number[] = [];
    const others: number[] = [];
    const steps: string[] = [];
    await peer?.archived();
    for (let round = 0; round < RECOVERIES; round++) {
      const sampled = sampleMemory(service);
      const [took, made] = await seconds(() => recover(service, id));
      memory.push(await sampled());
      own.push(took);
      steps.push(await stepSeconds(service, id));
      await remove(service, made.id);
      const [copy] = await seconds(async () => {
        await copyDirectory(rig, copied, plain);
        await replay(rig, plain, `cp ${path.join(rig.directory, 'source/data/pg_wal')}/%f %p`);
      });
      floor.push(copy);
      await rm(plain, { recursive: true, force: true });
      if (!peer) continue;
      const theirs = path.join(directory, 'rig/source/theirs');
      const [other] = await seconds(async () => {
        await peer.restore(theirs);
        await replay(rig, theirs, null);
      });
      others.push(other);
      await rm(theirs, { recursive: true, force: true });
    }
    rows['recovery through the service, s'] = figures(own);
    rows['cp -r of the data directory and the engine’s replay, s'] = figures(floor);
    rows['the service’s to that of the same round'] = figures(
      own.map((each, i) => each / (floor[i] ?? 1)),
      2,
    );
    if (peer) rows[`${PgBackRest.version()}, s`] = figures(others);
    console.log(`steps of the recoveries, s:\n${steps.join('\n')}`);
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
    const without: number[] = [];
    const archiving: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      const sampled = sampleMemory(service);
      archiving.push(await throughput(rig));
      memory.push(await sampled());
      await service.stop();
      without.push(await throughput(rig));
      await service.start();
      // It catches up before the next round, so that no round pays for the one before.
      await plan(service, id, {});
    }
    rows[`pgbench -c ${CLIENTS}, archiving, tps`] = figures(archiving);
    rows[`pgbench -c ${CLIENTS}, service stopped, tps`] = figures(without);
    rows['archiving to stopped, of the same round'] = figures(
      archiving.map((each, i) => each / (without[i] ?? 1)),
      2,
    );
  }
  rows['peak memory of the service and what it starts but PostgreSQL, MB'] = figures(memory.map((each) => each / 1e6));
  const { logArchive } = await instance(service, id);
  console.log(
    `pgbench scale ${SCALE}, ${megabytes(bytes)} MB of log, ${logArchive.segments} segments archived by the end`,
  );
  if (PgBackRest.version() === null) console.log('pgBackRest is not installed: apt-get install pgbackrest');
  console.table(rows);
}

async function copyDirectory(rig: PostgresRig, copied: string, data: string): Promise<void> {
  const { runAs } = rig.server.place;
  await runProgram('cp', ['-r', copied, data], { runAs: null, timeoutMs: LIMIT_MS });
  if (runAs) await runProgram('chown', ['-R', `${runAs.uid}:${runAs.gid}`, data], { runAs: null, timeoutMs: LIMIT_MS });
  await runProgram('chmod', ['700', data], { runAs: null, timeoutMs: LIMIT_MS });
}

/** What an administrator would do by hand: let the server fetch the log, and wait until it serves. */
async function replay(rig: PostgresRig, data: string, restoreCommand: string | null): Promise<void> {
  const { runAs } = rig.server.place;
  const socketDir = `${data}-run`;
  await makeSocketDirectory(socketDir, runAs);
  const port = await freePort();
  const settings = `shared_buffers = '128MB'\nport = ${port}\narchive_mode = off\n`;
  const fetched = restoreCommand === null ? '' : `restore_command = '${restoreCommand}'\n`;
  // pgBackRest has written its own command into this file.
  await appendFile(path.join(data, 'postgresql.auto.conf'), settings + fetched);
  await writeOwned(path.join(data, 'recovery.signal'), '', runAs);
  const args = ['-D', data, '-k', socketDir, '-c', 'listen_addresses=', '-c', 'hot_standby=off'];
  const server = launch(`${BIN}/postgres`, args, { runAs, stdio: 'ignore' });
  const gone = ended(server);
  const address = privateAddress(socketDir, port, 'postgres');
  for (const deadline = Date.now() + LIMIT_MS; ; ) {
    const open = await withSession(address, { applicationName: 'bench' }, async (client) =>
      client.query('select 1'),
    ).then(
      () => true,
      () => false,
    );
    if (open) break;
    if (Date.now() > deadline || server.exitCode !== null) throw new Error('the plain copy did not start');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  server.kill('SIGINT');
  await gone;
  await rm(socketDir, { recursive: true, force: true });
}

async function throughput(rig: PostgresRig): Promise<number> {
  const said = await pgbench(rig, [`--time=${ROUND_SECONDS}`, `--client=${CLIENTS}`]);
  return Number(/tps = ([\d.]+) \(without/.exec(said)?.[1]);
}

async function pgbench(rig: PostgresRig, args: string[]): Promise<string> {
  const { socketDir, port, user, runAs } = rig.server.place;
  const where = ['-h', socketDir, '-p', String(port), '-U', user, 'postgres'];
  return await runProgram(`${BIN}/pgbench`, [...args, ...where], { runAs, timeoutMs: LIMIT_MS });
}

async function walPosition(client: pg.Client): Promise<number> {
  const { rows } = await client.query("select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint as bytes");
  return Number(rows[0].bytes);
}

/** The greatest resident memory until the answer is called for: the service's and that of all below it but PostgreSQL. */
function sampleMemory(service: Service): () => Promise<number> {
  let most = 0;
  const sample = () => {
    most = Math.max(most, residentBytes(service.pid ?? 0));
  };
  const timer = setInterval(sample, 250);
  return async () => {
    clearInterval(timer);
    sample();
    return most;
  };
}

function residentBytes(pid: number): number {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    if (/^Name:\s+postgres$/m.test(status)) return 0;
    // Proportional: a child that was forked and does not run its own program yet shares all with its parent.
    const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
    const own = Number(/^Pss:\s+(\d+) kB/m.exec(rollup)?.[1] ?? 0) * 1024;
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean);
    return children.reduce((sum, child) => sum + residentBytes(Number(child)), own);
  } catch {
    return 0; // It has just ended.
  }
}

/** How long each step of the newest recovery took. */
async function stepSeconds(service: Service, instanceId: string): Promise<string> {
  const { recoveries } = await service.graphql<{
    recoveries: { steps: { name: string; startedAt: string | null; finishedAt: string | null }[] }[];
  }>('query ($id: ID!) { recoveries(instanceId: $id, first: 1) { steps { name startedAt finishedAt } } }', {
    id: instanceId,
  });
  return (recoveries[0]?.steps ?? [])
    .map(({ name, startedAt, finishedAt }) => {
      const took = startedAt && finishedAt ? (Date.parse(finishedAt) - Date.parse(startedAt)) / 1000 : 0;
      return `${name} ${took.toFixed(2)}`;
    })
    .join(', ');
}

async function seconds<T>(work: () => Promise<T>): Promise<[number, T]> {
  const begun = performance.now();
  const result = await work();
  return [(performance.now() - begun) / 1000, result];
}

function figures(all: number[], digits = 1): Record<string, string> {
  const sorted = [...all].sort((a, b) => a - b);
  const [least, middle, most] = [sorted[0], sorted[Math.floor(sorted.length / 2)], sorted.at(-1)];
  return Object.fromEntries(
    Object.entries({ median: middle, least, most }).map(([name, value]) => [name, (value ?? 0).toFixed(digits)]),
  );
}

function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(0);
}
