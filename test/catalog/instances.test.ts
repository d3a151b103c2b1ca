/** Instances: what is written comes back, in the promised order, and never a credential in the file. */
import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, test } from 'node:test';
import { anInstance, aRecovery, at, rawSql, scratchCatalog } from './examples.js';

const ids = (records: { id: string }[]) => records.map(({ id }) => id);

describe('instances', () => {
  test('come back as they were written, large numbers and nested JSON included', async (t) => {
    const { catalog } = await scratchCatalog(t);
    const record = anInstance({
      id: 'i',
      flavor: 'm1',
      volumeSizeGiB: 5000,
      archiveHealthy: false,
      archiveMessage: 'The slot is gone.',
    });
    const asWritten = structuredClone(record);
    await catalog.write((writer) => writer.insertInstance(record));
    assert.deepEqual(await catalog.read.instance('i'), asWritten);
    assert.deepEqual(record, asWritten, 'the caller keeps its record untouched');
    assert.equal(await catalog.read.instance('j'), null);
    assert.deepEqual(await catalog.read.instancesByIds(['i', 'j']), [asWritten]);
    assert.deepEqual(await catalog.read.instancesByIds([]), []);
  });

  test('an update changes what it names and nothing else; undefined is not a value', async (t) => {
    const { catalog } = await scratchCatalog(t);
    const record = anInstance({ id: 'i' });
    await catalog.write(async (writer) => {
      await writer.insertInstance(record);
      await writer.updateInstance('i', { name: 'renamed', flavor: undefined, driverState: { a: 1 } });
      await writer.updateInstance('i', {});
      assert.equal((await writer.instance('i'))?.name, 'renamed', 'a writer sees its own changes');
    });
    assert.deepEqual(await catalog.read.instance('i'), { ...record, name: 'renamed', driverState: { a: 1 } });
    await catalog.write((writer) => writer.updateInstance('i', { connectionUri: 'file:///moved.db' }));
    assert.equal((await catalog.read.instance('i'))?.connectionUri, 'file:///moved.db');
  });

  test('changing or forgetting one that is not there throws', async (t) => {
    const { catalog } = await scratchCatalog(t);
    await assert.rejects(
      catalog.write((writer) => writer.updateInstance('no', { name: 'x' })),
      /no Instance no/,
    );
    await assert.rejects(
      catalog.write((writer) => writer.updateInstance('no', {})),
      /no Instance no/,
    );
    await assert.rejects(
      catalog.write((writer) => writer.deleteInstance('no')),
      /no Instance no/,
    );
  });

  test('are listed newest first, by tenant, in pages', async (t) => {
    const { catalog } = await scratchCatalog(t);
    await catalog.write(async (writer) => {
      await writer.insertInstance(anInstance({ id: 'a', createdAt: at(1) }));
      await writer.insertInstance(anInstance({ id: 'b', createdAt: at(2) }));
      await writer.insertInstance(anInstance({ id: 'c', createdAt: at(2) }));
      await writer.insertInstance(anInstance({ id: 'd', createdAt: at(3) }));
      await writer.updateInstance('d', { state: 'DELETED', deletedAt: at(9), connectionUri: null });
      await writer.insertInstance(anInstance({ id: 'e', createdAt: at(4), tenantId: 'other' }));
    });
    const list = (includeDeleted: boolean, first: number, after: string | null) =>
      catalog.read.instances({ tenantId: 'tenant', includeDeleted }, { first, after });
    assert.deepEqual(ids(await list(true, 50, null)), ['d', 'c', 'b', 'a']);
    assert.deepEqual(ids(await list(false, 50, null)), ['c', 'b', 'a']);
    assert.deepEqual(ids(await list(true, 2, null)), ['d', 'c']);
    assert.deepEqual(ids(await list(true, 2, 'c')), ['b', 'a']);
    assert.deepEqual(ids(await list(false, 2, 'd')), ['c', 'b'], 'after an item that the filter leaves out');
    assert.deepEqual(await list(true, 2, 'a'), []);
    const refused = { code: 'INVALID_ARGUMENT', details: { argument: 'after' } };
    await assert.rejects(list(true, 2, 'unknown'), refused);
    await assert.rejects(list(true, 2, 'e'), refused, "another tenant's id is unknown");
    assert.deepEqual(await list(true, 0, null), []);
  });

  test('are found by state and by identity, deleted ones no longer by identity', async (t) => {
    const { catalog } = await scratchCatalog(t);
    await catalog.write(async (writer) => {
      await writer.insertInstance(anInstance({ id: 'b', identity: 'same', createdAt: at(2) }));
      await writer.insertInstance(anInstance({ id: 'a', tenantId: 'other', state: 'STOPPED' }));
    });
    assert.deepEqual(ids(await catalog.read.instancesInStates(['ACTIVE', 'STOPPED'])), ['a', 'b']);
    assert.deepEqual(ids(await catalog.read.instancesInStates(['STOPPED'])), ['a']);
    assert.deepEqual(await catalog.read.instancesInStates([]), []);
    assert.equal((await catalog.read.instanceByIdentity('sqlite', 'same'))?.id, 'b');
    assert.equal(await catalog.read.instanceByIdentity('postgresql', 'same'), null);

    await assert.rejects(
      catalog.write((writer) => writer.insertInstance(anInstance({ id: 'c', identity: 'same' }))),
      /UNIQUE/,
    );
    await catalog.write(async (writer) => {
      await writer.updateInstance('b', { state: 'DELETED', deletedAt: at(9), connectionUri: null });
      await writer.insertInstance(anInstance({ id: 'c', identity: 'same' }));
    });
    assert.equal((await catalog.read.instanceByIdentity('sqlite', 'same'))?.id, 'c');
  });

  test('one that never came to be is forgotten, the recovery that reserved it is not', async (t) => {
    const { catalog } = await scratchCatalog(t);
    await catalog.write(async (writer) => {
      await writer.insertInstance(anInstance({ id: 'source' }));
      await writer.insertRecovery(aRecovery({ id: 'r', sourceId: 'source' }), []);
      await writer.insertInstance(
        anInstance({
          id: 'target',
          origin: 'RECOVERED',
          state: 'PROVISIONING',
          connectionUri: null,
          identity: null,
          recoveredFromId: 'source',
          createdByRecoveryId: 'r',
        }),
      );
      await writer.updateRecovery('r', { targetId: 'target' });
    });
    await catalog.write((writer) => writer.deleteInstance('target'));
    assert.equal(await catalog.read.instance('target'), null);
    assert.equal((await catalog.read.recovery('r'))?.targetId, null);
    await assert.rejects(
      catalog.write((writer) => writer.deleteInstance('source')),
      /FOREIGN KEY/,
    );
  });
});

