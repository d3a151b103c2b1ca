/** Cancels that come late and more than once: each undo runs once, and nothing that has ended is begun again. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { pino } from 'pino';
import type { Datastore } from '../../src/datastores/datastore.js';
import { DatastoreRegistry } from '../../src/datastores/registry.js';
import { Fault } from '../../src/errors.js';
import { noOutbox } from '../../src/events/outbox.js';
import { Places } from '../../src/instances/places.js';
import { recoverySteps } from '../../src/model.js';
import { ProgressHub } from '../../src/recovery/progress.js';
import { RecoveryService } from '../../src/recovery/recoveryService.js';
import type { Step } from '../../src/recovery/steps.js';
import { TaskManager } from '../../src/recovery/taskManager.js';
import type { Caller } from '../../src/services.js';
import type { ObjectPipeline } from '../../src/storage/pipeline.js';
import { Telemetry } from '../../src/telemetry/telemetry.js';
import { anInstance, aRecovery, at, pendingSteps, scratchCatalog } from '../catalog/examples.js';
import { scratchDir } from '../support/scratch.js';
import { until } from '../support/sqlitePrograms.js';

const caller = { tenantId: 'tenant' } as Caller;

/** One recovery at a time, of which each waits in RESTORE_BASE until it is interrupted. */
async function bench(t: TestContext, undoRestore: () => Promise<void>) {
  const { catalog } = await scratchCatalog(t);
  const undone: string[] = [];
  /** The recoveries that were taken up, each as often as it was. */
  const runs: string[] = [];
  const telemetry = new Telemetry();
  const watched = telemetry.recovery.bind(telemetry);
  telemetry.recovery = (recovery, origin) => {
    runs.push(recovery.id);
    return watched(recovery, origin);
  };
  const steps = recoverySteps.map(
    (name): Step => ({
      name,
      run: async ({ signal }) => {
        if (name === 'RESTORE_BASE' && !signal.aborted) await once(signal, 'abort');
        return {};
      },
      undo: async ({ recovery }) => {
        if (name === 'RESTORE_BASE') await undoRestore();
        undone.push(`${recovery.id} ${name}`);
      },
    }),
  );
  const shared = {
    catalog,
    datastores: new DatastoreRegistry([{ name: 'sqlite' } as Datastore]),
    pipeline: {} as ObjectPipeline,
    hub: new ProgressHub(),
    clock: () => at(1),
    logger: pino({ level: 'silent' }),
    outbox: noOutbox,
    telemetry,
    onFault: async () => {},
  };
  const tasks = new TaskManager({
    ...shared,
    places: new Places(path.join(await scratchDir(t), 'home')),
    concurrency: 1,
    steps,
    onActivated: async () => {},
  });
  // Before the catalog is closed.
  t.after(() => tasks.stop());
  const recoveries = new RecoveryService({
    ...shared,
    tasks,
    quotas: { instances: null, volumeSizeGiB: null, backups: null, recoveries: null },
    cover: async () => false,
  });
  await catalog.write(async (writer) => {
    await writer.insertInstance(anInstance({ id: 'i' }));
    for (const id of ['r1', 'r2']) {
      await writer.insertRecovery(aRecovery({ id, sourceId: 'i', createdAt: at(Number(id[1])) }), pendingSteps(id));
    }
  });
  const cancel = async (id: string) => (await recoveries.cancel(caller, id)).state;
  const stateOf = async (id: string) => (await catalog.read.recovery(id))?.state;
  const begun = (id: string) => until(`${id} restores`, async () => (await restore(id))?.state === 'RUNNING');
  const restore = async (id: string) => (await catalog.read.steps([id])).find((step) => step.name === 'RESTORE_BASE');
  await tasks.start();
  return { tasks, runs, undone, cancel, stateOf, begun };
}

test('cancels that are repeated while the undo runs begin nothing anew when it has ended', async (t) => {
  let open = (): void => {};
  const gate = new Promise<void>((resolve) => {
    open = resolve;
  });
  const { runs, undone, cancel, stateOf, begun } = await bench(t, () => gate);
  await begun('r1');
  assert.equal(await cancel('r1'), 'RUNNING');
  await until('it unwinds', async () => (await stateOf('r1')) === 'UNWINDING');
  assert.deepEqual([await cancel('r1'), await cancel('r1')], ['UNWINDING', 'UNWINDING']);
  open();
  // Its turn comes when the first one has left, and long after anything that waited for just that.
  await begun('r2');
  assert.equal(await stateOf('r1'), 'CANCELLED');
  assert.deepEqual(runs, ['r1', 'r2']);
  assert.deepEqual(undone, ['r1 RESTORE_BASE', 'r1 RESERVE']);
});

test('a STUCK recovery is taken up again by a cancel, and one that has ended is not, whoever asks', async (t) => {
  let refusals = 1;
  const { tasks, runs, undone, cancel, stateOf, begun } = await bench(t, async () => {
    refusals -= 1;
    if (refusals >= 0) throw new Fault('STORAGE_UNAVAILABLE', 'The scratch directory cannot be removed');
  });
  await begun('r1');
  await cancel('r1');
  await until('it is stuck', async () => (await stateOf('r1')) === 'STUCK');
  assert.equal(await cancel('r1'), 'UNWINDING');
  await until('it is undone', async () => (await stateOf('r1')) === 'CANCELLED');
  assert.deepEqual(undone, ['r1 RESTORE_BASE', 'r1 RESERVE']);
  await begun('r2');
  const before = runs.filter((id) => id === 'r1').length;
  tasks.resume('r1');
  await cancel('r2');
  await until('the other is cancelled', async () => (await stateOf('r2')) === 'CANCELLED');
  assert.equal(runs.filter((id) => id === 'r1').length, before);
});
