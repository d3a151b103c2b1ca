/** Backups that stand on others: taken from the archive, planned with where that is cheaper, exact, and kept together. */
import assert from 'node:assert/strict';
import { renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import {
  type BackupAnswer,
  backupEnded,
  beginBackup,
  createInstance,
  deleteInstance,
  fileOf,
  instance,
  plan,
  recover,
  recoveryEnded,
  recoveryIs,
  takeBackup,
} from '../support/apiCalls.js';
import { damages } from '../support/damages.js';
import { seeded, seeds } from '../support/seed.js';
import { GraphqlError, type Service, startService } from '../support/service.js';
import { ask, start } from '../support/sqlitePrograms.js';
import type { Disturbance } from '../support/sweptService.js';
import { committed, contentOf, hashAfter, traces } from '../support/writtenStory.js';

const sweptService = fileURLToPath(new URL('../support/sweptService.js', import.meta.url));

interface Chain {
  id: string;
  file: string;
  logs: string[];
  full: BackupAnswer;
  one: BackupAnswer;
  two: BackupAnswer;
}

/** A full backup, and two that stand on it, each after a program that wrote. */
async function chained(t: TestContext, service: Service): Promise<Chain> {
  const { id, file } = await createInstance(service, 'source');
  await ask(t, 'setup', file);
  const logs = [1, 2, 3].map((writer) => path.join(service.dir, `${id}-${writer}.log`));
  const write = (writer: number) => start(t, 'write', file, logs[writer - 1] ?? '', String(writer), '40', '7').done;
  const full = await takeBackup(service, id);
  await write(1);
  const one = await takeBackup(service, id, 'INCREMENTAL');
  await write(2);
  const two = await takeBackup(service, id, 'INCREMENTAL');
  await write(3);
  await plan(service, id);
  return { id, file, logs, full, one, two };
}

async function recovered(t: TestContext, service: Service, chain: Chain, target: Parameters<typeof recover>[2]) {
  const ended = await recoveryEnded(service, (await recover(service, chain.id, target)).id);
  assert.equal(ended.state, 'SUCCEEDED', JSON.stringify(ended.error));
  const content = await contentOf(t, fileOf(ended.instance?.endpoint));
  assert.equal(content.check, 'ok');
  assert.equal(content.hash, await hashAfter(t, chain.file, content.n, chain.logs), `not the state after ${content.n}`);
  await deleteInstance(service, ended.instance?.id ?? '');
  return { content, plan: ended.plan };
}

const refusal = (code: string) => (error: unknown) => {
  assert.ok(error instanceof GraphqlError);
  assert.equal(error.code, code, error.message);
  assert.ok(error.hint);
  return true;
};

test('a recovery goes by the backups on others where that is cheaper, and is as exact', async (t) => {
  const service = await startService(t);
  const chain = await chained(t, service);
  const { full, one, two } = chain;
  const { backup } = await service.graphql<{ backup: { parent: { id: string }; chain: { id: string }[] } }>(
    'query ($id: ID!) { backup(id: $id) { parent { id } chain { id } } }',
    { id: two.id },
  );
  assert.equal(backup.parent.id, one.id);
  assert.deepEqual(
    backup.chain.map(({ id }) => id),
    [full.id, one.id, two.id],
  );

  const latest = await recovered(t, service, chain, {});
  assert.equal(latest.content.n, committed(chain.logs));
  assert.equal(latest.plan.base.id, full.id);
  assert.deepEqual(
    latest.plan.incrementals.map(({ id }) => id),
    [one.id, two.id],
  );
  // At the very point of a backup no log is needed, and before it that backup does not help.
  const atTwo = await recovered(t, service, chain, { position: two.position ?? '' });
  assert.equal(atTwo.content.n, committed(chain.logs.slice(0, 2)));
  const [generation, ordinal] = (two.position ?? '').split('/');
  const before = await recovered(t, service, chain, { position: `${generation}/${Number(ordinal) - 1}` });
  assert.equal(before.content.n, atTwo.content.n - 1);
  assert.deepEqual(
    before.plan.incrementals.map(({ id }) => id),
    [one.id],
  );

  const differential = await takeBackup(service, chain.id, 'DIFFERENTIAL');
  const byDifferential = await recovered(t, service, chain, {});
  assert.deepEqual(byDifferential.content, latest.content);
  assert.equal(byDifferential.plan.base.id, full.id);
  assert.deepEqual(
    byDifferential.plan.incrementals.map(({ id }) => id),
    [differential.id],
    'one backup with each page once costs less than two and log',
  );
});

test('a backup on another is refused without one, and keeps the other from being deleted', async (t) => {
  const service = await startService(t);
  const { id, file } = await createInstance(service, 'bare');
  await ask(t, 'setup', file);
  await assert.rejects(beginBackup(service, id, 'INCREMENTAL'), refusal('NO_BACKUP'));
  await assert.rejects(beginBackup(service, id, 'DIFFERENTIAL'), refusal('NO_BACKUP'));
  assert.deepEqual((await instance(service, id)).backups, []);

  const { full, one, two } = await chained(t, service);
  const remove = (backup: BackupAnswer) =>
    service.graphql('mutation ($id: ID!) { deleteBackup(id: $id) { state } }', { id: backup.id });
  await assert.rejects(remove(full), refusal('BACKUP_IN_USE'));
  await assert.rejects(remove(one), refusal('BACKUP_IN_USE'));
  for (const backup of [two, one, full]) {
    assert.deepEqual(await remove(backup), { deleteBackup: { state: 'DELETED' } });
  }
});

test('whatever happens to one is named, and the next recovery does without it', { timeout: 240_000 }, async (t) => {
  const service = await startService(t);
  const random = seeded(seeds(t).at(-1) ?? 1);
  const chain = await chained(t, service);
  const expected = committed(chain.logs);
  for (const object of ['manifest', 'parts/00000000']) {
    for (const [what, damage] of Object.entries(damages)) {
      await t.test(`${object}: ${what}`, async () => {
        const { id } = await takeBackup(service, chain.id, 'DIFFERENTIAL');
        const key = `instances/${chain.id}/backups/${id}/${object}`;
        const before = traces(service);
        damage(path.join(service.home, 'storage', key), random);
        const asked = await recover(service, chain.id);
        assert.deepEqual(
          asked.plan.incrementals.map((each) => each.id),
          [id],
        );
        const ended = await recoveryEnded(service, asked.id);
        assert.equal(ended.state, 'FAILED');
        assert.equal(ended.error?.code, 'BACKUP_CORRUPT', JSON.stringify(ended.error));
        assert.equal(ended.error.details?.object, key);
        assert.ok(ended.error.hint);
        assert.equal(ended.instance, null);
        assert.deepEqual(traces(service), before);
        assert.equal((await backupEnded(service, id)).state, 'FAILED');
      });
    }
  }
  const again = await recovered(t, service, chain, {});
  assert.equal(again.content.n, expected);
  assert.deepEqual(
    again.plan.incrementals.map(({ id }) => id),
    [chain.one.id, chain.two.id],
  );
});

test('killed between any two of its steps, a recovery by a chain goes on and is exact', {
  timeout: 120_000,
}, async (t) => {
  const service = await startService(t, { entry: sweptService });
  const chain = await chained(t, service);
  const file = path.join(service.dir, 'disturb.json');
  const disturb = (...list: Disturbance[]) => {
    // The service reads it whenever it likes.
    writeFileSync(`${file}.new`, JSON.stringify(list));
    renameSync(`${file}.new`, file);
  };
  for (const step of ['REPLAY_LOG', 'APPLY_INCREMENTALS', 'RESTORE_BASE'] as const) {
    // Held until the call is answered.
    disturb({ step: 'RESERVE', act: 'hold' });
    const { id } = await recover(service, chain.id);
    disturb({ step, act: 'kill after' });
    await service.gone();
    disturb();
    await service.start();
    const ended = await recoveryIs(service, id, ({ state }) => ['SUCCEEDED', 'FAILED', 'STUCK'].includes(state));
    assert.equal(ended.state, 'SUCCEEDED', JSON.stringify(ended.error));
    assert.equal((await contentOf(t, fileOf(ended.instance?.endpoint))).n, committed(chain.logs));
    await deleteInstance(service, ended.instance?.id ?? '');
  }
});
