/** What callers may rely on: idempotency keys, leases on backups, and instances that are recoverable after their end. */
import assert from 'node:assert/strict';
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import {
  cancel,
  createInstance,
  deleteInstance,
  fileOf,
  instance,
  recover,
  recoveryEnded,
  recoveryIs,
  takeBackup,
} from '../support/apiCalls.js';
import { type GraphqlError, processesOf, startService } from '../support/service.js';
import { ask } from '../support/sqlitePrograms.js';
import { assertExact, contentOf, tellStory } from '../support/writtenStory.js';

const entry = fileURLToPath(new URL('../support/sweptService.js', import.meta.url));

function refused(code: string): (error: GraphqlError) => boolean {
  return (error) => {
    assert.equal(error.code, code);
    assert.ok(error.hint);
    return true;
  };
}

test('a recovery by key, its base, its source, and what becomes of them', { timeout: 120_000 }, async (t) => {
  const service = await startService(t, { entry });
  const story = await tellStory(t, service, 12);
  const target = { pointInTime: story.quiet, idempotencyKey: 'once' };
  const hold = path.join(service.dir, 'disturb.json');
  const deleteBackup = (id: string) =>
    service.graphql('mutation ($id: ID!) { deleteBackup(id: $id) { state } }', { id });

  await t.test('the same key ten times at once is one recovery', async () => {
    writeFileSync(hold, JSON.stringify([{ step: 'RESTORE_BASE', act: 'hold' }]));
    const answers = await Promise.all(Array.from({ length: 10 }, () => recover(service, story.instanceId, target)));
    assert.equal(new Set(answers.map(({ id }) => id)).size, 1);
    const { recoveries } = await service.graphql<{ recoveries: unknown[] }>('{ recoveries { id } }');
    assert.equal(recoveries.length, 1);
  });
  const { id } = await recover(service, story.instanceId, target);

  await t.test('with other arguments it is refused', async () => {
    const other = { idempotencyKey: 'once' };
    await assert.rejects(recover(service, story.instanceId, other), refused('IDEMPOTENCY_CONFLICT'));
  });

  await t.test('a backup that it reads stays', async () => {
    await assert.rejects(deleteBackup(story.bases[1].id), refused('BACKUP_IN_USE'));
    await deleteBackup(story.bases[0].id);
  });

  await t.test('an instance that is being made is not deleted, its source may be', async () => {
    const { instance: target } = await recoveryIs(service, id, ({ steps }) =>
      steps.some(({ name, state }) => name === 'RESTORE_BASE' && state === 'RUNNING'),
    );
    await assert.rejects(deleteInstance(service, target?.id ?? ''), refused('INSTANCE_NOT_READY'));
    // What the story says is compared with the source's file, which goes.
    await deleteInstance(service, story.instanceId);
    assert.equal(existsSync(story.file), false);
    rmSync(hold);
    await assertExact(t, story, await recoveryEnded(service, id));
  });

  await t.test('the same call after a restart is still the same recovery', async () => {
    await service.restart();
    const again = await recover(service, story.instanceId, target);
    assert.equal(again.id, id);
    assert.equal(again.state, 'SUCCEEDED');
    await assert.rejects(
      recover(service, story.instanceId, { idempotencyKey: 'once' }),
      refused('IDEMPOTENCY_CONFLICT'),
    );
  });

  await t.test('a deleted instance is recovered again, and so is a recovered one after its own end', async () => {
    const windows = (await instance(service, story.instanceId)).recoveryWindows;
    assert.equal(windows.at(-1)?.endsBecause, 'SOURCE_DELETED');
    const { id: second } = await recover(service, story.instanceId, { pointInTime: story.quiet });
    const ended = await recoveryEnded(service, second);
    await assertExact(t, story, ended);
    const child = ended.instance?.id ?? '';
    await takeBackup(service, child);
    await deleteInstance(service, child);
    await deleteInstance(service, child);
    assert.equal(existsSync(path.join(service.home, 'instances', child)), false);
    assert.equal((await recoveryEnded(service, second)).instance?.state, 'DELETED');
    const grandchild = await recoveryEnded(service, (await recover(service, child)).id);
    await assertExact(t, story, grandchild);
    await assert.rejects(cancel(service, second), refused('NOT_CANCELLABLE'));
  });
});

test('ids that larger clouds use', { timeout: 60_000 }, async (t) => {
  const service = await startService(t);
  const create = (id: string) =>
    service.graphql<{ createInstance: { endpoint: string } }>(
      'mutation ($id: ID!) { createInstance(input: { id: $id, name: "n", datastore: "sqlite" }) { endpoint } }',
      { id },
    );
  const kept = await createInstance(service, 'kept');
  for (const id of ['.', '..', '_'.repeat(128)]) await assert.rejects(create(id), refused('INVALID_ARGUMENT'));
  assert.ok(existsSync(kept.file), 'an id of dots reached the directories of others');

  for (const id of ['urn:cloud:1', 'urn_ccloud_c1', '...']) {
    const file = fileOf((await create(id)).createInstance.endpoint);
    await ask(t, 'setup', file);
    await takeBackup(service, id);
    const ended = await recoveryEnded(service, (await recover(service, id)).id);
    assert.equal(ended.state, 'SUCCEEDED', JSON.stringify(ended.error));
    assert.deepEqual(await contentOf(t, fileOf(ended.instance?.endpoint)), await contentOf(t, file));
  }
});

test('a registered instance that is changed and deleted at once is let go', { timeout: 60_000 }, async (t) => {
  const service = await startService(t);
  const file = path.join(service.dir, 'theirs.db');
  await ask(t, 'setup', file);
  const uri = `sqlite://${file}`;
  const { registerInstance } = await service.graphql<{ registerInstance: { id: string } }>(
    'mutation ($uri: String!) { registerInstance(input: { name: "r", datastore: "sqlite", connectionUri: $uri }) { id } }',
    { uri },
  );
  const { id } = registerInstance;
  const change = () =>
    service.graphql(
      'mutation ($id: ID!, $uri: String!) { updateInstance(id: $id, input: { connectionUri: $uri }) { id } }',
      {
        id,
        uri,
      },
    );
  assert.notDeepEqual(processesOf(file), [], 'nobody follows its log');
  await Promise.allSettled([change(), deleteInstance(service, id), change(), deleteInstance(service, id), change()]);
  assert.equal((await instance(service, id)).state, 'DELETED');
  assert.deepEqual(processesOf(file), [], 'the database is still held');
  assert.deepEqual(await contentOf(t, file), { ...(await contentOf(t, file)), n: 0, check: 'ok' });
});

test('what is done to a registered database is said in the answer and remembered', { timeout: 60_000 }, async (t) => {
  const service = await startService(t);
  const file = path.join(service.dir, 'theirs.db');
  await ask(t, 'run', file, 'PRAGMA journal_mode=DELETE', 'CREATE TABLE t (a)');
  const { registerInstance } = await service.graphql<{ registerInstance: { id: string; notices: string[] } }>(
    'mutation ($uri: String!) { registerInstance(input: { name: "r", datastore: "sqlite", connectionUri: $uri }) { id notices } }',
    { uri: `sqlite://${file}` },
  );
  assert.ok(registerInstance.notices.some((notice) => /journal mode .* is set to WAL/.test(notice)));
  await service.restart();
  const seen = await service.graphql<{ instance: { notices: string[] } }>(
    'query ($id: ID!) { instance(id: $id) { notices } }',
    { id: registerInstance.id },
  );
  assert.deepEqual(seen.instance.notices, registerInstance.notices);
});
