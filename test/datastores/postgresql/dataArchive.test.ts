/** A data directory as a tar archive: what is in it, what is left out, and that it is unpacked to the same. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { archiveOf, trim } from '../../../src/datastores/postgresql/recovery/dataArchive.js';
import { scratchDir } from '../../support/scratch.js';
import { seeded } from '../../support/seed.js';

const { signal } = new AbortController();

/** Every file and directory with its mode and content. */
function contentsOf(directory: string): [name: string, mode: number, content: string | null][] {
  const entries = readdirSync(directory, { recursive: true, withFileTypes: true });
  return entries
    .map((entry): [string, number, string | null] => {
      const file = path.join(entry.parentPath, entry.name);
      const content = entry.isFile() ? readFileSync(file).toString('base64') : null;
      return [path.relative(directory, file), statSync(file).mode & 0o777, content];
    })
    .sort(([a], [b]) => (a < b ? -1 : 1));
}

async function written(directory: string): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of archiveOf(directory, signal)) chunks.push(chunk);
  return Buffer.concat(chunks);
}

test('tar(1) unpacks it to the same', async (t) => {
  const dir = await scratchDir(t);
  const data = path.join(dir, 'data');
  mkdirSync(path.join(data, 'base/5'), { recursive: true, mode: 0o700 });
  mkdirSync(path.join(data, 'pg_tblspc/16384/PG_15_202209061'), { recursive: true, mode: 0o700 });
  mkdirSync(path.join(data, 'empty'), { mode: 0o750 });
  const random = seeded(7);
  for (const [name, size] of [
    ['PG_VERSION', 3],
    ['base/5/nothing', 0],
    ['base/5/block', 512],
    ['base/5/1259', 8192],
    ['base/5/2619_fsm', 300_001],
    ['pg_tblspc/16384/PG_15_202209061/one', 1],
    ['größe', 10],
    ['a'.repeat(99), 7],
  ] as const) {
    const bytes = Buffer.from(Array.from({ length: size }, () => Math.floor(random() * 256)));
    writeFileSync(path.join(data, name), bytes, { mode: 0o600 });
  }
  chmodSync(path.join(data, 'PG_VERSION'), 0o640);
  const archive = await written(data);
  const unpacked = path.join(dir, 'unpacked');
  await mkdir(unpacked);
  const tar = spawnSync('tar', ['--extract', '--preserve-permissions', '--file=-', `--directory=${unpacked}`], {
    input: archive,
  });
  assert.equal(tar.status, 0, String(tar.stderr));
  assert.deepEqual(contentsOf(unpacked), contentsOf(data));
});

test('what a backup of the server itself would not hold is left out', async (t) => {
  const data = await scratchDir(t);
  const emptied = ['pg_dynshmem', 'pg_notify', 'pg_replslot', 'pg_serial', 'pg_snapshots', 'pg_stat', 'pg_stat_tmp'];
  for (const name of [...emptied, 'pg_subtrans', 'pg_wal', 'pg_wal/archive_status', 'pg_twophase', 'global']) {
    mkdirSync(path.join(data, name));
    writeFileSync(path.join(data, name, 'file'), 'x');
  }
  const gone = ['backup_label.old', 'postmaster.opts', 'recovery.signal', 'postgresql.conf', 'pg_hba.conf'];
  for (const name of [...gone, 'PG_VERSION']) writeFileSync(path.join(data, name), 'x');
  await trim(data);
  const kept = contentsOf(data).map(([name]) => name);
  assert.deepEqual(kept, [
    ...['PG_VERSION', 'global', 'global/file', 'pg_dynshmem', 'pg_notify', 'pg_replslot', 'pg_serial', 'pg_snapshots'],
    ...['pg_stat', 'pg_stat_tmp', 'pg_subtrans', 'pg_twophase', 'pg_twophase/file', 'pg_wal', 'pg_wal/archive_status'],
  ]);
});

test('a link, a name that is too long, and an interruption end it', async (t) => {
  const linked = await scratchDir(t);
  symlinkSync('/etc/passwd', path.join(linked, 'link'));
  await assert.rejects(written(linked), /"link" in the data directory is neither a file nor a directory/);
  const long = await scratchDir(t);
  writeFileSync(path.join(long, 'a'.repeat(100)), '');
  await assert.rejects(written(long), /too long/);
  const interrupt = new AbortController();
  const plain = await scratchDir(t);
  for (const name of ['one', 'two']) writeFileSync(path.join(plain, name), name);
  const reading = archiveOf(plain, interrupt.signal);
  await reading.next();
  interrupt.abort(new Error('stopped by the test'));
  await assert.rejects(async () => {
    for await (const _chunk of reading);
  }, /stopped by the test/);
});
