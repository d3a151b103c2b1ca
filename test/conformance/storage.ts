/** What every storage promises, whatever it is made of. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { describe, it, type TestContext } from 'node:test';
import { Fault } from '../../src/errors.js';
import type { Storage } from '../../src/storage/storage.js';

/** @param makeStorage an empty storage of its own for every test; `t.after` clears it away */
export function describeStorage(name: string, makeStorage: (t: TestContext) => Promise<Storage>): void {
  const test = (what: string, work: (storage: Storage, t: TestContext) => Promise<void>) =>
    it(what, async (t) => work(await makeStorage(t), t));

  describe(`storage: ${name}`, () => {
    test('gives back what was put, of any size', async (storage) => {
      for (const size of [0, 1, 65_537, 5 * 1024 * 1024 + 3]) {
        const bytes = randomBytes(size);
        const key = `sizes/${size}`;
        assert.deepEqual(await storage.put(key, inPieces(bytes, 300_001)), { key, bytes: size });
        assert.deepEqual(await storage.stat(key), { key, bytes: size });
        assert.equal(sha256(await fetched(storage, key)), sha256(bytes));
      }
    });

    test('answers null for what is not there', async (storage) => {
      await storage.put('a/b', inPieces(Buffer.from('x')));
      for (const key of ['b', 'a', 'a/c', 'a/b/c']) {
        assert.equal(await storage.get(key), null, key);
        assert.equal(await storage.stat(key), null, key);
      }
    });

    test('replaces an object whole', async (storage) => {
      const before = Buffer.alloc(3_000_000, 1);
      await storage.put('same', inPieces(before));
      const reading = await storage.get('same');
      assert.ok(reading);
      await storage.put('same', inPieces(Buffer.from('after')));
      // One that was opened before may give the old or the new object.
      const seen = Buffer.concat(await reading.toArray());
      assert.ok(seen.equals(before) || seen.equals(Buffer.from('after')), 'a mixture');
      assert.equal((await fetched(storage, 'same')).toString(), 'after');
    });

    test('lists what is under a prefix, and nothing that only looks like it', async (storage) => {
      const keys = ['p/1', 'p/2/3', 'p/2/4', 'p/.hidden/5', 'p2/6', 'q/p/7'];
      for (const key of keys) await storage.put(key, inPieces(Buffer.from(key)));
      assert.deepEqual(await listed(storage, 'p'), ['p/.hidden/5', 'p/1', 'p/2/3', 'p/2/4']);
      assert.deepEqual(await listed(storage, 'p/2'), ['p/2/3', 'p/2/4']);
      assert.deepEqual(await listed(storage, 'p/1'), []);
      assert.deepEqual(await listed(storage, 'nothing/here'), []);
      for await (const { key, bytes } of storage.list('p')) assert.equal(bytes, key.length);
    });

    test('removes one object and leaves its neighbours', async (storage) => {
      for (const key of ['r/1', 'r/2', 'r/s/3']) await storage.put(key, inPieces(Buffer.from('x')));
      await storage.remove('r/s/3');
      await storage.remove('r/1');
      await storage.remove('r/1');
      await storage.remove('never/was');
      assert.equal(await storage.get('r/1'), null);
      assert.deepEqual(await listed(storage, 'r'), ['r/2']);
    });

    test('puts and removes side by side do not disturb each other', async (storage) => {
      // Each removes what it has put, so that what they share is there and gone again all the time.
      const putAndRemove = async (key: string) => {
        for (let round = 0; round < 15; round += 1) {
          await storage.put(key, inPieces(Buffer.from('here')));
          assert.deepEqual(await storage.stat(key), { key, bytes: 4 });
          await storage.remove(key);
          assert.equal(await storage.stat(key), null);
        }
      };
      await Promise.all(['busy/x/1', 'busy/x/2', 'busy/x/y/3', 'busy/x/y/4', 'busy/z/5'].map(putAndRemove));
      assert.deepEqual(await listed(storage, 'busy'), []);
    });

    test('a source that fails leaves nothing and passes its own error on', async (storage) => {
      // It looks like an error of a file system, but not the storage's.
      const own = Object.assign(new Error('the source broke'), { code: 'ENOSPC', syscall: 'write' });
      async function* breaking() {
        yield Buffer.alloc(1_000_000);
        throw own;
      }
      await assert.rejects(storage.put('f/1', breaking()), (error) => error === own);
      assert.equal(await storage.stat('f/1'), null);
      assert.deepEqual(await listed(storage, 'f'), []);
    });

    test('an aborted put rejects with the reason and leaves nothing, even when its source is stuck', async (storage) => {
      const abort = new AbortController();
      const reason = new Error('enough');
      async function* stuck() {
        yield Buffer.alloc(100_000);
        setImmediate(() => abort.abort(reason));
        await new Promise(() => {});
      }
      await assert.rejects(storage.put('a/1', stuck(), abort.signal), (error) => error === reason);
      assert.deepEqual(await listed(storage, 'a'), []);
      await assert.rejects(storage.put('a/2', inPieces(Buffer.from('x')), abort.signal), (error) => error === reason);
      await assert.rejects(storage.get('a/2', abort.signal), (error) => error === reason);
    });

    test('an aborted read ends with an error', async (storage) => {
      await storage.put('long', inPieces(Buffer.alloc(8_000_000)));
      const abort = new AbortController();
      const stream = await storage.get('long', abort.signal);
      assert.ok(stream);
      let bytes = 0;
      await assert.rejects(async () => {
        for await (const chunk of stream) {
          bytes += chunk.length;
          abort.abort();
        }
      });
      assert.ok(bytes < 8_000_000);
    });

    test('refuses names that are none', async (storage) => {
      const names = [
        '',
        '/',
        '/a',
        'a/',
        'a//b',
        '.',
        '..',
        'a/..',
        '../a',
        'a/./b',
        'ä',
        'a b',
        'a\n',
        'a\0',
        'a\\b',
        '%2e',
      ];
      for (const key of [...names, 'x'.repeat(513), `${'seg/'.repeat(128)}x`]) {
        const refused = (error: unknown) =>
          error instanceof Fault && error.code === 'INVALID_ARGUMENT' && error.details.argument === 'key';
        await assert.rejects(storage.put(key, inPieces(Buffer.from('x'))), refused, key);
        await assert.rejects(storage.get(key), refused, key);
        await assert.rejects(storage.stat(key), refused, key);
        await assert.rejects(storage.remove(key), refused, key);
        await assert.rejects(listed(storage, key), refused, key);
      }
      const longest = `${'seg/'.repeat(127)}abcd`;
      await storage.put(longest, inPieces(Buffer.from('x')));
      assert.equal((await fetched(storage, longest)).toString(), 'x');
    });

    test('sweep keeps every object', async (storage) => {
      await storage.put('kept/1', inPieces(Buffer.from('x')));
      await storage.sweep();
      assert.deepEqual(await listed(storage, 'kept'), ['kept/1']);
    });

    test('its address is a URI without credentials', async (storage) => {
      const { username, password } = new URL(storage.uri);
      assert.equal(username + password, '');
    });
  });
}

async function* inPieces(bytes: Buffer, size = 64 * 1024): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

async function fetched(storage: Storage, key: string): Promise<Buffer> {
  const stream = await storage.get(key);
  assert.ok(stream, `${key} is not there`);
  return Buffer.concat(await stream.toArray());
}

async function listed(storage: Storage, prefix: string): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of storage.list(prefix)) keys.push(key);
  return keys.sort();
}

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}
