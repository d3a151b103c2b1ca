/** Backups that are ended with their instance, with a driver that goes on until it is told to stop. */
import assert from 'node:assert/strict';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { pino } from 'pino';
import type { Archiver } from '../../src/backup/archiver.js';
import { BackupRuns, type Wanted } from '../../src/backup/backupRuns.js';
import type { BackupFacts, BackupSink, Datastore } from '../../src/datastores/datastore.js';
import { DatastoreRegistry } from '../../src/datastores/registry.js';
import { Fault } from '../../src/errors.js';
import type { InstanceHandle, RecoveryPlan } from '../../src/model.js';
import { anInstance, aRecovery, aStretch, at, scratchCatalog } from '../catalog/examples.js';
import { openPipeline } from '../storage/objects.js';
import { until } from '../support/sqlitePrograms.js';

const position = { stretch: 's', ordinal: 0, text: 's/0' };
const facts: BackupFacts = {
  replayAfter: position,
  consistent: position,
  consistentAt: at(0),
  sizeBytes: 6,
  state: {},
};
const FULL: Wanted = { type: 'FULL', parentId: null };

/** Stores parts of a backup until it is told to end the content. */
class EndlessDriver {
  readonly name = 'sqlite';
  endless = false;
  /** What has begun. */
  readonly begun: string[] = [];
  readonly rollForward = { make: (_request: unknown, sink: BackupSink) => this.store('roll', sink) };

  backup({ instance }: { instance: InstanceHandle }, sink: BackupSink): Promise<BackupFacts> {
    return this.store(instance.id, sink);
  }

  private async store(name: string, sink: BackupSink): Promise<BackupFacts> {
    const { endless } = this;
    const { begun } = this;
    await sink.write(
      (async function* () {
        yield Buffer.from('parts ');
        begun.push(name);
        if (endless) await new Promise(() => {});
      })(),
      2,
    );
    return facts;
  }
}

async function bench(t: TestContext) {
  const { catalog } = await scratchCatalog(t);
  const { dir, storage, pipeline } = await openPipeline(t);
  const driver = new EndlessDriver();
  const stopping = new AbortController();
  const faults: Fault[] = [];
  const runs = new BackupRuns(
    {
      catalog,
      storage,
      pipeline,
      datastores: new DatastoreRegistry([driver as unknown as Datastore]),
      archiver: { captureOf: () => ({}), cover: async () => true } as unknown as Archiver,
      handleOf: ({ id }) => ({ id }) as InstanceHandle,
      scratchOf: (id) => path.join(dir, 'scratch', id),
      clock: () => at(1),
      logger: pino({ level: 'silent' }),
      onFault: async (fault) => void faults.push(fault),
    },
    stopping.signal,
  );
  t.after(async () => {
    stopping.abort(new Fault('SERVICE_STOPPED', 'The test is over'));
    await runs.idle();
  });
  const instances = await Promise.all(
    ['i', 'j'].map(async (id) => {
      const instance = anInstance({ id, identity: id });
      await catalog.write(async (writer) => {
        await writer.insertInstance(instance);
        await writer.insertStretch(
          aStretch({ id: `s-${id}`, instanceId: id, name: 's', startOrdinal: 0, lastOrdinal: 0 }),
        );
      });
      return instance;
    }),
  );
  const [own, other] = instances;
  assert.ok(own && other);
  const endOf = async (id: string) => {
    const backup = await catalog.read.backup(id);
    return [backup?.state, backup?.error?.code ?? null];
  };
  const ended = (id: string) => until('it has ended', async () => (await endOf(id))[0] !== 'RUNNING');
  const objects = async (id: string) => {
    const found: string[] = [];
    for await (const { key } of storage.list('instances')) if (key.includes(id)) found.push(key);
    return found;
  };
  return { driver, runs, own, other, endOf, ended, objects, faults };
}

const deleted = new Fault('INSTANCE_NOT_FOUND', 'The instance was deleted while the backup ran');

test('ended are the backups of one instance, in line or under way, and nothing of them is left', async (t) => {
  const { driver, runs, own, other, endOf, ended, objects, faults } = await bench(t);
  driver.endless = true;
  const first = await runs.enqueue(own, FULL, null);
  const second = await runs.enqueue(own, FULL, null);
  const others = await runs.enqueue(other, FULL, null);
  await until('both instances’ first ones are under way', () => driver.begun.length === 2);
  await until('something of it is stored', async () => (await objects(first.id)).length > 0);
  runs.end('i', deleted);
  await ended(first.id);
  await ended(second.id);
  assert.deepEqual(await endOf(first.id), ['FAILED', 'INSTANCE_NOT_FOUND']);
  assert.deepEqual(await endOf(second.id), ['FAILED', 'INSTANCE_NOT_FOUND']);
  assert.deepEqual([await objects(first.id), await objects(second.id)], [[], []]);
  assert.deepEqual(driver.begun.sort(), ['i', 'j'], 'the one that waited never began');
  assert.deepEqual(faults, [], 'it is no sign of damage');
  assert.deepEqual(await endOf(others.id), ['RUNNING', null]);
});

test('one that is made of the archive goes on, since it needs no database', async (t) => {
  const { driver, runs, own, endOf, ended } = await bench(t);
  const base = await runs.enqueue(own, FULL, null);
  await ended(base.id);
  driver.endless = true;
  const plan: RecoveryPlan = { ...aRecovery({ id: 'r', sourceId: 'i' }).plan, baseId: base.id, incrementalIds: [] };
  const made = await runs.enqueue(own, { plan, at: at(1) }, null);
  const taken = await runs.enqueue(own, FULL, null);
  await until('both are under way', () => driver.begun.length === 3);
  runs.end('i', deleted);
  await ended(taken.id);
  assert.deepEqual(await endOf(made.id), ['RUNNING', null]);
});
