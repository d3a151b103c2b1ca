/** Storage in a directory: the common promises, and those about files, crashes and full disks. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, readdir, readlink, rename, rm, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { FaultCode } from '../../src/errors.js';
import { Fault } from '../../src/errors.js';
import { fileFault } from '../../src/storage/fileFaults.js';
import { FileStorage } from '../../src/storage/fileStorage.js';
import { ObjectPipeline } from '../../src/storage/pipeline.js';
import { describeStorage } from '../conformance/storage.js';
import { scratchDir } from '../support/scratch.js';
import { tinyDisk } from './tinyDisk.js';

describeStorage('files', async (t) => FileStorage.open(await scratchDir(t)));

describe('storage in files', () => {
  it('has a properly encoded address', async (t) => {
    const dir = path.join(await scratchDir(t), 'a b%#?ü');
    const storage = await FileStorage.open(dir);
    assert.match(storage.uri, /^file:\/\/\/.*\/a%20b%25%23%3F%C3%BC$/);
    assert.equal(fileURLToPath(storage.uri), dir);
    await assert.rejects(FileStorage.open('relative'), isFault('INVALID_ARGUMENT'));
  });

  it('keeps everything to its own user', async (t) => {
    const dir = path.join(await scratchDir(t), 'new');
    const storage = await FileStorage.open(dir);
    await storage.put('a/b', one('x'));
    const modes = await Promise.all(
      ['', '.incoming', 'a', 'a/b'].map(async (name) => (await stat(`${dir}/${name}`)).mode),
    );
    assert.deepEqual(
      modes.map((mode) => (mode & 0o777).toString(8)),
      ['700', '700', '700', '600'],
    );
  });

  it('leaves no empty directory behind, nor its own', async (t) => {
    const dir = await scratchDir(t);
    const storage = await FileStorage.open(dir);
    await storage.put('a/b/c/1', one('x'));
    await storage.put('a/2', one('x'));
    await storage.remove('a/b/c/1');
    assert.deepEqual(await readdir(`${dir}/a`), ['2']);
    await storage.remove('a/2');
    assert.deepEqual(await readdir(dir), ['.incoming']);
  });

  it('never lists or touches what is still being written', async (t) => {
    const storage = await FileStorage.open(await scratchDir(t));
    for (const key of ['.incoming', '.incoming/x']) {
      await assert.rejects(storage.put(key, one('x')), isFault('INVALID_ARGUMENT'));
      await assert.rejects(storage.list(key)[Symbol.asyncIterator]().next(), isFault('INVALID_ARGUMENT'));
    }
  });

  it('refuses a name that is the beginning of another', async (t) => {
    const dir = await scratchDir(t);
    const storage = await FileStorage.open(dir);
    await storage.put('a/b', one('first'));
    await assert.rejects(storage.put('a', one('x')), isFault('INVALID_ARGUMENT'));
    await assert.rejects(storage.put('a/b/c', one('x')), isFault('INVALID_ARGUMENT'));
    await assert.rejects(storage.put('a/b/c/d', one('x')), isFault('INVALID_ARGUMENT'));
    await assert.rejects(storage.put(`a/${'n'.repeat(300)}`, one('x')), isFault('INVALID_ARGUMENT'));
    await storage.remove('a');
    assert.deepEqual(await storage.stat('a/b'), { key: 'a/b', bytes: 5 });
    assert.deepEqual(await readdir(`${dir}/.incoming`), []);
  });

  it('takes a directory that has gone away for trouble, not for absence', async (t) => {
    const dir = path.join(await scratchDir(t), 'storage');
    const storage = await FileStorage.open(dir);
    await storage.put('a/b', one('x'));
    await rename(dir, `${dir}.away`);
    await mkdir(dir); // as a mount point is without its disk
    for (const work of [
      () => storage.get('a/b'),
      () => storage.stat('a/b'),
      () => storage.remove('a/b'),
      () => storage.put('a/c', one('x')),
      () => storage.list('a')[Symbol.asyncIterator]().next(),
      () => storage.sweep(),
    ]) {
      await assert.rejects(work(), isFault('STORAGE_UNAVAILABLE'));
    }
    assert.deepEqual(await readdir(dir), []);
    await rm(dir, { recursive: true });
    await writeFile(dir, 'a file');
    await assert.rejects(storage.get('a/b'), isFault('STORAGE_UNAVAILABLE'));
    await assert.rejects(FileStorage.open(dir), isFault('STORAGE_UNAVAILABLE'));
  });

  it('takes back what it could not make durable, and no later put of the same object', async (t) => {
    const storage = await FileStorage.open(await scratchDir(t));
    const inside = storage as unknown as { makeDurable(dir: string): Promise<void> };
    const usual = inside.makeDurable;
    for (const later of [false, true]) {
      inside.makeDurable = async () => {
        inside.makeDurable = usual;
        if (later) await storage.put('a/b', one('x'));
        throw Object.assign(new Error('the disk hung'), { code: 'EIO', syscall: 'fsync' });
      };
      await assert.rejects(storage.put('a/b', one('x')), isFault('STORAGE_UNAVAILABLE'));
      const found = await storage.get('a/b');
      found?.destroy();
      assert.equal(found !== null, later);
    }
  });

  it('tells a full disk from a broken one', () => {
    const codes = {
      ENOSPC: 'STORAGE_FULL',
      EDQUOT: 'STORAGE_FULL',
      EIO: 'STORAGE_UNAVAILABLE',
      EACCES: 'STORAGE_UNAVAILABLE',
    };
    for (const [code, expected] of Object.entries({
      ...codes,
      EROFS: 'STORAGE_UNAVAILABLE',
      EMFILE: 'STORAGE_UNAVAILABLE',
    })) {
      const thrown = Object.assign(new Error('from the system'), { code, syscall: 'write' });
      const fault = fileFault(thrown, 'Storing a/b', '/the/storage');
      assert.ok(isFault(expected as FaultCode)(fault));
      assert.ok(fault instanceof Fault && fault.retryable && fault.message === `Storing a/b failed: ${code}`);
    }
  });

  it('lets go of the file when a reader stops early', async (t) => {
    const dir = await scratchDir(t);
    const storage = await FileStorage.open(dir);
    await storage.put('long', one(Buffer.alloc(4_000_000)));
    const stream = await storage.get('long');
    assert.ok(stream);
    for await (const _ of stream) break;
    if (!stream.closed) await once(stream, 'close').catch(() => {}); // the end of the loop counts as an error here
    const links = await Promise.all(
      (await readdir('/proc/self/fd')).map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => '')),
    );
    assert.deepEqual(
      links.filter((link) => link.startsWith(dir)),
      [],
    );
  });

  it('a process killed in the middle of a put leaves nothing listed, and sweep clears the rest', async (t) => {
    const dir = await scratchDir(t);
    const child = spawn(process.execPath, [fileURLToPath(new URL('./slowPut.js', import.meta.url)), dir], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    t.after(() => child.kill('SIGKILL'));
    await once(child.stdout, 'data');
    child.kill('SIGKILL');
    await once(child, 'exit');
    const storage = await FileStorage.open(dir);
    assert.equal(await storage.stat('killed/object'), null);
    assert.equal((await storage.list('killed')[Symbol.asyncIterator]().next()).done, true);
    assert.equal((await readdir(`${dir}/.incoming`)).length, 1, 'it was killed too early or too late');
    await storage.sweep();
    assert.deepEqual(await readdir(`${dir}/.incoming`), []);
  });

  const disk = tinyDisk();
  it('a full disk is said to be full and keeps nothing half', { skip: disk.skip }, async (t) => {
    const dir = await disk.mount(t);
    const storage = await FileStorage.open(dir);
    const pipeline = new ObjectPipeline(storage, { workers: 1 });
    t.after(() => pipeline.close());
    async function* random(bytes: number) {
      for (let left = bytes; left > 0; left -= 65_536) yield randomBytes(65_536);
    }
    const full = (error: unknown) => isFault('STORAGE_FULL')(error) && (error as Fault).retryable;
    await assert.rejects(storage.put('big', random(2 << 20)), full);
    await assert.rejects(pipeline.write('big', random(4 << 20)), full);
    await assert.rejects(pipeline.writeParts('parts', random(4 << 20), { partBytes: 256 * 1024 }), full);
    assert.deepEqual((await readdir(dir, { recursive: true })).sort(), ['.incoming']);
    await storage.put('small', random(512 * 1024));
  });
});

function isFault(code: FaultCode): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof Fault, String(error));
    assert.equal(error.code, code, error.message);
    assert.ok(error.hint || code === 'INVALID_ARGUMENT', 'no hint');
    return true;
  };
}

async function* one(bytes: string | Buffer) {
  yield Buffer.from(bytes);
}
