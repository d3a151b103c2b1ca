/** Recoveries: guarded moves, idempotency keys, and steps in the order in which they run. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { recoverySteps } from '../../src/model.js';
import { anInstance, aRecovery, at, pendingSteps, scratchCatalog } from './examples.js';

const ids = (records: { id: string }[]) => records.map(({ id }) => id);

describe('recoveries', () => {
  test('come back as they were written, with their plan and progress', async (t) => {
    const { catalog } = await scratchCatalog(t);
    const record = aRecovery({ id: 'r', sourceId: 'i', idempotencyKey: 'k' });
    const asWritten = structuredClone(record);
    await catalog.write(async (writer) => {
      await writer.insertInstance(anInstance({ id: 'i' }));
      await writer.insertRecovery(record, pendingSteps('r'));
    });
    assert.deepEqual(record, asWritten);
    assert.deepEqual(await catalog.read.recovery('r'), asWritten);
    assert.deepEqual(await catalog.read.recoveriesByIds(['r', 'x']), [asWritten]);
    assert.equal(await catalog.read.recovery('x'), null);

    const progress = {
      sequence: 2 ** 40,
      step: 'REPLAY_LOG',
      percent: 33.3,
      bytesDone: 2 ** 45,
      bytesTotal: 2 ** 46,
      replayedTo: at(7),
      etaSeconds: 12.5,
      message: 'Replaying.',
      at: at(8),
    } as const;
    await catalog.write((writer) => writer.updateRecovery('r', { progress, cancelRequested: true }));
    assert.deepEqual(await catalog.read.recovery('r'), { ...asWritten, progress, cancelRequested: true });
    await assert.rejects(
      catalog.write((writer) => writer.updateRecovery('x', { progress })),
      /no Recovery x/,
    );
  });

  test('move on only from the state that the mover saw', async (t) => {
    const { catalog } = await scratchCatalog(t);
    await catalog.write(async (writer) => {
      await writer.insertInstance(anInstance({ id: 'i' }));
      await writer.insertRecovery(aRecovery({ id: 'r', sourceId: 'i' }), []);
    });
    const claim = () =>
      catalog.write((writer) => writer.moveRecovery('r', 'QUEUED', { state: 'RUNNING', startedAt: at(1) }));
    assert.deepEqual(await Promise.all([claim(), claim()]), [true, false]);
    const cancelled = { state: 'CANCELLED', finishedAt: at(2) } as const;
    assert.equal(await catalog.write((writer) => writer.moveRecovery('r', 'QUEUED', cancelled)), false);
    const after = await catalog.read.recovery('r');
    assert.deepEqual([after?.state, after?.startedAt, after?.finishedAt], ['RUNNING', at(1), null]);
    await assert.rejects(
      catalog.write((writer) => writer.moveRecovery('x', 'QUEUED', cancelled)),
      /no Recovery x/,
    );
  });

  test('an idempotency key is unique within its tenant; many have none', async (t) => {
    const { catalog } = await scratchCatalog(t);
    const insert = (id: string, tenantId: string, idempotencyKey: string | null) =>
      catalog.write((writer) => writer.insertRecovery(aRecovery({ id, sourceId: 'i', tenantId, idempotencyKey }), []));
    await catalog.write((writer) => writer.insertInstance(anInstance({ id: 'i' })));
    await insert('a', 'tenant', 'k');
    await insert('b', 'other', 'k');
    await insert('c', 'tenant', null);
    await insert('d', 'tenant', null);
    await assert.rejects(insert('e', 'tenant', 'k'), /UNIQUE/);
    assert.equal((await catalog.read.recoveryByIdempotencyKey('tenant', 'k'))?.id, 'a');
    assert.equal((await catalog.read.recoveryByIdempotencyKey('other', 'k'))?.id, 'b');
    assert.equal(await catalog.read.recoveryByIdempotencyKey('tenant', 'unknown'), null);
  });

  test('are listed newest first, by tenant, source and state, in pages; and for the task manager oldest first', async (t) => {
    const { catalog } = await scratchCatalog(t);
    await catalog.write(async (writer) => {
      for (const id of ['i', 'j']) await writer.insertInstance(anInstance({ id }));
      await writer.insertRecovery(aRecovery({ id: 'a', sourceId: 'i', createdAt: at(1) }), []);
      await writer.insertRecovery(aRecovery({ id: 'b', sourceId: 'j', createdAt: at(2) }), []);
      await writer.insertRecovery(aRecovery({ id: 'c', sourceId: 'i', createdAt: at(2), state: 'RUNNING' }), []);
      await writer.insertRecovery(aRecovery({ id: 'd', sourceId: 'i', createdAt: at(3), tenantId: 'other' }), []);
    });
    const list = async (some: object, first = 50, after: string | null = null) =>
      ids(
        await catalog.read.recoveries({ tenantId: 'tenant', sourceId: null, states: null, ...some }, { first, after }),
      );
    assert.deepEqual(await list({}), ['c', 'b', 'a']);
    assert.deepEqual(await list({ sourceId: 'i' }), ['c', 'a']);
    assert.deepEqual(await list({ states: ['QUEUED'] }), ['b', 'a']);
    assert.deepEqual(await list({ states: [] }), []);
    assert.deepEqual(await list({}, 1, 'c'), ['b']);
    const unknown = { code: 'INVALID_ARGUMENT', details: { argument: 'after' } };
    await assert.rejects(list({}, 5, 'd'), unknown, "another tenant's id is unknown");
    await assert.rejects(list({}, 5, 'unknown'), unknown);
    assert.deepEqual(ids(await catalog.read.recoveriesInStates(['QUEUED', 'RUNNING'])), ['a', 'b', 'c', 'd']);
    assert.deepEqual(ids(await catalog.read.recoveriesInStates(['QUEUED', 'RUNNING'], 2)), ['a', 'b']);
    assert.deepEqual(ids(await catalog.read.recoveriesInStates(['RUNNING'], 1)), ['c']);
  });

  test('steps come in the order in which they run, and change one by one', async (t) => {
    const { catalog } = await scratchCatalog(t);
    await catalog.write(async (writer) => {
      await writer.insertInstance(anInstance({ id: 'i' }));
      await writer.insertRecovery(aRecovery({ id: 'r2', sourceId: 'i' }), pendingSteps('r2').reverse());
      await writer.insertRecovery(aRecovery({ id: 'r1', sourceId: 'i' }), pendingSteps('r1'));
      const done = { state: 'SUCCEEDED', attempts: 2, startedAt: at(1), finishedAt: at(2), output: { path: '/x' } };
      await writer.updateStep('r1', 'VERIFY', { ...done, state: 'SUCCEEDED' });
    });
    const steps = await catalog.read.steps(['r2', 'r1']);
    assert.deepEqual(
      steps.map((step) => `${step.recoveryId} ${step.name}`),
      ['r1', 'r2'].flatMap((id) => recoverySteps.map((name) => `${id} ${name}`)),
    );
    assert.deepEqual(steps[4], {
      recoveryId: 'r1',
      name: 'VERIFY',
      state: 'SUCCEEDED',
      attempts: 2,
      startedAt: at(1),
      finishedAt: at(2),
      error: null,
      output: { path: '/x' },
    });
    assert.deepEqual(await catalog.read.steps([]), []);
    await assert.rejects(
      catalog.write((writer) => writer.updateStep('x', 'VERIFY', { attempts: 1 })),
      /no Step x VERIFY/,
    );
  });
});
