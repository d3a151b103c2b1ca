/** Backups: orders, pages and the few questions that planning asks of them. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Catalog } from '../../src/catalog/records.js';
import type { BackupState } from '../../src/model.js';
import { aBackup, anInstance, aStretch, at, completion, scratchCatalog } from './examples.js';

const ids = (records: { id: string }[]) => records.map(({ id }) => id);

/** Two instances with a stretch each. */
async function twoInstances(catalog: Catalog): Promise<void> {
  await catalog.write(async (writer) => {
    for (const name of ['1', '2']) {
      await writer.insertInstance(anInstance({ id: `i${name}` }));
      await writer.insertStretch(aStretch({ id: `s${name}`, instanceId: `i${name}` }));
    }
  });
}

const unknown = { code: 'INVALID_ARGUMENT', details: { argument: 'after' } };

describe('backups', () => {
  test('come back as they were written and changed', async (t) => {
    const { catalog } = await scratchCatalog(t);
    await twoInstances(catalog);
    const running = aBackup({ id: 'b', instanceId: 'i1' });
    const asWritten = structuredClone(running);
    await catalog.write((writer) => writer.insertBackup(running));
    assert.deepEqual(running, asWritten);
    assert.deepEqual(await catalog.read.backup('b'), asWritten);

    await catalog.write((writer) => writer.updateBackup('b', { percent: 12.5 }));
    assert.deepEqual(await catalog.read.backup('b'), { ...asWritten, percent: 12.5 });

    await catalog.write((writer) => writer.updateBackup('b', completion('s1', at(5))));
    const completed = { ...asWritten, ...completion('s1', at(5)) };
    assert.deepEqual(await catalog.read.backup('b'), completed);

    // A deleted backup's objects are gone, its row is not.
    await catalog.write((writer) => writer.updateBackup('b', { state: 'DELETED', manifest: null }));
    assert.deepEqual(await catalog.read.backupsByIds(['b', 'c']), [{ ...completed, state: 'DELETED', manifest: null }]);
    assert.equal(await catalog.read.backup('c'), null);
    await assert.rejects(
      catalog.write((writer) => writer.updateBackup('c', { percent: 1 })),
      /no Backup c/,
    );
  });

  test('keep the fault of a failed one', async (t) => {
    const { catalog } = await scratchCatalog(t);
    await twoInstances(catalog);
    const error = { code: 'STORAGE_FULL', message: 'm', hint: null, retryable: true, details: { free: 0 } } as const;
    const failed = aBackup({ id: 'b', instanceId: 'i1', state: 'FAILED', error, completedAt: at(1) });
    await catalog.write((writer) => writer.insertBackup(failed));
    assert.deepEqual(await catalog.read.backup('b'), failed);
  });

  test('are listed newest first by (startedAt, id), filtered by state and consistentAt', async (t) => {
    const { catalog } = await scratchCatalog(t);
    await twoInstances(catalog);
    await catalog.write(async (writer) => {
      await writer.insertBackup(aBackup({ id: 'a', instanceId: 'i1', ...completion('s1', at(30)), startedAt: at(1) }));
      await writer.insertBackup(aBackup({ id: 'b', instanceId: 'i1', ...completion('s1', at(20)), startedAt: at(2) }));
      await writer.insertBackup(aBackup({ id: 'c', instanceId: 'i1', ...completion('s1', at(10)), startedAt: at(2) }));
      await writer.insertBackup(aBackup({ id: 'd', instanceId: 'i1', startedAt: at(3) }));
      await writer.insertBackup(aBackup({ id: 'e', instanceId: 'i2', ...completion('s2', at(10)), startedAt: at(4) }));
    });
    const list = async (states: BackupState[], before: number | null, first = 50, after: string | null = null) =>
      ids(
        await catalog.read.backups(
          { instanceId: 'i1', states, before: before === null ? null : at(before) },
          { first, after },
        ),
      );
    assert.deepEqual(await list(['RUNNING', 'COMPLETED'], null), ['d', 'c', 'b', 'a']);
    assert.deepEqual(await list(['COMPLETED'], null), ['c', 'b', 'a']);
    assert.deepEqual(await list([], null), []);
    assert.deepEqual(await list(['RUNNING', 'COMPLETED'], 20), ['c', 'b'], 'the bound is included, null left out');
    assert.deepEqual(await list(['RUNNING', 'COMPLETED'], 19), ['c']);
    assert.deepEqual(await list(['COMPLETED'], null, 1, 'c'), ['b']);
    assert.deepEqual(await list(['COMPLETED'], null, 2, 'd'), ['c', 'b'], 'after one that the filter leaves out');
    assert.deepEqual(await list(['COMPLETED'], null, 2, 'a'), []);
    await assert.rejects(list(['COMPLETED'], null, 2, 'e'), unknown, "another instance's backup is unknown");
    assert.deepEqual(await list(['COMPLETED'], null, 0), []);
  });

  test('of a whole tenant are listed newest first by id, deleted instances too, other tenants never', async (t) => {
    const { catalog } = await scratchCatalog(t);
    await twoInstances(catalog);
    await catalog.write(async (writer) => {
      await writer.insertInstance(anInstance({ id: 'i3', tenantId: 'other' }));
      await writer.insertBackup(aBackup({ id: 'a', instanceId: 'i1', startedAt: at(9) }));
      await writer.insertBackup(aBackup({ id: 'b', instanceId: 'i2', ...completion('s2', at(5)) }));
      await writer.insertBackup(aBackup({ id: 'c', instanceId: 'i3' }));
      await writer.insertBackup(aBackup({ id: 'd', instanceId: 'i1', ...completion('s1', at(5)), state: 'DELETED' }));
      await writer.insertBackup(aBackup({ id: 'e', instanceId: 'i1', ...completion('s1', at(5)) }));
      await writer.updateInstance('i2', { state: 'DELETED', deletedAt: at(6), endpoint: null, identity: null });
    });
    const list = async (states: BackupState[], first = 50, after: string | null = null) =>
      ids(await catalog.read.backupsOfTenant({ tenantId: 'tenant', states }, { first, after }));
    assert.deepEqual(await list(['RUNNING', 'COMPLETED']), ['e', 'b', 'a']);
    assert.deepEqual(await list(['COMPLETED', 'DELETED']), ['e', 'd', 'b']);
    assert.deepEqual(await list([]), []);
    assert.deepEqual(await list(['RUNNING', 'COMPLETED'], 1), ['e']);
    assert.deepEqual(await list(['RUNNING', 'COMPLETED'], 2, 'e'), ['b', 'a']);
    assert.deepEqual(await list(['RUNNING', 'COMPLETED'], 2, 'a'), []);
    assert.deepEqual(await list(['RUNNING', 'COMPLETED'], 0), []);
  });

  test('the newest of those made of others, whatever became of it', async (t) => {
    const { catalog } = await scratchCatalog(t);
    await twoInstances(catalog);
    const newest = async (instanceId: string) => (await catalog.read.newestMadeOfAnother(instanceId))?.id ?? null;
    await catalog.write(async (writer) => {
      await writer.insertBackup(aBackup({ id: 'a', instanceId: 'i1', ...completion('s1'), startedAt: at(9) }));
      await writer.insertBackup(aBackup({ id: 'x', instanceId: 'i2', ...completion('s2'), startedAt: at(9) }));
    });
    assert.equal(await newest('i1'), null);
    const error = { code: 'INTERNAL' as const, message: '', hint: null, retryable: false, details: {} };
    await catalog.write(async (writer) => {
      const made = { instanceId: 'i1', madeFromId: 'a' };
      await writer.insertBackup(aBackup({ id: 'c', ...made, ...completion('s1'), startedAt: at(1) }));
      await writer.insertBackup(aBackup({ id: 'b', ...made, state: 'FAILED', error, startedAt: at(2) }));
    });
    assert.equal(await newest('i1'), 'b');
    assert.equal(await newest('i2'), null);
    assert.equal((await catalog.read.backup('b'))?.madeFromId, 'a');
  });

  test('starting points are the COMPLETED ones, the closest first', async (t) => {
    const { catalog } = await scratchCatalog(t);
    await twoInstances(catalog);
    await catalog.write(async (writer) => {
      // Started in the opposite order of their consistent points.
      await writer.insertBackup(aBackup({ id: 'a', instanceId: 'i1', ...completion('s1', at(30)), startedAt: at(1) }));
      await writer.insertBackup(aBackup({ id: 'b', instanceId: 'i1', ...completion('s1', at(20)), startedAt: at(2) }));
      await writer.insertBackup(aBackup({ id: 'c', instanceId: 'i1', ...completion('s1', at(20)), startedAt: at(3) }));
      await writer.insertBackup(aBackup({ id: 'd', instanceId: 'i1', startedAt: at(4) }));
      await writer.insertBackup(aBackup({ id: 'e', instanceId: 'i2', ...completion('s2', at(5)) }));
    });
    const points = async (before: number | null, first = 50, after: string | null = null) =>
      ids(
        await catalog.read.startingPoints(
          { instanceId: 'i1', before: before === null ? null : at(before) },
          { first, after },
        ),
      );
    assert.deepEqual(await points(null), ['a', 'c', 'b']);
    assert.deepEqual(await points(30), ['a', 'c', 'b']);
    assert.deepEqual(await points(29), ['c', 'b']);
    assert.deepEqual(await points(20), ['c', 'b']);
    assert.deepEqual(await points(19), []);
    assert.deepEqual(await points(null, 1, 'a'), ['c']);
    assert.deepEqual(await points(null, 1, 'c'), ['b']);
    assert.deepEqual(await points(null, 1, 'd'), [], 'one without a consistent point has no place in the list');
    await assert.rejects(points(null, 1, 'e'), unknown);

    // A reader that pages on after the last one seen was deleted goes on where it was.
    await catalog.write((writer) => writer.updateBackup('a', { state: 'DELETED' }));
    assert.deepEqual(await points(null, 2, 'a'), ['c', 'b']);
  });

  test('tell where recoveries can start, full ones only', async (t) => {
    const { catalog } = await scratchCatalog(t);
    await twoInstances(catalog);
    await catalog.write(async (writer) => {
      await writer.insertStretch(aStretch({ id: 's1b', instanceId: 'i1', number: 2 }));
      await writer.insertBackup(aBackup({ id: 'a', instanceId: 'i1', ...completion('s1', at(30)) }));
      await writer.insertBackup(aBackup({ id: 'b', instanceId: 'i1', ...completion('s1', at(20)) }));
      await writer.insertBackup(aBackup({ id: 'c', instanceId: 'i1', ...completion('s1', at(10)), state: 'DELETED' }));
      await writer.insertBackup(aBackup({ id: 'd', instanceId: 'i1', ...completion('s1b', at(40)) }));
      await writer.insertBackup(aBackup({ id: 'e', instanceId: 'i2', ...completion('s2', at(5)) }));
      await writer.insertBackup(aBackup({ id: 'f', instanceId: 'i2' }));
    });
    const points = async (instances: string[]) => {
      const found = await catalog.read.backupPoints(instances);
      return found.map(({ backupId, instanceId, stretchId, consistentAt }) => [
        backupId,
        instanceId,
        stretchId,
        consistentAt,
      ]);
    };
    const ofFirst = [
      ['a', 'i1', 's1', at(30)],
      ['b', 'i1', 's1', at(20)],
      ['d', 'i1', 's1b', at(40)],
    ];
    assert.deepEqual((await points(['i1'])).sort(), ofFirst);
    assert.deepEqual((await points(['i1', 'i2'])).sort(), [...ofFirst, ['e', 'i2', 's2', at(5)]]);
    assert.deepEqual(await points([]), []);
    assert.deepEqual(ids(await catalog.read.backupsInStates(['RUNNING', 'DELETED'])), ['c', 'f']);
  });
});