test('a connection URI is in no byte of the catalog, nor of its write-ahead log', async (t) => {
  const { catalog, file } = await scratchCatalog(t);
  const connectionUri = 'postgresql://admin:correct-horse-battery@db:5432/orders';
  await catalog.write((writer) => writer.insertInstance(anInstance({ id: 'i', name: 'plain-name', connectionUri })));
  let seen = '';
  for (const name of await readdir(path.dirname(file))) {
    seen += (await readFile(path.join(path.dirname(file), name))).toString('latin1');
  }
  assert.ok(seen.includes('plain-name'), 'the files hold the row');
  assert.ok(!seen.includes('correct-horse') && !seen.includes('admin:') && !seen.includes('db:5432'));
  assert.equal((await catalog.read.instance('i'))?.connectionUri, connectionUri);
});

test('a sealed URI copied to another instance does not open', async (t) => {
  const { catalog, file } = await scratchCatalog(t);
  await catalog.write(async (writer) => {
    await writer.insertInstance(anInstance({ id: 'i' }));
    await writer.insertInstance(anInstance({ id: 'j' }));
  });
  await rawSql(
    file,
    `UPDATE "instances" SET "connectionUri" = (SELECT "connectionUri" FROM "instances" WHERE "id" = 'i') WHERE "id" = 'j'`,
  );
  await assert.rejects(catalog.read.instance('j'), { name: 'Fault', code: 'INTERNAL' });
  assert.equal((await catalog.read.instance('i'))?.id, 'i');
});
