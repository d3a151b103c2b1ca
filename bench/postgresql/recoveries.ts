/** Whole recoveries beside a plain copy with the engine's own replay, and beside a peer, in turns. */
import type { ChildProcess } from 'node:child_process';
import { appendFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { ended, launch, run as runProgram } from '../../src/datastores/postgresql/server/processes.js';
import { freePort, makeSocketDirectory } from '../../src/datastores/postgresql/server/server.js';
import { writeOwned } from '../../src/datastores/postgresql/server/settings.js';
import { beginRecovery, recoveryEnded, remove } from '../../test/support/postgresql/postgresCalls.js';
import { BIN, type PostgresRig } from '../../test/support/postgresql/postgresRig.js';
import type { Service } from '../../test/support/service.js';
import { type Cost, costOf, figures, sampleMemory } from './measures.js';
import { PgBackRest } from './pgBackRest.js';

const LIMIT_MS = 600_000;

export interface RecoveryBench {
  rig: PostgresRig;
  service: Service;
  instanceId: string;
  /** A data directory as of the backup, to be copied. */
  copied: string;
  peer: PgBackRest | null;
  rounds: number;
}

export async function recoveries(bench: RecoveryBench) {
  const { rig, service, instanceId, copied, peer, rounds } = bench;
  const own: Cost[] = [];
  const floor: Cost[] = [];
  const others: Cost[] = [];
  const memory: number[] = [];
  const plain = path.join(rig.directory, 'source/replayed');
  const theirs = path.join(rig.directory, 'source/theirs');
  for (let round = 0; round < rounds; round++) {
    const sampled = sampleMemory(service);
    const [took, made] = await costOf(service.pid ?? 0, () => recover(service, instanceId));
    memory.push(await sampled());
    own.push(took);
    const steps = await stepSeconds(service, instanceId);
    await remove(service, made);
    const [copy] = await costOf(null, async () => {
      await copyDirectory(rig, copied, plain);
      await replay(rig, plain, `cp ${path.join(rig.directory, 'source/data/pg_wal')}/%f %p`);
    });
    floor.push(copy);
    await rm(plain, { recursive: true, force: true });
    if (peer) {
      const [other] = await costOf(null, async () => {
        await peer.restore(theirs);
        await replay(rig, theirs, null);
      });
      others.push(other);
      await rm(theirs, { recursive: true, force: true });
    }
    const told = [took, copy, others.at(-1)].map((cost) => (cost ? words(cost) : '-'));
    console.log(`round ${round + 1}: ${told.join('; ')}\n  ${steps}`);
  }
  const ratios = (of: (cost: Cost) => number) => own.map((each, i) => of(each) / of(floor[i] ?? each));
  const rows: Record<string, Record<string, string>> = {};
  const row = (what: string, costs: Cost[]) => {
    rows[`${what}, s`] = figures(costs.map(({ seconds }) => seconds));
    rows[`${what}, s of processor`] = figures(costs.map(({ processor }) => processor));
  };
  row('recovery through the service', own);
  row('cp -r of the data directory and the engine’s replay', floor);
  if (peer) row(PgBackRest.version() ?? '', others);
  rows['the service’s to the plain copy’s of the same round'] = figures(
    ratios(({ seconds }) => seconds),
    2,
  );
  rows['the same of the processor'] = figures(
    ratios(({ processor }) => processor),
    2,
  );
  return { rows, memory };
}

function words({ seconds, processor, load }: Cost): string {
  return `${seconds.toFixed(1)} s, ${processor.toFixed(1)} s of processor, load ${load.toFixed(1)}`;
}

/** Watches it as a page does: to keep asking would cost what is measured. Answers with the new instance. */
async function recover(service: Service, instanceId: string): Promise<string> {
  const id = await beginRecovery(service, instanceId);
  const response = await fetch(`${service.url}/graphql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', accept: 'text/event-stream' },
    body: JSON.stringify({
      query: 'subscription ($id: ID!) { recoveryProgress(recoveryId: $id) { state } }',
      variables: { id },
    }),
    signal: AbortSignal.timeout(LIMIT_MS),
  });
  for await (const _ of response.body ?? []);
  const { state, instance, error } = await recoveryEnded(service, id);
  if (state !== 'SUCCEEDED' || !instance) throw new Error(`the recovery ended ${state}: ${error?.message}`);
  return instance.id;
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
  const server = launch(`${BIN}/postgres`, args, { runAs, stdio: ['ignore', 'ignore', 'pipe'] });
  const gone = ended(server);
  // Told by its log: to keep asking would cost what is measured.
  await Promise.race([serves(server), gone.then((status) => Promise.reject(new Error(`the plain copy: ${status}`)))]);
  server.kill('SIGINT');
  await gone;
  await rm(socketDir, { recursive: true, force: true });
}

async function serves(server: ChildProcess): Promise<void> {
  if (!server.stderr) throw new Error('the plain copy has no log');
  const timer = setTimeout(() => server.kill('SIGKILL'), LIMIT_MS);
  const lines = createInterface({ input: server.stderr });
  await new Promise<void>((resolve) => {
    lines.on('line', (line) => {
      if (line.includes('database system is ready to accept connections')) resolve();
    });
  });
  clearTimeout(timer);
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
