/**
 * The whole service over a storage that is really full, or gone: told on the instance, harmless to the application, healed by
 * its return alone, and what was lost meanwhile is a gap with exact ends.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdir, rename, rm, symlink } from 'node:fs/promises';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { tinyDisk } from '../storage/tinyDisk.js';
import { createInstance, fileOf, instance, plan, recover, recoveryEnded, takeBackup } from '../support/apiCalls.js';
import { momentBetween } from '../support/honestGap.js';
import { scratchDir } from '../support/scratch.js';
import { startService } from '../support/service.js';
import { ask, until } from '../support/sqlitePrograms.js';
import { assertToldGap } from '../support/toldGap.js';

const disk = tinyDisk();

/** Puts a storage at a place; answers with what makes it unusable and with what heals it. */
type Trouble = (t: TestContext, storage: string) => Promise<{ begin(): Promise<void>; end(): Promise<void> }>;

const troubles: { what: string; skip: string | false; trouble: Trouble }[] = [
  {
    what: 'without room',
    skip: disk.skip,
    async trouble(t, storage) {
      const mounted = await disk.mount(t);
      await symlink(mounted, storage);
      return {
        // What is written fills it.
        begin: async () => {},
        async end() {
          const grown = spawnSync('mount', ['-o', 'remount,size=256m', mounted], { encoding: 'utf8' });
          assert.equal(grown.status, 0, grown.stderr);
        },
      };
    },
  },
  {
    what: 'that is gone',
    skip: false,
    async trouble(_t, storage) {
      const away = `${storage}.away`;
      return {
        begin: () => rename(storage, away),
        async end() {
          await rm(storage, { recursive: true, force: true });
          await rename(away, storage);
        },
      };
    },
  },
];

for (const { what, skip, trouble } of troubles) {
  test(`a storage ${what} turns the instance red, and its return alone heals it`, {
    skip,
    timeout: 240_000,
  }, async (t) => {
    const dir = await scratchDir(t);
    await mkdir(path.join(dir, 'home'));
    const { begin, end } = await trouble(t, path.join(dir, 'home/storage'));
    const service = await startService(t, { dir, env: { PITR_RETAINED_LOG_MIB: '16' } });
    const { id, file } = await createInstance(service, 'source');
    /** When each row was begun and acknowledged, as far as whole milliseconds tell: not later and not earlier. */
    const written: { begun: number; acknowledged: number }[] = [];
    const write = async (bytes: number) => {
      const begun = Date.now();
      await ask(t, 'run', file, `INSERT INTO t VALUES (randomblob(${bytes}))`);
      written.push({ begun, acknowledged: Date.now() + 1 });
    };
    const rows = async (of: string) => {
      const [[check], found] = await ask<[[{ integrity_check: string }], object[]]>(
        t,
        'run',
        of,
        'PRAGMA integrity_check(1)',
        'SELECT rowid, length(a), hex(substr(a, 1, 32)) FROM t ORDER BY rowid',
      );
      assert.equal(check.integrity_check, 'ok');
      return found;
    };
    const recovered = async (target: { pointInTime?: string; position?: string }) => {
      const ended = await recoveryEnded(service, (await recover(service, id, target)).id);
      assert.equal(ended.state, 'SUCCEEDED', JSON.stringify(ended.error));
      return rows(fileOf(ended.instance?.endpoint));
    };
    await ask(t, 'run', file, 'CREATE TABLE t (a)');
    await write(1);
    await takeBackup(service, id);
    await begin();
    for (let i = 0; i < 30; i++) await write(1_000_000);
    await until('it is told', async () =>
      /does not take the log.*let go of the database/.test((await instance(service, id)).logArchive.message ?? ''),
    );
    const from = await momentBetween();
    assert.equal((await instance(service, id)).logArchive.healthy, false);
    // Nothing protects the log of the database any more, so that it can be emptied, and then something of it is lost.
    await write(2);
    await ask(t, 'run', file, 'PRAGMA wal_checkpoint(TRUNCATE)');
    const to = await momentBetween();
    await end();
    await until('it is healthy', async () => (await instance(service, id)).logArchive.healthy, 90);
    await until(
      'a full backup was taken by itself',
      async () => (await instance(service, id)).backups.filter(({ state }) => state === 'COMPLETED').length === 2,
      60,
    );
    const { before, after } = await assertToldGap(service, id, [
      new Date(from / 1000).toISOString(),
      new Date(to / 1000).toISOString(),
    ]);
    const whole = await rows(file);
    assert.equal(whole.length, written.length);
    // At the last instant nothing is there that was begun later …
    const ends = Date.parse(before.to);
    const last = await recovered({ pointInTime: before.to });
    assert.deepEqual(last, whole.slice(0, last.length));
    assert.ok(last.length > 1, 'what was captured before it let go is lost');
    assert.ok((written[last.length - 1]?.begun ?? Number.POSITIVE_INFINITY) <= ends, 'a row of after the end');
    // … and by position all can be had that was acknowledged before.
    let { cut } = await plan(service, id, { pointInTime: before.to });
    for (let next = cut; next; ) {
      cut = next;
      const [generation, ordinal] = cut.split('/').map(Number) as [number, number];
      next = (await plan(service, id, { position: `${generation}/${ordinal + 1}` })).cut;
    }
    const kept = await recovered({ position: cut ?? '' });
    assert.deepEqual(kept, whole.slice(0, kept.length));
    assert.ok(kept.length < whole.length, 'nothing was lost');
    const missing = written.slice(kept.length);
    assert.ok(
      missing.every(({ acknowledged }) => acknowledged > ends),
      'a row of before the end is lost',
    );
    assert.deepEqual(await recovered({ pointInTime: after.from }), whole);
    await service.stop();
  });
}
