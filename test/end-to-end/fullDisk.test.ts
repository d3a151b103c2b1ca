/** The disk under PITR_HOME fills up during a backup and during a recovery: both end saying so, and nothing is half there. */
import assert from 'node:assert/strict';
import { readdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { tinyDisk } from '../storage/tinyDisk.js';
import {
  backupEnded,
  beginBackup,
  createInstance,
  fileOf,
  instance,
  plan,
  recover,
  recoveryEnded,
  takeBackup,
} from '../support/apiCalls.js';
import { scratchDir } from '../support/scratch.js';
import { type Service, startService } from '../support/service.js';
import { ask, until } from '../support/sqlitePrograms.js';
import { traces } from '../support/writtenStory.js';

const disk = tinyDisk();
const MIB = 2 ** 20;
const CONTENT = 'SELECT rowid, length(bytes) AS size, hex(substr(bytes, 1, 32)) AS start FROM b ORDER BY rowid';

function fill(service: Service, leaveBytes: number): () => void {
  const filler = path.join(service.dir, 'filler');
  const { bavail, bsize } = statfsSync(service.dir);
  writeFileSync(filler, Buffer.alloc(Math.max(0, bavail * bsize - leaveBytes)));
  return () => rmSync(filler);
}

const blobs = (count: number) =>
  `WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < ${count}) INSERT INTO b SELECT randomblob(100000) FROM c`;

for (const where of ['the base', 'the log'] as const) {
  test(`a full disk, the data in ${where}`, { skip: disk.skip, timeout: 120_000 }, async (t) => {
    const file = path.join(await scratchDir(t), 'elsewhere.db');
    await ask(t, 'run', file, 'PRAGMA journal_mode=WAL', 'CREATE TABLE b (bytes BLOB)');
    if (where === 'the base') await ask(t, 'run', file, blobs(120), 'PRAGMA wal_checkpoint(TRUNCATE)');
    const dir = await disk.mount(t, '96m');
    const service = await startService(t, { dir });
    const { registerInstance } = await service.graphql<{ registerInstance: { id: string } }>(
      'mutation ($uri: String!) { registerInstance(input: { name: "r", datastore: "sqlite", connectionUri: $uri }) { id } }',
      { uri: `sqlite://${file}` },
    );
    const { id } = registerInstance;
    await takeBackup(service, id);
    if (where === 'the log') await ask(t, 'run', file, blobs(120));
    await plan(service, id);
    const before = traces(service);

    const free = fill(service, 5 * MIB);
    const asked = await recover(service, id);
    const ended = await recoveryEnded(service, asked.id);
    assert.equal(ended.state, 'FAILED');
    assert.equal(ended.error?.code, 'STORAGE_FULL', JSON.stringify(ended.error));
    assert.ok(ended.error.hint);
    assert.equal(ended.instance, null);
    assert.deepEqual(traces(service), before);

    if (where === 'the base') {
      const backup = await backupEnded(service, (await beginBackup(service, id)).id);
      assert.equal(backup.state, 'FAILED');
      // Either the storage met the full disk, or the capture, on which the backup leans.
      assert.match(JSON.stringify(backup.error), /STORAGE_FULL|ENOSPC/);
      const left = readdirSync(path.join(service.home, 'storage'), { recursive: true, encoding: 'utf8' });
      assert.deepEqual(
        left.filter((name) => name.includes(backup.id) && /\d{8}$|manifest$/.test(name)),
        [],
      );
    }
    free();
    // The capture met the full disk too.
    await until('capture is healthy again', async () => {
      await plan(service, id);
      return (await instance(service, id)).logArchive.healthy;
    });
    await takeBackup(service, id);
    const again = await recoveryEnded(service, (await recover(service, id)).id);
    assert.equal(again.state, 'SUCCEEDED', JSON.stringify(again.error));
    assert.deepEqual(
      await ask(t, 'run', fileOf(again.instance?.endpoint), CONTENT),
      await ask(t, 'run', file, CONTENT),
    );
  });
}

test('a full scratch alone, met while the log is replayed', { skip: disk.skip, timeout: 60_000 }, async (t) => {
  const service = await startService(t);
  const { id, file } = await createInstance(service, 'source');
  await ask(t, 'run', file, 'CREATE TABLE b (bytes BLOB)');
  await takeBackup(service, id);
  await ask(t, 'run', file, blobs(60));
  await plan(service, id);
  await service.stop();
  const unmount = disk.mountAt(path.join(service.home, 'scratch'), '3m');
  try {
    await service.start();
    const ended = await recoveryEnded(service, (await recover(service, id)).id);
    assert.equal(ended.state, 'FAILED');
    assert.equal(ended.error?.code, 'STORAGE_FULL', JSON.stringify(ended.error));
    assert.equal(ended.steps.find(({ name }) => name === 'REPLAY_LOG')?.attempts, 3, 'a full disk may pass');
    assert.equal((await instance(service, id)).recoveryWindows.length, 1, 'nothing of the archive is lost');
    await service.stop();
  } finally {
    unmount();
  }
  await service.start();
  const again = await recoveryEnded(service, (await recover(service, id)).id);
  assert.equal(again.state, 'SUCCEEDED', JSON.stringify(again.error));
});
