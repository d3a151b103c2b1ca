/** The whole service over a storage that is really full: told on the instance, harmless to the application, healed by room. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdir, symlink } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { pino } from 'pino';
import { readConfig } from '../../src/config.js';
import { startService } from '../../src/main.js';
import { tinyDisk } from '../storage/tinyDisk.js';
import { scratchDir } from '../support/scratch.js';
import { ask, until } from '../support/sqlitePrograms.js';

const disk = tinyDisk();

interface Archive {
  healthy: boolean;
  message: string | null;
}

test('a storage without room turns the instance red, and room alone heals it', { skip: disk.skip }, async (t) => {
  const storage = await disk.mount(t);
  const home = path.join(await scratchDir(t), 'home');
  await mkdir(home);
  await symlink(storage, path.join(home, 'storage'));
  const config = readConfig({ PITR_HOME: home, PORT: '0', PITR_RETAINED_LOG_MIB: '16' });
  const service = await startService(config, pino({ level: 'silent' }));
  t.after(() => service.stop());
  const graphql = async <T>(query: string): Promise<T> => {
    const response = await fetch(new URL('/graphql', service.url), {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ query }),
    });
    const { data, errors } = (await response.json()) as { data: T; errors?: unknown };
    assert.equal(errors, undefined);
    return data;
  };
  const { createInstance } = await graphql<{ createInstance: { id: string; endpoint: string } }>(
    'mutation { createInstance(input: { name: "full", datastore: "sqlite" }) { id endpoint } }',
  );
  const { id } = createInstance;
  const file = fileURLToPath(createInstance.endpoint.replace(/^sqlite:/, 'file:'));
  await ask(t, 'run', file, 'CREATE TABLE t (a)', 'INSERT INTO t VALUES (1)');
  await graphql(`mutation { takeBackup(instanceId: "${id}") { id } }`);
  const backups = async () =>
    (await graphql<{ backups: { id: string }[] }>(`{ backups(instanceId: "${id}") { id } }`)).backups.length;
  await until('there is a backup', async () => (await backups()) === 1);
  const archive = async () =>
    (
      await graphql<{ instance: { logArchive: Archive } }>(
        `{ instance(id: "${id}") { logArchive { healthy message } } }`,
      )
    ).instance.logArchive;
  for (let i = 0; i < 30; i++) await ask(t, 'run', file, 'INSERT INTO t VALUES (randomblob(1000000))');
  await until('it is told', async () =>
    /does not take the log.*let go of the database/.test((await archive()).message ?? ''),
  );
  assert.equal((await archive()).healthy, false);
  // Nothing protects the log of the database any more, so that it can be emptied, and then something of it is lost.
  await ask(t, 'run', file, 'INSERT INTO t VALUES (2)', 'PRAGMA wal_checkpoint(TRUNCATE)');
  const grown = spawnSync('mount', ['-o', 'remount,size=256m', storage], { encoding: 'utf8' });
  assert.equal(grown.status, 0, grown.stderr);
  await until('it is healthy', async () => (await archive()).healthy, 90);
  await until('a full backup was taken by itself', async () => (await backups()) === 2, 60);
  const { recoveryPlan } = await graphql<{ recoveryPlan: { plan: object | null } }>(
    `{ recoveryPlan(instanceId: "${id}") { plan { closestPointInTime } } }`,
  );
  assert.ok(recoveryPlan.plan);
  await service.stop();
});
