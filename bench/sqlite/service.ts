/** The service as its users run it: a process of its own, asked through its API, and the memory that it and its engine take. */
import { type ChildProcess, fork } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { startFlags } from '../../test/support/startFlags.js';
import { keep, stop } from './program.js';

const POLL_MS = 20;
const LIMIT_MS = 600_000;

export interface Recovered {
  /** The file of the new instance. */
  file: string;
  instanceId: string;
  /** Seconds from the first step's beginning to the last one's end, by step. */
  steps: Record<string, number>;
}

export class Service {
  private constructor(
    private readonly child: ChildProcess,
    private readonly url: string,
  ) {}

  static async start(home: string): Promise<Service> {
    const child = keep(
      fork(new URL('../../src/main.js', import.meta.url), [], {
        env: { ...process.env, PITR_HOME: home, PORT: '0', LOG_LEVEL: 'info', PITR_LIMIT_RATE: '0' },
        execArgv: process.env.PITR_BENCH_SERVICE_ARGS?.split(' ') ?? startFlags,
        stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
      }),
    );
    let log = '';
    for await (const chunk of child.stdout ?? []) {
      log += chunk;
      const ready = log.split('\n').find((line) => line.includes('"url"') && line.endsWith('}'));
      if (!ready) continue;
      const { url } = JSON.parse(ready);
      return new Service(child, `${url}/graphql`);
    }
    throw new Error(`the service did not start:\n${log}`);
  }

  async register(name: string, file: string): Promise<string> {
    const uri = pathToFileURL(file).href.replace(/^file:/, 'sqlite:');
    const { registerInstance } = await this.ask<{ registerInstance: { id: string } }>(
      'mutation ($input: RegisterInstanceInput!) { registerInstance(input: $input) { id } }',
      { input: { name, datastore: 'sqlite', connectionUri: uri } },
    );
    return registerInstance.id;
  }

  /** Resolves when there is a plan for the latest point, which covers all that is committed by now. */
  async plan(instanceId: string): Promise<void> {
    const { recoveryPlan } = await this.ask<{ recoveryPlan: { plan: unknown } }>(
      'query ($id: ID!) { recoveryPlan(instanceId: $id) { plan { closestPointInTime } } }',
      { id: instanceId },
    );
    if (!recoveryPlan.plan) throw new Error('there is no plan');
  }

  /** Seconds that the backup took by its own account. */
  async backUp(instanceId: string, type: 'FULL' | 'INCREMENTAL' = 'FULL'): Promise<number> {
    const { takeBackup } = await this.ask<{ takeBackup: { id: string } }>(
      'mutation ($id: ID!, $type: BackupType!) { takeBackup(instanceId: $id, type: $type) { id } }',
      { id: instanceId, type },
    );
    for (const end = Date.now() + LIMIT_MS; Date.now() < end; await delay(POLL_MS)) {
      const { backup } = await this.ask<{ backup: { state: string; startedAt: string; completedAt: string } }>(
        'query ($id: ID!) { backup(id: $id) { state startedAt completedAt } }',
        { id: takeBackup.id },
      );
      if (backup.state === 'COMPLETED') return secondsBetween(backup.startedAt, backup.completedAt);
      if (backup.state !== 'RUNNING') break;
    }
    throw new Error('the backup failed');
  }

  /** Removes all backups but the newest one. */
  async dropOlderBackups(instanceId: string): Promise<void> {
    const { backups } = await this.ask<{ backups: { id: string }[] }>(
      'query ($id: ID!) { backups(instanceId: $id) { id } }',
      { id: instanceId },
    );
    for (const { id } of backups.slice(1))
      await this.ask('mutation ($id: ID!) { deleteBackup(id: $id) { id } }', { id });
  }

