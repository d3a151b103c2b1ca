/** The calls of the API that end-to-end tests make, each to its end. */
import { fileURLToPath } from 'node:url';
import type { Service } from './service.js';
import { until } from './sqlitePrograms.js';

export interface FaultAnswer {
  code: string;
  message: string;
  hint: string | null;
  details: Record<string, unknown> | null;
}

export interface RecoveryAnswer {
  id: string;
  state: string;
  instance: { id: string; state: string; endpoint: string | null } | null;
  error: FaultAnswer | null;
  progress: { sequence: number; percent: number };
  recoveredTo: { position: string; lastKeptNotBefore: string | null; lastKeptAt: string | null } | null;
  plan: {
    base: { id: string };
    incrementals: { id: string }[];
    cut: { position: string; firstDroppedAt: string | null };
  };
  steps: { name: string; state: string; attempts: number; error: FaultAnswer | null }[];
}

const FAULT = 'error { code message hint details }';
const RECOVERY = `id state instance { id state endpoint } ${FAULT} progress { sequence percent }
  recoveredTo { position lastKeptNotBefore lastKeptAt } plan { base { id } incrementals { id } cut { position firstDroppedAt } }
  steps { name state attempts ${FAULT} }`;

export async function createInstance(service: Service, name: string): Promise<{ id: string; file: string }> {
  const { createInstance: made } = await service.graphql<{ createInstance: { id: string; endpoint: string } }>(
    'mutation ($name: String!) { createInstance(input: { name: $name, datastore: "sqlite" }) { id endpoint } }',
    { name },
  );
  return { id: made.id, file: fileOf(made.endpoint) };
}

export function fileOf(endpoint: string | null | undefined): string {
  return fileURLToPath((endpoint ?? '').replace(/^sqlite:/, 'file:'));
}

export async function deleteInstance(service: Service, id: string): Promise<void> {
  await service.graphql('mutation ($id: ID!) { deleteInstance(id: $id) { id } }', { id });
}

export interface BackupAnswer {
  id: string;
  state: string;
  consistentAt: string | null;
  /** A SQLite position: generation/transaction. */
  position: string | null;
  error: FaultAnswer | null;
}

export type Type = 'FULL' | 'DIFFERENTIAL' | 'INCREMENTAL';

export async function beginBackup(service: Service, instanceId: string, type: Type = 'FULL'): Promise<BackupAnswer> {
  const { takeBackup } = await service.graphql<{ takeBackup: BackupAnswer }>(
    'mutation ($id: ID!, $type: BackupType!) { takeBackup(instanceId: $id, type: $type) { id state } }',
    { id: instanceId, type },
  );
  return takeBackup;
}

export async function backupEnded(service: Service, id: string): Promise<BackupAnswer> {
  let backup: BackupAnswer | null = null;
  await until(`backup ${id} has ended`, async () => {
    ({ backup } = await service.graphql<{ backup: BackupAnswer }>(
      `query ($id: ID!) { backup(id: $id) { id state consistentAt position ${FAULT} } }`,
      { id },
    ));
    return backup.state !== 'RUNNING';
  });
  return backup as unknown as BackupAnswer;
}

/** Takes a backup that has to complete. */
export async function takeBackup(service: Service, instanceId: string, type: Type = 'FULL'): Promise<BackupAnswer> {
  const ended = await backupEnded(service, (await beginBackup(service, instanceId, type)).id);
  if (ended.state !== 'COMPLETED') throw new Error(`the backup ended ${ended.state}: ${JSON.stringify(ended.error)}`);
  return ended;
}

export interface Target {
  pointInTime?: string;
  position?: string;
  idempotencyKey?: string;
}

/** Only asks; see recoveryEnded. */
export async function recover(service: Service, instanceId: string, target: Target = {}): Promise<RecoveryAnswer> {
  const { recoverInstance } = await service.graphql<{ recoverInstance: RecoveryAnswer }>(
    `mutation ($id: ID!, $pointInTime: DateTime, $position: String, $idempotencyKey: String) {
      recoverInstance(instanceId: $id, pointInTime: $pointInTime, position: $position, idempotencyKey: $idempotencyKey) {
        ${RECOVERY} } }`,
    { id: instanceId, ...target },
  );
  return recoverInstance;
}

export async function recovery(service: Service, id: string): Promise<RecoveryAnswer> {
  const answer = await service.graphql<{ recovery: RecoveryAnswer }>(
    `query ($id: ID!) { recovery(id: $id) { ${RECOVERY} } }`,
    { id },
  );
  return answer.recovery;
}

const FINAL = ['SUCCEEDED', 'FAILED', 'CANCELLED', 'STUCK'];

export async function recoveryEnded(service: Service, id: string): Promise<RecoveryAnswer> {
  return recoveryIs(service, id, ({ state }) => FINAL.includes(state));
}

/** Waits until a recovery is as told. */
export async function recoveryIs(
  service: Service,
  id: string,
  condition: (recovery: RecoveryAnswer) => boolean,
): Promise<RecoveryAnswer> {
  let seen: RecoveryAnswer | null = null;
  await until(
    `recovery ${id} is as expected`,
    async () => {
      seen = await recovery(service, id);
      return condition(seen);
    },
    60,
  ).catch((error: Error) => {
    throw new Error(`${error.message}; it is ${JSON.stringify(seen)}`);
  });
  return seen as unknown as RecoveryAnswer;
}

export async function cancel(service: Service, id: string): Promise<string> {
  const { cancelRecovery } = await service.graphql<{ cancelRecovery: { state: string } }>(
    'mutation ($id: ID!) { cancelRecovery(id: $id) { state } }',
    { id },
  );
  return cancelRecovery.state;
}

export interface Window {
  from: string;
  to: string;
  startsBecause: string;
  endsBecause: string;
}

export interface InstanceAnswer {
  id: string;
  state: string;
  recoveryWindows: Window[];
  logArchive: { healthy: boolean; message: string | null };
  backups: { id: string; state: string }[];
}

export async function instance(service: Service, id: string): Promise<InstanceAnswer> {
  const answer = await service.graphql<{ instance: InstanceAnswer }>(
    `query ($id: ID!) { instance(id: $id) { id state recoveryWindows { from to startsBecause endsBecause }
      logArchive { healthy message } backups { id state } } }`,
    { id },
  );
  return answer.instance;
}

/** A dry run: the plan's cut or the code of the refusal. Without a target it makes the archive catch up. */
export async function plan(
  service: Service,
  instanceId: string,
  target: Target = {},
): Promise<{ cut: string | null; code: string | null; details: Record<string, unknown> | null }> {
  const { recoveryPlan } = await service.graphql<{
    recoveryPlan: { plan: { cut: { position: string } } | null; fault: FaultAnswer | null };
  }>(
    `query ($id: ID!, $pointInTime: DateTime, $position: String) {
      recoveryPlan(instanceId: $id, pointInTime: $pointInTime, position: $position) {
        plan { cut { position } } fault { code message hint details } } }`,
    { id: instanceId, ...target },
  );
  const { fault } = recoveryPlan;
  return {
    cut: recoveryPlan.plan?.cut.position ?? null,
    code: fault?.code ?? null,
    details: fault?.details ?? null,
  };
}
