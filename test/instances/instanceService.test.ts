/** Instances let go and taken up again, with a driver and a catalog that fail as they are told. */
import assert from 'node:assert/strict';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { pino } from 'pino';
import { Archiver } from '../../src/backup/archiver.js';
import type { Catalog, InstanceRecord } from '../../src/catalog/records.js';
import type { Datastore, LogCapture, LogSink } from '../../src/datastores/datastore.js';
import { DatastoreRegistry } from '../../src/datastores/registry.js';
import { Fault } from '../../src/errors.js';
import { noOutbox } from '../../src/events/outbox.js';
import type { FileBounds } from '../../src/instances/fileBounds.js';
import { handleOf } from '../../src/instances/handle.js';
import { InstanceService } from '../../src/instances/instanceService.js';
import { Places } from '../../src/instances/places.js';
import type { InstanceHandle } from '../../src/model.js';
import type { Quotas } from '../../src/quotas.js';
import type { Caller } from '../../src/services.js';
import type { ObjectPipeline } from '../../src/storage/pipeline.js';
import { anInstance, at, scratchCatalog } from '../catalog/examples.js';
import { scratchDir } from '../support/scratch.js';
import { until } from '../support/sqlitePrograms.js';

const caller = { tenantId: 'tenant' } as Caller;

/** A source that can be told not to let its capture stop. */
class ToldDatastore {
  readonly name = 'sqlite';
  running = 0;
  refuseStop = false;
  sink: LogSink | null = null;
  /** The instances that it was told to let go, in that order. */
  readonly released: string[] = [];
  /** What letting go takes. */
  release = async (_handle: InstanceHandle): Promise<void> => {};

  async start(): Promise<void> {}

  async inspect() {
    return { connectionUri: 'file:///moved.db', identity: 'identity-i', notices: [], state: {}, endpoint: null };
  }

  async capture(_handle: unknown, resume: unknown, sink: LogSink): Promise<LogCapture> {
    this.sink = sink;
    this.running += 1;
    const position = { stretch: 's', ordinal: 0, text: 's/0' };
    if (!resume) {
      const start = { because: 'FIRST_BACKUP', reason: 'The first look.', at: at(0) } as const;
      await sink.stretchStarted({ stretch: 's', position, ...start });
    }
    return {
      fence: async () => ({ coveredTo: at(1), position }),
      health: () => ({ healthy: true, message: null, lagSeconds: 0 }),
      stop: async () => {
        this.running -= 1;
        if (this.refuseStop) throw new Fault('DATASTORE_UNAVAILABLE', 'The source does not let go');
      },
    };
  }
}

async function bench(t: TestContext, records: InstanceRecord[]) {
  const { catalog: real } = await scratchCatalog(t);
  const disk = { full: false };
  const catalog: Catalog = {
    read: real.read,
    write: async (work) => {
      if (disk.full) throw new Fault('STORAGE_FULL', 'The disk of the catalog is full');
      return real.write(work);
    },
    close: () => real.close(),
  };
  await catalog.write(async (writer) => {
    for (const record of records) await writer.insertInstance(record);
  });
  const places = new Places(path.join(await scratchDir(t), 'home'));
  await places.prepare();
  const datastore = new ToldDatastore();
  const shared = {
    catalog,
    datastores: new DatastoreRegistry([datastore as unknown as Datastore]),
    clock: () => at(2),
    logger: pino({ level: 'silent' }),
  };
  const archiver = new Archiver({
    ...shared,
    pipeline: {} as ObjectPipeline,
    handleOf: (instance) => handleOf(places, instance),
    outbox: noOutbox,
    onInterrupted: () => {},
  });
  // Before the catalog is closed.
  t.after(() => archiver.close());
  const fileBounds = { check: async () => {} } as unknown as FileBounds;
  places.isLinkToOwn = async () => false;
  const quotas: Quotas = { instances: null, volumeSizeGiB: null, backups: null, recoveries: null };
  const told: string[] = [];
  const onDeleted = (id: string) => void told.push(`${id} is deleted`);
  const instances = new InstanceService({ ...shared, archiver, places, fileBounds, quotas, onDeleted });
  const healthOf = async (id: string) => (await instances.logArchives(caller, [id])).get(id);
  return { catalog, disk, datastore, archiver, instances, healthOf, told };
}

/** A gate that is shut until it is opened. */
function gate(): { open(): void; passed: Promise<void> } {
  let open = (): void => {};
  const passed = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { open: () => open(), passed };
}

/** Deleted while their servers were away. */
function deleted(count: number): InstanceRecord[] {
  return Array.from({ length: count }, (_, number) =>
    anInstance({ id: `d${number}`, state: 'DELETED', deletedAt: at(1), endpoint: null, identity: null }),
  );
}

