/** The API's calls that tests with PostgreSQL make of a running service, each to its end. */
import pg from 'pg';
import type { Service } from '../service.js';
import { until } from '../sqlitePrograms.js';

const FAULT = 'error { code message hint }';
const BACKUP = `id type state percent madeFrom { id } startedAt consistentAt position ${FAULT}`;
const INSTANCE = `id state datastoreVersion endpoint connectionUri notices recoveryWindows { from to startsBecause endsBecause }
  logArchive { healthy message segments }`;

export interface InstanceSeen {
  id: string;
  state: string;
  datastoreVersion: string;
  endpoint: string;
  connectionUri: string;
  notices: string[];
  recoveryWindows: { from: string; to: string; startsBecause: string; endsBecause: string }[];
  logArchive: { healthy: boolean; message: string | null; segments: number };
}

export interface RecoverySeen {
  id: string;
  state: string;
  instance: InstanceSeen | null;
  error: { code: string; message: string; hint: string | null } | null;
  recoveredTo: { position: string; lastKeptAt: string | null } | null;
}

export interface BackupSeen {
  id: string;
  type: string;
  state: string;
  percent: number;
  madeFrom: { id: string } | null;
  startedAt: string;
  consistentAt: string;
  position: string;
  error: { code: string; message: string; hint: string | null } | null;
}

export async function create(service: Service, name: string, datastoreVersion?: string): Promise<InstanceSeen> {
  const answer = await service.graphql<{ createInstance: InstanceSeen }>(
    `mutation ($input: CreateInstanceInput!) { createInstance(input: $input) { ${INSTANCE} } }`,
    { input: { name, datastore: 'postgresql', datastoreVersion } },
  );
  return answer.createInstance;
}

export async function register(service: Service, name: string, connectionUri: string): Promise<InstanceSeen> {
  const answer = await service.graphql<{ registerInstance: InstanceSeen }>(
    `mutation ($input: RegisterInstanceInput!) { registerInstance(input: $input) { ${INSTANCE} } }`,
    { input: { name, datastore: 'postgresql', connectionUri } },
  );
  return answer.registerInstance;
}

export async function changeUri(service: Service, id: string, connectionUri: string): Promise<void> {
  await service.graphql(
    'mutation ($id: ID!, $input: UpdateInstanceInput!) { updateInstance(id: $id, input: $input) { id } }',
    { id, input: { connectionUri } },
  );
}

export async function remove(service: Service, id: string): Promise<void> {
  await service.graphql('mutation ($id: ID!) { deleteInstance(id: $id) { id } }', { id });
}

export async function instance(service: Service, id: string): Promise<InstanceSeen> {
  const answer = await service.graphql<{ instance: InstanceSeen }>(
    `query ($id: ID!) { instance(id: $id) { ${INSTANCE} } }`,
    { id },
  );
  return answer.instance;
}

/** Takes a full backup that has to complete. */
export async function backUp(service: Service, instanceId: string, fromArchive = false): Promise<BackupSeen> {
  const ended = await backupEnded(service, await beginBackup(service, instanceId, fromArchive));
  if (ended.state !== 'COMPLETED') throw new Error(`the backup ended ${ended.state}: ${JSON.stringify(ended.error)}`);
  return ended;
}

/** Only asks; see backupEnded. */
export async function beginBackup(service: Service, instanceId: string, fromArchive = false): Promise<string> {
  const mutation = fromArchive ? 'takeBackupFromArchive' : 'takeBackup';
  const { begun } = await service.graphql<{ begun: { id: string } }>(
    `mutation ($id: ID!) { begun: ${mutation}(instanceId: $id) { id } }`,
    { id: instanceId },
  );
  return begun.id;
}

/** One that is made of the archive has the lowest priority: on a busy machine it takes its time. */
export async function backupEnded(service: Service, id: string, seconds = 240): Promise<BackupSeen> {
  let seen: BackupSeen | null = null;
  const ended = async () => {
    const answer = await service.graphql<{ backup: BackupSeen }>(`query ($id: ID!) { backup(id: $id) { ${BACKUP} } }`, {
      id,
    });
    seen = answer.backup;
    return seen.state !== 'RUNNING';
  };
  await until('the backup has ended', ended, seconds);
  return seen as unknown as BackupSeen;
}

/** All of an instance's, the newest first. */
export async function backupsOf(service: Service, id: string): Promise<BackupSeen[]> {
  const answer = await service.graphql<{ instance: { backups: BackupSeen[] } }>(
    `query ($id: ID!) { instance(id: $id) {
      backups(states: [RUNNING, COMPLETED, FAILED, DELETED], first: 100) { ${BACKUP} } } }`,
    { id },
  );
  return answer.instance.backups;
}

export interface Target {
  pointInTime?: string;
  position?: string;
}

export async function plan(
  service: Service,
  instanceId: string,
  target: Target,
): Promise<{ base: string | null; cut: string | null; code: string | null; hint: string | null }> {
  const { recoveryPlan } = await service.graphql<{
    recoveryPlan: {
      plan: { base: { id: string }; cut: { position: string } } | null;
      fault: { code: string; hint: string | null } | null;
    };
  }>(
    `query ($id: ID!, $pointInTime: DateTime, $position: String) {
      recoveryPlan(instanceId: $id, pointInTime: $pointInTime, position: $position) {
        plan { base { id } cut { position } } fault { code hint } } }`,
    { id: instanceId, ...target },
  );
  return {
    base: recoveryPlan.plan?.base.id ?? null,
    cut: recoveryPlan.plan?.cut.position ?? null,
    code: recoveryPlan.fault?.code ?? null,
    hint: recoveryPlan.fault?.hint ?? null,
  };
}

/** Only asks; see recoveryEnded. */
export async function beginRecovery(service: Service, instanceId: string, target: Target = {}): Promise<string> {
  const { recoverInstance } = await service.graphql<{ recoverInstance: { id: string } }>(
    `mutation ($id: ID!, $pointInTime: DateTime, $position: String) {
      recoverInstance(instanceId: $id, pointInTime: $pointInTime, position: $position) { id } }`,
    { id: instanceId, ...target },
  );
  return recoverInstance.id;
}

export async function recoveryEnded(service: Service, id: string): Promise<RecoverySeen> {
  let seen: RecoverySeen | null = null;
  await until('the recovery has ended', async () => {
    const answer = await service.graphql<{ recovery: RecoverySeen }>(
      `query ($id: ID!) { recovery(id: $id) {
        id state instance { ${INSTANCE} } ${FAULT} recoveredTo { position lastKeptAt } } }`,
      { id },
    );
    seen = answer.recovery;
    return ['SUCCEEDED', 'FAILED', 'CANCELLED', 'STUCK'].includes(seen.state);
  });
  return seen as unknown as RecoverySeen;
}

/** A recovery that has to succeed; answers with the new instance. */
export async function recover(service: Service, instanceId: string, target: Target = {}): Promise<InstanceSeen> {
  const ended = await recoveryEnded(service, await beginRecovery(service, instanceId, target));
  if (ended.state !== 'SUCCEEDED' || !ended.instance) throw new Error(`it ended ${JSON.stringify(ended)}`);
  return ended.instance;
}

/** The first column of a statement's rows, on a connection of its own. */
export async function column(uri: string, sql: string): Promise<unknown[]> {
  const client = new pg.Client({ connectionString: uri });
  await client.connect();
  try {
    const { rows } = await client.query({ text: sql, rowMode: 'array' });
    return rows.map((row: unknown[]) => row[0]);
  } finally {
    await client.end();
  }
}
