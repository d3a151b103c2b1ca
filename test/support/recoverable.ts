/** What the tests of the running service do with it: write, look at the newest position, back up, recover, read. */
import assert from 'node:assert/strict';
import { fileURLToPath } from 'node:url';
import type { Service } from './service.js';
import { TestDatabase } from './sqliteDatabase.js';
import { until } from './sqlitePrograms.js';

export interface Instance {
  id: string;
  name: string;
  state: string;
  endpoint: string;
}

export interface Recovery {
  id: string;
  state: string;
  closestPointInTime: string;
  instance: Instance | null;
  plan: { cut: Cut; base: { id: string } };
  recoveredTo: Cut | null;
  error: { code: string; message: string } | null;
}

export interface Cut {
  position: string;
  lastKeptNotBefore: string | null;
  lastKeptAt: string | null;
  firstDroppedAt: string | null;
}

export const CUT = 'position lastKeptNotBefore lastKeptAt firstDroppedAt';
const RECOVERY = `id state closestPointInTime instance { id name state endpoint }
  plan { cut { ${CUT} } base { id } } recoveredTo { ${CUT} } error { code message }`;
const LIMIT_SECONDS = 60;

export async function createInstance(service: Service, name: string): Promise<Instance> {
  const { createInstance } = await service.graphql<{ createInstance: Instance }>(
    `mutation ($name: String!) {
      createInstance(input: { name: $name, datastore: "sqlite" }) { id name state endpoint }
    }`,
    { name },
  );
  await write(createInstance, 'CREATE TABLE marks (mark TEXT)');
  return createInstance;
}

export async function write(instance: Instance, sql: string): Promise<void> {
  const database = await TestDatabase.open(fileOf(instance));
  await database.run(sql);
  await database.close();
}

export async function marksOf(instance: Instance): Promise<string[]> {
  const database = await TestDatabase.open(fileOf(instance));
  const rows = await database.all('SELECT mark FROM marks ORDER BY rowid');
  await database.close();
  return rows.map(({ mark }) => String(mark));
}

export function fileOf({ endpoint }: Instance): string {
  return fileURLToPath(endpoint.replace(/^sqlite:/, 'file:'));
}

/** Resolves when the backup is completed. */
export async function backUp(service: Service, instanceId: string): Promise<{ id: string; consistentAt: string }> {
  const { takeBackup } = await service.graphql<{ takeBackup: { id: string } }>(
    'mutation ($instanceId: ID!) { takeBackup(instanceId: $instanceId) { id } }',
    { instanceId },
  );
  let consistentAt = '';
  await until(
    'the backup is completed',
    async () => {
      const { backup } = await service.graphql<{ backup: { state: string; consistentAt: string; error: unknown } }>(
        'query ($id: ID!) { backup(id: $id) { state consistentAt error { message } } }',
        takeBackup,
      );
      assert.match(backup.state, /RUNNING|COMPLETED/, JSON.stringify(backup.error));
      consistentAt = backup.consistentAt;
      return backup.state === 'COMPLETED';
    },
    LIMIT_SECONDS,
  );
  return { ...takeBackup, consistentAt };
}

/** Writes a mark and answers with the cut just after it, once the archive holds it. */
export async function mark(service: Service, instance: Instance, text: string): Promise<Cut & { lastKeptAt: string }> {
  const before = await newest(service, instance.id);
  await write(instance, `INSERT INTO marks VALUES ('${text}')`);
  let cut = before;
  await until(
    'the mark is archived',
    async () => {
      cut = await newest(service, instance.id);
      return cut.position !== before.position;
    },
    LIMIT_SECONDS,
  );
  const { lastKeptAt } = cut;
  assert.ok(lastKeptAt);
  return { ...cut, lastKeptAt };
}

async function newest(service: Service, id: string): Promise<Cut> {
  const { recoveryPlan } = await service.graphql<{ recoveryPlan: { plan: { cut: Cut } | null; fault: unknown } }>(
    `query ($id: ID!) { recoveryPlan(instanceId: $id) { plan { cut { ${CUT} } } fault { code message } } }`,
    { id },
  );
  assert.ok(recoveryPlan.plan, JSON.stringify(recoveryPlan.fault));
  return recoveryPlan.plan.cut;
}

export interface Target {
  pointInTime?: string;
  position?: string;
  name?: string;
  idempotencyKey?: string;
}

export async function startRecovery(service: Service, instanceId: string, target: Target = {}): Promise<Recovery> {
  const { recoverInstance } = await service.graphql<{ recoverInstance: Recovery }>(
    `mutation ($instanceId: ID!, $pointInTime: DateTime, $position: String, $name: String, $idempotencyKey: String) {
      recoverInstance(instanceId: $instanceId, pointInTime: $pointInTime, position: $position, name: $name,
        idempotencyKey: $idempotencyKey) { ${RECOVERY} }
    }`,
    { instanceId, ...target },
  );
  return recoverInstance;
}

export async function ended(service: Service, id: string): Promise<Recovery> {
  let last: Recovery | null = null;
  await until(
    'the recovery has ended',
    async () => {
      const { recovery } = await service.graphql<{ recovery: Recovery }>(
        `query ($id: ID!) { recovery(id: $id) { ${RECOVERY} } }`,
        { id },
      );
      last = recovery;
      return !['QUEUED', 'RUNNING', 'UNWINDING'].includes(recovery.state);
    },
    LIMIT_SECONDS,
  );
  assert.ok(last);
  return last;
}

/** Recovers and answers with the new instance. */
export async function recover(service: Service, instanceId: string, target: Target = {}): Promise<Instance> {
  const { id } = await startRecovery(service, instanceId, target);
  const recovery = await ended(service, id);
  assert.equal(recovery.state, 'SUCCEEDED', JSON.stringify(recovery.error));
  assert.ok(recovery.instance);
  return recovery.instance;
}
