/** The archiver with a driver that fails and waits as it is told: starts are repeated, releases are final, fences are shared. */
import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import { type TestContext, test } from 'node:test';
import { pino } from 'pino';
import { Archiver } from '../../src/backup/archiver.js';
import type { Catalog } from '../../src/catalog/records.js';
import type {
  CapturedSegment,
  CaptureHealth,
  Datastore,
  LogCapture,
  LogSink,
  ResumePoint,
} from '../../src/datastores/datastore.js';
import { DatastoreRegistry } from '../../src/datastores/registry.js';
import { Fault } from '../../src/errors.js';
import { noOutbox, type Outbox } from '../../src/events/outbox.js';
import { instant } from '../../src/instant.js';
import type { InstanceHandle } from '../../src/model.js';
import { anInstance, aStretch, at, scratchCatalog } from '../catalog/examples.js';
import { allOf, openPipeline } from '../storage/objects.js';
import { until } from '../support/sqlitePrograms.js';

class ToldDatastore extends EventEmitter {
  readonly name = 'sqlite';
  failures = 0;
  starts = 0;
  stops = 0;
  fences = 0;
  /** Holds fences up while set. */
  gate: Promise<void> | null = null;
  /** What the newest capture was given. */
  resume: ResumePoint | null = null;
  sink: LogSink | null = null;

  async capture(_instance: InstanceHandle, resume: ResumePoint | null, sink: LogSink): Promise<LogCapture> {
    this.resume = resume;
    this.sink = sink;
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
  const { catalog: real } = await scratchCatalog(t);
  // What a transaction waits for before it ends.
  const disk = { slow: Promise.resolve() };
  const catalog: Catalog = {
    ...real,
    write: (work) =>
      real.write(async (writer) => {
        const answer = await work(writer);
        await disk.slow;
        return answer;
      }),
  };
  const datastore = new ToldDatastore();
  const { storage, pipeline } = await openPipeline(t);
  const archiver = new Archiver({
    catalog,
    pipeline,
    datastores: new DatastoreRegistry([datastore as unknown as Datastore]),
    handleOf: () => ({}) as InstanceHandle,
    clock: () => instant(Date.now() * 1000),
    logger: pino({ level: 'silent' }),
    outbox,
    onInterrupted: () => {},
  });
  const instance = anInstance({ id: 'i' });
  await catalog.write((writer) => writer.insertInstance(instance));
  return { catalog, disk, datastore, storage, pipeline, archiver, instance };
}

/** The bench with an instance whose log is archived up to 10. */
async function archivedBench(t: TestContext) {
  const made = await bench(t);
  await made.archiver.follow(made.instance);
  const sink = sinkOf(made.datastore);
  await sink.stretchStarted({
    stretch: 's',
    position: { stretch: 's', ordinal: 0, text: 's/0' },
    because: 'FIRST_BACKUP',
    reason: 'The first look.',
    at: at(0),
  });
  await sink.segment(aPiece(0, 10));
  const ordinals = async () => {
    const stretch = await made.catalog.read.newestStretch('i');
    const segments = await made.catalog.read.segments(stretch?.id ?? '', { after: 0, last: 1000 }, 'oldest-first', 10);
    return segments.map(({ after, last }) => [after, last]);
  };
  return { ...made, sink, ordinals };
}

function sinkOf({ sink }: ToldDatastore): LogSink {
  assert.ok(sink);
  return sink;
}

function aPiece(after: number, last: number): CapturedSegment {
  const position = (ordinal: number) => ({ stretch: 's', ordinal, text: `s/${ordinal}` });
  return {
    after: position(after),
    last: position(last),
    transactions: 1,
    firstCommitAt: at(last),
    lastCommitAt: at(last),
    coveredTo: at(last),
    continuation: {},
    packed: false,
    async *open() {
      yield Buffer.from(`log from ${after} to ${last}`);
    },
  };
}

function gate(): { open(): void; passed: Promise<void> } {
  let open = (): void => {};
  const passed = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { open: () => open(), passed };
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

for (const when of ['before', 'after'] as const) {
  test(`a put that hangs ${when} its object is there and outlives the release does not come between the next capture and the log`, async (t) => {
    const { datastore, storage, pipeline, archiver, instance, catalog, sink, ordinals } = await archivedBench(t);
    const hanging = gate();
    const begun = gate();
    const put = storage.put.bind(storage);
    storage.put = async (...given) => {
      storage.put = put;
      if (when === 'before') {
        begun.open();
        await hanging.passed;
      }
      const info = await put(...given);
      begun.open();
      await hanging.passed;
      return info;
    };
    const late = assert.rejects(sink.segment(aPiece(10, 20)), { code: 'INSTANCE_NOT_READY' });
    await begun.passed;
    await archiver.release('i');
    await archiver.follow(instance);
    assert.equal(datastore.resume?.position.ordinal, 10);
    hanging.open();
    await late;
    // Whatever else the old capture has to say comes too late as well.
    await assert.rejects(sink.unobserved('s', at(1), at(5)), { code: 'INSTANCE_NOT_READY' });
    const start = { because: 'LOG_GAP', reason: 'A late one.', at: at(30) } as const;
    const elsewhere = { stretch: 'late', position: { stretch: 'late', ordinal: 0, text: 'late/0' } };
    await assert.rejects(sink.stretchStarted({ ...elsewhere, ...start }), { code: 'INSTANCE_NOT_READY' });
    sink.health({ healthy: false, message: 'A late one', lagSeconds: null });
    await sinkOf(datastore).segment(aPiece(10, 20));
    await sinkOf(datastore).segment(aPiece(20, 30));
    assert.deepEqual(await ordinals(), [
      [0, 10],
      [10, 20],
      [20, 30],
    ]);
    const stretch = await catalog.read.newestStretch('i');
    const again = await catalog.read.segmentHolding(stretch?.id ?? '', 15);
    assert.ok(again);
    assert.equal(String(await allOf(pipeline.read(again.object, 'LOG_CORRUPT'))), 'log from 10 to 20');
    assert.deepEqual(await catalog.read.gaps([stretch?.id ?? '']), []);
    assert.equal((await catalog.read.instance('i'))?.archiveHealthy, true);
    await archiver.close();
  });
}

test('a segment that is being recorded while its capture is let go is where the next one goes on', async (t) => {
  const { disk, datastore, archiver, instance, catalog, sink, ordinals } = await archivedBench(t);
  const slow = gate();
  disk.slow = slow.passed;
  const recording = gate();
  const { write } = catalog;
  catalog.write = (work) => write((writer) => work(writer).finally(recording.open));
  const taken = sink.segment(aPiece(10, 20));
  await recording.passed;
  const moved = archiver.release('i').then(() => archiver.follow(instance));
  // As long as it takes to read the resume point.
  await new Promise(setImmediate);
  await catalog.read.newestStretch('i');
  slow.open();
  await taken;
  await moved;
  assert.equal(datastore.resume?.position.ordinal, 20);
  await sinkOf(datastore).segment(aPiece(20, 30));
  assert.equal((await ordinals()).length, 3);
  await archiver.close();
});
