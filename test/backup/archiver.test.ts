/** The archiver with a driver that fails and waits as it is told: starts are repeated, releases are final, fences are shared. */
import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import { type TestContext, test } from 'node:test';
import { pino } from 'pino';
import { Archiver } from '../../src/backup/archiver.js';
import type { CaptureHealth, Datastore, LogCapture } from '../../src/datastores/datastore.js';
import { DatastoreRegistry } from '../../src/datastores/registry.js';
import { Fault } from '../../src/errors.js';
import { noOutbox, type Outbox } from '../../src/events/outbox.js';
import { instant } from '../../src/instant.js';
import type { InstanceHandle } from '../../src/model.js';
import type { ObjectPipeline } from '../../src/storage/pipeline.js';
import { anInstance, aStretch, scratchCatalog } from '../catalog/examples.js';
import { until } from '../support/sqlitePrograms.js';

class ToldDatastore extends EventEmitter {
  readonly name = 'sqlite';
  failures = 0;
  starts = 0;
  stops = 0;
  fences = 0;
  /** Holds fences up while set. */
  gate: Promise<void> | null = null;

  async capture(): Promise<LogCapture> {
    this.starts += 1;
    this.emit('start');
    if (this.failures > 0) {
      this.failures -= 1;
      throw new Fault('DATASTORE_UNAVAILABLE', 'The source does not answer', { hint: 'Start it.' });
    }
    return {
      fence: async () => {
        this.fences += 1;
        this.emit('fence');
        await this.gate;
        return { coveredTo: instant(1), position: { stretch: 's', ordinal: 0, text: 's/0' } };
      },
      health: (): CaptureHealth => ({ healthy: true, message: null, lagSeconds: 0 }),
      stop: async () => {
        this.stops += 1;
      },
    };
  }
}

async function bench(t: TestContext, outbox: Outbox = noOutbox) {
  const { catalog } = await scratchCatalog(t);
  const datastore = new ToldDatastore();
  const archiver = new Archiver({
    catalog,
    pipeline: {} as ObjectPipeline,
    datastores: new DatastoreRegistry([datastore as unknown as Datastore]),
    handleOf: () => ({}) as InstanceHandle,
    clock: () => instant(Date.now() * 1000),
    logger: pino({ level: 'silent' }),
    outbox,
    onInterrupted: () => {},
  });
  const instance = anInstance({ id: 'i' });
  await catalog.write((writer) => writer.insertInstance(instance));
  return { catalog, datastore, archiver, instance };
}

test('a capture that does not start is tried again, and the catalog says how it is', async (t) => {
  const { catalog, datastore, archiver, instance } = await bench(t);
  datastore.failures = 1;
  await archiver.follow(instance);
  assert.throws(() => archiver.captureOf('i'), { code: 'INSTANCE_NOT_READY' });
  const seen = async () => catalog.read.instance('i');
  await until('it is told', async () => (await seen())?.archiveHealthy === false);
  assert.equal((await seen())?.archiveMessage, 'The source does not answer. Start it.');
  await until('it is healthy again', async () => (await seen())?.archiveHealthy === true);
  assert.equal((await seen())?.archiveMessage, null);
  assert.equal(datastore.starts, 2);
  await archiver.close();
  assert.equal(datastore.stops, 1);
});

test('an archive that ceases to be well, and is well again, is each noted once, whatever is said in between', async (t) => {
  const noted: string[] = [];
  const { datastore, archiver, instance } = await bench(t, {
    async note(_writer, { type, tenantId, subject }) {
      noted.push(`${type} ${tenantId} ${subject}`);
    },
  });
  datastore.failures = 2;
  await archiver.follow(instance);
  await until('it is healthy again', () => noted.length === 2);
  assert.deepEqual(noted, ['pitr.archive.unhealthy tenant i', 'pitr.archive.healthy tenant i']);
  await archiver.release('i');
  await archiver.follow(instance);
  await archiver.close();
  assert.equal(noted.length, 2, 'an archive that stays well is no news');
});

test('a release between two tries is final', async (t) => {
  const { datastore, archiver, instance } = await bench(t);
  datastore.failures = 1;
  await archiver.follow(instance);
  await archiver.release('i');
  await archiver.follow(instance);
  assert.equal(datastore.starts, 2, 'the try that was waiting must not come too');
  await archiver.close();
  assert.equal(datastore.stops, 1);
  await archiver.follow(instance);
  assert.equal(datastore.starts, 2, 'nothing is followed after the end');
});

test('the latest point is asked for with a fence that began after the question', async (t) => {
  const { datastore, archiver, instance } = await bench(t);
  await archiver.follow(instance);
  let open = (): void => {};
  datastore.gate = new Promise((resolve) => {
    open = resolve;
  });
  const begun = once(datastore, 'fence');
  const first = archiver.cover('i', null);
  await begun;
  // It may have looked at the source already: whoever asks now needs another one, and all of them the same.
  const later = [archiver.cover('i', null), archiver.cover('i', null), archiver.cover('i', null)];
  open();
  assert.equal(await first, true);
  assert.deepEqual(await Promise.all(later), [true, true, true]);
  assert.equal(datastore.fences, 2);
  await archiver.close();
});

test('coverage of a moment that has not come, as of a source whose clock was ahead, saves no fence for the latest point', async (t) => {
  const { catalog, datastore, archiver, instance } = await bench(t);
  const coveredTo = instant((Date.now() + 3_600_000) * 1000);
  await catalog.write((writer) =>
    writer.insertStretch(aStretch({ id: 's', name: 's', instanceId: 'i', endsBecause: null, coveredTo })),
  );
  await archiver.follow(instance);
  assert.equal(await archiver.cover('i', coveredTo), true);
  assert.equal(datastore.fences, 0);
  assert.equal(await archiver.cover('i', null), true);
  assert.equal(datastore.fences, 1);
  await archiver.close();
});
