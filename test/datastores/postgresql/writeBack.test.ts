/** Write-back beside a recovery: every large file, again when it changed, and never a failure that nobody hears of. */
import assert from 'node:assert/strict';
import { mkdir, rm, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, test } from 'node:test';
import { WriteBack } from '../../../src/datastores/postgresql/recovery/writeBack.js';
import { scratchDir } from '../../support/scratch.js';

const LARGE = Buffer.alloc(1024 * 1024, 1);

/** Resolves with the names that were synced once there are so many of them. */
function recorder() {
  const names: string[] = [];
  let wake = () => {};
  return {
    names,
    async sync(file: string): Promise<void> {
      names.push(path.basename(file));
      wake();
    },
    async until(count: number): Promise<void> {
      while (names.length < count) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    },
  };
}

describe('PostgreSQL: write-back beside a recovery', { timeout: 60_000 }, () => {
  test('large files below the directory, and again those that changed', async (t) => {
    const directory = await scratchDir(t);
    await mkdir(path.join(directory, 'base/5'), { recursive: true });
    await writeFile(path.join(directory, 'base/5/large'), LARGE);
    await writeFile(path.join(directory, 'base/5/small'), 'little');
    const seen = recorder();
    const writeBack = new WriteBack(directory, (file) => seen.sync(file));
    await seen.until(1);
    await writeFile(path.join(directory, 'later'), LARGE);
    await seen.until(2);
    const changed = new Date(Date.now() + 5_000);
    await utimes(path.join(directory, 'base/5/large'), changed, changed);
    await seen.until(3);
    await writeBack.stop();
    writeBack.demandWritten();
    assert.deepEqual(seen.names, ['large', 'later', 'large']);
  });

  test('a failure is told at the end, and a file that is gone is none', async (t) => {
    const directory = await scratchDir(t);
    for (const name of ['dropped', 'failing', 'other']) await writeFile(path.join(directory, name), LARGE);
    const seen = recorder();
    const writeBack = new WriteBack(directory, async (file) => {
      await seen.sync(file);
      if (file.endsWith('dropped')) throw Object.assign(new Error('gone'), { code: 'ENOENT' });
      if (file.endsWith('failing') && seen.names.filter((name) => name === 'failing').length === 1) {
        throw Object.assign(new Error('the disk refused'), { code: 'EIO' });
      }
    });
    // Once more in a later round, which the disk takes.
    while (seen.names.filter((name) => name === 'failing').length < 2) await seen.until(seen.names.length + 1);
    await writeBack.stop();
    assert.throws(() => writeBack.demandWritten(), { code: 'INTERNAL', message: /the disk refused/ });
  });

  test('a disk that is full is told as that', async (t) => {
    const directory = await scratchDir(t);
    await writeFile(path.join(directory, 'large'), LARGE);
    const seen = recorder();
    const writeBack = new WriteBack(directory, async (file) => {
      await seen.sync(file);
      throw Object.assign(new Error('no space left'), { code: 'ENOSPC' });
    });
    await seen.until(1);
    await writeBack.stop();
    assert.throws(() => writeBack.demandWritten(), { code: 'STORAGE_FULL' });
  });

  test('it ends where there is nothing, and what it does to real files is no error', async (t) => {
    const directory = await scratchDir(t);
    const nothing = new WriteBack(path.join(directory, 'nowhere'));
    await nothing.stop();
    nothing.demandWritten();
    await writeFile(path.join(directory, 'large'), LARGE);
    const writeBack = new WriteBack(directory);
    await rm(path.join(directory, 'large'));
    await writeBack.stop();
    writeBack.demandWritten();
  });
});
