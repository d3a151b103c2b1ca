/**
 * PostgreSQL through the service: seconds of a whole recovery beside a plain copy of the data directory with the
 * engine's own replay, seconds of a backup, transactions per second of a source with and without the service, and the
 * service's memory. PITR_BENCH_SCALE is pgbench's, 20 unless told (about 300 MB); PITR_BENCH_WAL_MB of log to replay, 200
 * unless told. In PITR_BENCH_DIR, else the system's temporary directory.
 */
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type pg from 'pg';
import { ended, launch, run as runProgram } from '../src/datastores/postgresql/processes.js';
import { freePort, makeSocketDirectory, privateAddress } from '../src/datastores/postgresql/server.js';
import { withSession } from '../src/datastores/postgresql/session.js';
import { writeOwned } from '../src/datastores/postgresql/settings.js';
import { backUp, instance, recover, register, remove } from '../test/support/postgresql/postgresCalls.js';
import { BIN, PostgresRig } from '../test/support/postgresql/postgresRig.js';
import { Service } from '../test/support/service.js';

const SCALE = Number(process.env.PITR_BENCH_SCALE ?? 20);
const WAL_BYTES = Number(process.env.PITR_BENCH_WAL_MB ?? 200) * 1_000_000;
const RECOVERIES = 3;
const ROUNDS = 3;
const ROUND_SECONDS = 8;
const CLIENTS = 4;
const LIMIT_MS = 600_000;

export async function run(): Promise<void> {
  const directory = await mkdtemp(path.join(process.env.PITR_BENCH_DIR ?? tmpdir(), 'pitr-bench-'));
  const service = new Service(directory, {});
  await mkdir(path.join(directory, 'rig'));
  const rig = await PostgresRig.start(path.join(directory, 'rig'), { shared_buffers: '512MB', max_wal_size: '4GB' });
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
  const plain = path.join(directory, 'rig', 'plain');
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
  const own: number[] = [];
  const floor: number[] = [];
  const memory: number[] = [];
  for (let round = 0; round < RECOVERIES; round++) {
    const [took, made] = await seconds(() => recover(service, id));
    own.push(took);
    memory.push(await residentBytes(service));
    await remove(service, made.id);
    const [copy] = await seconds(() => copyAndReplay(rig, copied, plain));
    floor.push(copy);
    await rm(plain, { recursive: true, force: true });
  }
  const without: number[] = [];
  const archiving: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    archiving.push(await throughput(rig));
    memory.push(await residentBytes(service));
    await service.stop();
    without.push(await throughput(rig));
    await service.start();
    // It catches up before the next round, so that no round pays for the one before.
    await recover(service, id).then((made) => remove(service, made.id));
  }
  const { logArchive } = await instance(service, id);
  console.log(
    `pgbench scale ${SCALE}, ${megabytes(bytes)} MB of log, ${logArchive.segments} segments archived by the end`,
  );
  console.table({
    'recovery through the service, s': figures(own),
    'cp -r of the data directory and the engine’s replay, s': figures(floor),
    'full backup, s': figures([backup]),
    [`pgbench -c ${CLIENTS}, archiving, tps`]: figures(archiving),
    [`pgbench -c ${CLIENTS}, service stopped, tps`]: figures(without),
    'memory of the service without PostgreSQL, MB': figures(memory.map((each) => each / 1e6)),
  });
}

/** What an administrator would do by hand: copy the backup, let the server fetch the log, wait until it serves. */
async function copyAndReplay(rig: PostgresRig, copied: string, data: string): Promise<void> {
  const { runAs } = rig.server.place;
  await runProgram('cp', ['-r', copied, data], { runAs: null, timeoutMs: LIMIT_MS });
  if (runAs) await runProgram('chown', ['-R', `${runAs.uid}:${runAs.gid}`, data], { runAs: null, timeoutMs: LIMIT_MS });
  await runProgram('chmod', ['700', data], { runAs: null, timeoutMs: LIMIT_MS });
  const socketDir = `${data}-run`;
  await makeSocketDirectory(socketDir, runAs);
  const port = await freePort();
  const log = path.join(rig.directory, 'source', 'data', 'pg_wal');
  await writeOwned(path.join(data, 'recovery.signal'), '', runAs);
  await writeFile(
    path.join(data, 'postgresql.auto.conf'),
    `restore_command = 'cp ${log}/%f %p'\nshared_buffers = '128MB'\nport = ${port}\n`,
  );
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

async function residentBytes(service: Service): Promise<number> {
  const status = await readFile(`/proc/${service.pid}/status`, 'utf8');
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1]) * 1024;
}

async function seconds<T>(work: () => Promise<T>): Promise<[number, T]> {
  const begun = performance.now();
  const result = await work();
  return [(performance.now() - begun) / 1000, result];
}

function figures(all: number[]): Record<string, string> {
  const sorted = [...all].sort((a, b) => a - b);
  const [least, middle, most] = [sorted[0], sorted[Math.floor(sorted.length / 2)], sorted.at(-1)];
  return Object.fromEntries(
    Object.entries({ median: middle, least, most }).map(([name, value]) => [name, (value ?? 0).toFixed(1)]),
  );
}

function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(0);
}
