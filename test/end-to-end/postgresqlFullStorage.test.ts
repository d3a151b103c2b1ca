/** A storage that is really full while a PostgreSQL server is written to: the server goes on, its disk does not fill. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdir, symlink } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { tinyDisk } from '../storage/tinyDisk.js';
import { backUp, column, instance, plan, recover, register, remove } from '../support/postgresql/postgresCalls.js';
import { PostgresRig, withoutPostgresql } from '../support/postgresql/postgresRig.js';
import { scratchDir } from '../support/scratch.js';
import { startService } from '../support/service.js';
import { until } from '../support/sqlitePrograms.js';

const disk = tinyDisk();

test('a full storage makes capture let go of the server past the cap, and room alone heals it', {
  skip: withoutPostgresql || disk.skip,
  timeout: 240_000,
}, async (t) => {
  const rig = await PostgresRig.start(await scratchDir(t), {
    autovacuum: 'off',
    wal_keep_size: '0',
    min_wal_size: '32MB',
    max_wal_size: '64MB',
  });
  try {
    const uri = rig.instance.connectionUri;
    await column(uri, 'create table entry (number serial primary key, filler text)');
    const storage = await disk.mount(t, '48m');
    const dir = await scratchDir(t);
    await mkdir(path.join(dir, 'home'));
    await symlink(storage, path.join(dir, 'home/storage'));
    const service = await startService(t, { dir, env: { PITR_RETAINED_LOG_MIB: '16' } });
    const { id } = await register(service, 'orders', uri);
    await backUp(service, id);
    // About 7 MB of log that does not compress well; it is acknowledged whatever becomes of the archive.
    const write = () =>
      column(uri, 'insert into entry (filler) select md5(random()::text) from generate_series(1, 60000)');
    const slots = async () => (await column(uri, 'select slot_name from pg_replication_slots')).length;
    for (let i = 0; i < 16; i++) await write();
    await until('it is told', async () =>
      /takes no log.*let go of the source/.test((await instance(service, id)).logArchive.message ?? ''),
    );
    assert.equal((await instance(service, id)).logArchive.healthy, false);
    await until('no slot keeps log', async () => (await slots()) === 0);
    for (let i = 0; i < 6; i++) {
      await write();
      await column(uri, 'checkpoint');
    }
    const [kept] = await column(uri, 'select sum(size)::int from pg_ls_waldir()');
    assert.ok(Number(kept) <= 128 * 2 ** 20, `${kept} bytes of log on the server`);

    const grown = spawnSync('mount', ['-o', 'remount,size=512m', storage], { encoding: 'utf8' });
    assert.equal(grown.status, 0, grown.stderr);
    await until('it is healthy', async () => (await instance(service, id)).logArchive.healthy, 60);
    await until('the present is recoverable again', async () => (await plan(service, id, {})).code === null, 60);
    await until(
      'the gap is told',
      async () => (await instance(service, id)).recoveryWindows.at(-1)?.startsBecause === 'LOG_GAP',
      60,
    );
    const back = await recover(service, id);
    const count = 'select count(*)::int from entry';
    assert.deepEqual(await column(back.connectionUri, count), await column(uri, count));
    await remove(service, back.id);
    assert.equal(await slots(), 1);
    await service.stop();
  } finally {
    await rig.close();
  }
});