/** The coverage of an idle database has risen and is not yet in the catalog. */
function rise({ sink }: ToldDatastore): void {
  sink?.covered({ stretch: 's', ordinal: 0, text: 's/0' }, at(1));
}

test('an instance that cannot be deleted because the catalog’s disk is full stays captured', async (t) => {
  const { catalog, disk, datastore, archiver, instances, told } = await bench(t, [anInstance({ id: 'i' })]);
  await instances.start();
  rise(datastore);
  disk.full = true;
  await assert.rejects(instances.remove(caller, 'i'), { code: 'STORAGE_FULL' });
  assert.equal(told.length, 0);
  assert.equal(archiver.isCapturing('i'), true);
  assert.equal(datastore.running, 1);
  disk.full = false;
  assert.equal((await catalog.read.instance('i'))?.state, 'ACTIVE');
  datastore.release = async ({ id }) => void told.push(`${id} is let go`);
  assert.equal((await instances.remove(caller, 'i')).state, 'DELETED');
  assert.equal(datastore.running, 0);
  assert.deepEqual(told, ['i is deleted', 'i is let go']);
});

test('a release that cannot record how far the archive reaches is a release all the same', async (t) => {
  const { disk, datastore, archiver, instances } = await bench(t, [anInstance({ id: 'i' })]);
  await instances.start();
  rise(datastore);
  disk.full = true;
  await archiver.release('i');
  assert.equal(datastore.running, 0);
});

test('an instance whose capture does not stop cleanly is captured again, whether it was to go or to move', async (t) => {
  const { catalog, datastore, archiver, instances } = await bench(t, [anInstance({ id: 'i' })]);
  await instances.start();
  datastore.refuseStop = true;
  await assert.rejects(instances.remove(caller, 'i'), { code: 'DATASTORE_UNAVAILABLE' });
  assert.equal(archiver.isCapturing('i'), true);
  const move = instances.update(caller, 'i', { connectionUri: 'file:///moved.db' });
  await assert.rejects(move, { code: 'DATASTORE_UNAVAILABLE' });
  assert.equal(archiver.isCapturing('i'), true);
  assert.equal((await catalog.read.instance('i'))?.state, 'ACTIVE');
  datastore.refuseStop = false;
});

test('an ACTIVE instance that nobody follows is not called healthy, whatever was true last', async (t) => {
  const gone = anInstance({ id: 'gone', state: 'DELETED', deletedAt: at(1), connectionUri: null, identity: null });
  const { archiver, instances, healthOf } = await bench(t, [anInstance({ id: 'i' }), gone]);
  await instances.start();
  assert.equal((await healthOf('i'))?.healthy, true);
  await archiver.release('i');
  const unfollowed = await healthOf('i');
  assert.equal(unfollowed?.healthy, false);
  assert.match(unfollowed?.message ?? '', /not being captured/);
  assert.equal((await healthOf('gone'))?.healthy, true, 'of a deleted one nothing is expected any more');
});

test('deleted instances whose servers do not answer keep no other one from being captured', async (t) => {
  const done = anInstance({ id: 'done', state: 'DELETED', deletedAt: at(1), connectionUri: null, identity: null });
  const { catalog, datastore, archiver, instances } = await bench(t, [anInstance({ id: 'i' }), done, ...deleted(6)]);
  const silence = gate();
  let most = 0;
  let waiting = 0;
  datastore.release = async ({ id }) => {
    datastore.released.push(id);
    waiting += 1;
    most = Math.max(most, waiting);
    await silence.passed;
    waiting -= 1;
    if (id === 'd1') throw new Fault('DATASTORE_UNAVAILABLE', 'The server does not answer');
  };
  await instances.start();
  assert.equal(archiver.isCapturing('i'), true);
  await until('some are being let go', () => datastore.released.length === 4);
  silence.open();
  await until('all were tried', async () => {
    const left = (await catalog.read.instancesInStates(['DELETED'])).filter((each) => each.connectionUri !== null);
    return left.length === 1 && left[0]?.id === 'd1';
  });
  assert.equal(most, 4);
  assert.deepEqual(datastore.released.sort(), ['d0', 'd1', 'd2', 'd3', 'd4', 'd5']);
  await instances.close();
});

test('a service that stops lets no more deleted instances go, and leaves them to the next start', async (t) => {
  const { catalog, datastore, instances } = await bench(t, deleted(6));
  const silence = gate();
  datastore.release = async ({ id }) => {
    datastore.released.push(id);
    await silence.passed;
  };
  await instances.start();
  await until('some are being let go', () => datastore.released.length === 4);
  const closed = instances.close();
  silence.open();
  await closed;
  const left = (await catalog.read.instancesInStates(['DELETED'])).filter((each) => each.connectionUri !== null);
  assert.deepEqual([datastore.released.length, left.length], [4, 2]);
});
