/**
 * The whole service is killed in the middle of things, and told to stop in the middle of a recovery: what it was doing
 * is finished or taken back by its next life, windows stay honest, and no process is left over.
 */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import {
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
import { seeded, seeds } from '../support/seed.js';
import { haveEnded, processesOf, type Service, startService } from '../support/service.js';
import { assertContentsExact, cutOf, microsOf } from '../support/sqliteOracle.js';
import { ask, start, until } from '../support/sqlitePrograms.js';
import { assertExact, contentOf, tellStory } from '../support/writtenStory.js';

const entry = fileURLToPath(new URL('../support/sweptService.js', import.meta.url));
const long = process.env.PITR_TEST_LONG === '1';

/** kill -9 and a new life; proves that nothing outlived the old one. */
async function dieAndReturn(service: Service): Promise<void> {
  const started = service.children();
  await service.kill();
  await haveEnded(started);
  // The tests' own programs use databases under the same directory.
  const others = processesOf(service.home).filter((told) => !told.includes('sqliteProgram'));
  assert.deepEqual(others, []);
  await service.start();
}

function below(dir: string): string[] {
  return existsSync(dir) ? readdirSync(dir, { recursive: true, encoding: 'utf8' }) : [];
}

test('kill -9 in the middle of a backup', { timeout: 60_000 }, async (t) => {
  const service = await startService(t);
  const { id, file } = await createInstance(service, 'large');
  const blobs =
    'WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 96) INSERT INTO b SELECT randomblob(1000000) FROM c';
  await ask(t, 'run', file, 'CREATE TABLE b (bytes BLOB)', blobs, 'PRAGMA wal_checkpoint(PASSIVE)');
  const { id: backupId } = await beginBackup(service, id);
  const objects = path.join(service.home, 'storage/instances', id, 'backups', backupId);
  await until('a part is stored', () => below(objects).some((name) => name.endsWith('00000000')));
  await dieAndReturn(service);

  const ended = await backupEnded(service, backupId);
  assert.equal(ended.state, 'FAILED');
  assert.ok(ended.error?.hint);
  assert.deepEqual(
    below(objects).filter((name) => /\d{8}|manifest/.test(name)),
    [],
    'objects are left',
  );
  assert.deepEqual(readdirSync(path.join(service.home, 'scratch')), []);
  const next = await takeBackup(service, id);
  const recovered = await recover(service, id, { position: next.position ?? '' });
  const { state, error, instance: made } = await recoveryEnded(service, recovered.id);
  assert.equal(state, 'SUCCEEDED', JSON.stringify(error));
  const sum = 'SELECT count(*) AS n, sum(length(bytes)) AS bytes FROM b';
  assert.deepEqual(await ask(t, 'run', fileOf(made?.endpoint), sum), [[{ n: 96, bytes: 96_000_000 }]]);
});

test('kill -9 while an application writes on: every instant in a window is exact', { timeout: 240_000 }, async (t) => {
  const random = seeded(seeds(t).at(-1) ?? 1);
  const service = await startService(t);
  const { id, file } = await createInstance(service, 'busy');
  await ask(t, 'setup', file);
  await takeBackup(service, id);
  const logs = [1, 2].map((writer) => path.join(service.dir, `${writer}.log`));
  const programs = logs.map((log, i) => start(t, 'write', file, log, String(i + 1), long ? '3000' : '600', '11'));
  for (let kill = 0; kill < (long ? 6 : 2); kill += 1) {
    await delay(random() * 500);
    if (kill === 0)
      assert.ok(
        programs.some(({ child }) => child.exitCode === null),
        'nobody writes any more',
      );
    await dieAndReturn(service);
  }
  await Promise.all(programs.map(({ done }) => done));
  await until('the present is covered', async () => {
    await plan(service, id);
    return (await instance(service, id)).recoveryWindows.at(-1)?.endsBecause === 'LATEST_ARCHIVED';
  });

  const { recoveryWindows } = await instance(service, id);
  t.diagnostic(JSON.stringify(recoveryWindows));
  const history = { file, logs };
  const judged: Parameters<typeof assertContentsExact>[1][number][] = [];
  for (const { from, to } of recoveryWindows) {
    const [first, last] = [Date.parse(from), Date.parse(to)];
    // In a window of a millisecond or two there is nothing between its ends that milliseconds could name.
    const count = last - first > 2 ? (long ? 12 : 2) : 0;
    const inside = Array.from({ length: count }, () => first + 1 + random() * (last - first - 1));
    for (const at of [from, to, ...inside.map((ms) => new Date(Math.min(ms, last)).toISOString())]) {
      const asked = await recover(service, id, { pointInTime: at });
      const ended = await recoveryEnded(service, asked.id);
      assert.equal(ended.state, 'SUCCEEDED', JSON.stringify(ended.error));
      const content = await contentOf(t, fileOf(ended.instance?.endpoint));
      judged.push({ cut: cutOf(ended), at: microsOf(at), history, content });
      await deleteInstance(service, ended.instance?.id ?? '');
    }
  }
  await assertContentsExact(t, judged, () => true);
  for (const [i, { to }] of recoveryWindows.slice(0, -1).entries()) {
    const between = Math.floor((Date.parse(to) + Date.parse(recoveryWindows[i + 1]?.from ?? '')) / 2);
    // Between the milliseconds of the two there may be none.
    if (between <= Date.parse(to)) continue;
    const { code } = await plan(service, id, { pointInTime: new Date(between).toISOString() });
    assert.equal(code, 'TARGET_IN_LOG_GAP', `${between} is between two windows`);
  }
  const latest = await recoveryEnded(service, (await recover(service, id)).id);
  assert.deepEqual(await contentOf(t, fileOf(latest.instance?.endpoint)), await contentOf(t, file));
});

test('kill -9 around createInstance and deleteInstance: all of it or none', { timeout: 120_000 }, async (t) => {
  const random = seeded(seeds(t).at(-1) ?? 1);
  const service = await startService(t);
  for (let round = 0; round < (long ? 12 : 3); round += 1) {
    const kept = await createInstance(service, `kept-${round}`);
    await ask(t, 'setup', kept.file);
    await takeBackup(service, kept.id);
    const answers = [createInstance(service, `made-${round}`), deleteInstance(service, kept.id)].map((each) =>
      each.then(
        () => true,
        () => false,
      ),
    );
    await delay(random() * 40);
    await dieAndReturn(service);
    const [, told] = await Promise.all(answers);

    const { instances } = await service.graphql<{
      instances: { id: string; state: string; endpoint: string | null }[];
    }>('{ instances(includeDeleted: true) { id state endpoint } }');
    assert.ok(instances.every(({ state }) => state === 'ACTIVE' || state === 'DELETED'));
    const active = instances.filter(({ state }) => state === 'ACTIVE');
    const homes = () => readdirSync(path.join(service.home, 'instances')).sort();
    const expected = active.map(({ id }) => id).sort();
    // What a deletion left behind is cleared away beside the first requests of the next life.
    await until('the home of what was deleted is gone', () => homes().length <= expected.length);
    assert.deepEqual(homes(), expected);
    assert.ok(active.every(({ endpoint }) => existsSync(fileOf(endpoint))));
    const deleted = instances.find(({ id }) => id === kept.id)?.state === 'DELETED';
    assert.ok(deleted || !told, 'a deletion that was answered is lost');

    const ended = await recoveryEnded(service, (await recover(service, kept.id)).id);
    assert.equal(ended.state, 'SUCCEEDED', 'deleted or not, it can be recovered');
    assert.equal((await contentOf(t, fileOf(ended.instance?.endpoint))).n, 0);
  }
});

test('SIGTERM in the middle of a recovery: the next life goes on with it', { timeout: 60_000 }, async (t) => {
  const service = await startService(t, { entry });
  const story = await tellStory(t, service, 12);
  const hold = path.join(service.dir, 'disturb.json');
  writeFileSync(hold, JSON.stringify([{ step: 'REPLAY_LOG', act: 'hold' }]));
  const asked = await recover(service, story.instanceId, { pointInTime: story.quiet });
  await recoveryIs(service, asked.id, ({ steps }) =>
    steps.some(({ name, state }) => name === 'REPLAY_LOG' && state === 'RUNNING'),
  );
  assert.equal(await service.stop(), 0, 'the service had to be killed');
  assert.deepEqual(processesOf(service.home), []);
  rmSync(hold);
  await service.start();
  const ended = await recoveryEnded(service, asked.id);
  assert.deepEqual(ended.plan, asked.plan);
  assert.equal(ended.steps.find(({ name }) => name === 'RESTORE_BASE')?.attempts, 1, 'what was done is not done again');
  await assertExact(t, story, ended);
});