  /** To the latest point. Resolves when the recovery has succeeded. */
  async recover(instanceId: string): Promise<Recovered> {
    const { recoverInstance } = await this.ask<{ recoverInstance: { id: string } }>(
      'mutation ($id: ID!) { recoverInstance(instanceId: $id) { id } }',
      { id: instanceId },
    );
    await this.ended(recoverInstance.id);
    type Step = { name: string; startedAt: string; finishedAt: string };
    type Recovery = { state: string; instance: { id: string; endpoint: string }; steps: Step[]; error: unknown };
    const { recovery } = await this.ask<{ recovery: Recovery }>(
      `query ($id: ID!) { recovery(id: $id) {
         state instance { id endpoint } steps { name startedAt finishedAt } error { message } } }`,
      { id: recoverInstance.id },
    );
    if (recovery.state !== 'SUCCEEDED') throw new Error(`the recovery ended so: ${JSON.stringify(recovery)}`);
    const { instance, steps } = recovery;
    const done = steps.filter((step) => step.startedAt !== null);
    return {
      file: fileURLToPath(instance.endpoint.replace(/^sqlite:/, 'file:')),
      instanceId: instance.id,
      steps: Object.fromEntries(done.map((step) => [step.name, secondsBetween(step.startedAt, step.finishedAt)])),
    };
  }

  /** Watches a recovery as a page does, until the subscription completes: to keep asking would cost what is measured. */
  private async ended(recoveryId: string): Promise<void> {
    const response = await fetch(this.url, {
      method: 'POST',
      headers: { 'content-type': 'application/json', accept: 'text/event-stream' },
      body: JSON.stringify({
        query: 'subscription ($id: ID!) { recoveryProgress(recoveryId: $id) { state } }',
        variables: { id: recoveryId },
      }),
      signal: AbortSignal.timeout(LIMIT_MS),
    });
    let told = '';
    for await (const chunk of response.body ?? []) told += Buffer.from(chunk).toString();
    if (!told.includes('"state":"')) throw new Error(`the subscription answered ${response.status}: ${told}`);
  }

  async remove(instanceId: string): Promise<void> {
    await this.ask('mutation ($id: ID!) { deleteInstance(id: $id) { id } }', { id: instanceId });
  }

  /**
   * The most memory of the service and its engine process while `work` goes on, in MiB, looked at ten times a second:
   * the proportional set size, which counts what both share (Node's own program) in halves. Linux only.
   */
  async peakMemory(work: () => Promise<unknown>): Promise<number> {
    let peak = 0;
    let on = true;
    const looking = (async () => {
      for (const pids = await this.processes(); on; await delay(100)) {
        let kib = 0;
        for (const pid of pids) {
          const told = await readFile(`/proc/${pid}/smaps_rollup`, 'utf8').catch(() => '');
          kib += Number(/^Pss:\s+(\d+) kB/m.exec(told)?.[1] ?? 0);
        }
        peak = Math.max(peak, kib / 1024);
      }
    })();
    try {
      await work();
    } finally {
      on = false;
    }
    await looking;
    return peak;
  }

  async stop(): Promise<void> {
    await stop(this.child);
  }

  private async processes(): Promise<number[]> {
    const own = this.child.pid ?? 0;
    const found = [own];
    for (const name of await readdir('/proc')) {
      if (!/^\d+$/.test(name)) continue;
      const status = await readFile(`/proc/${name}/status`, 'utf8').catch(() => '');
      if (Number(/PPid:\s+(\d+)/.exec(status)?.[1]) === own) found.push(Number(name));
    }
    return found;
  }

  private async ask<T>(query: string, variables: Record<string, unknown>): Promise<T> {
    const response = await fetch(this.url, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ query, variables }),
    });
    const { data, errors } = (await response.json()) as { data?: T; errors?: { message: string }[] };
    if (errors?.[0]) throw new Error(errors[0].message);
    if (!data) throw new Error(`the service answered ${response.status}`);
    return data;
  }
}

function secondsBetween(from: string, to: string): number {
  return (Date.parse(to) - Date.parse(from)) / 1000;
}
