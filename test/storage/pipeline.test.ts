/** The object pipeline over real files: what goes in comes out, in order, whatever the size, or an error says why not. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { readdir, readFile, readlink } from 'node:fs/promises';
import { describe, it, type TestContext } from 'node:test';
import { Worker } from 'node:worker_threads';
import { blake3 } from '@napi-rs/blake-hash';
import { BLOCK_BYTES, MAX_BLOCK_BYTES } from '../../src/blocks/blockFormat.js';
import { packBlock } from '../../src/blocks/packing.js';
import { Fault } from '../../src/errors.js';
import { SMALL_BYTES } from '../../src/storage/objectWriter.js';
import { seeded, seeds } from '../support/seed.js';
import { allOf, inPieces, openPipeline } from './objects.js';

const MiB = 1 << 20;

describe('object pipeline', () => {
  it('gives back every size, noise or text', async (t) => {
    const { pipeline, dir } = await openPipeline(t);
    const sizes = [
      0,
      1,
      SMALL_BYTES,
      SMALL_BYTES + 1,
      BLOCK_BYTES - 1,
      BLOCK_BYTES,
      BLOCK_BYTES + 1,
      MAX_BLOCK_BYTES - 1,
      MAX_BLOCK_BYTES,
      MAX_BLOCK_BYTES + 1,
      5 * MiB + 7,
    ];
    for (const size of sizes) {
      const text = Buffer.alloc(size, 'a text that repeats itself, line after line\n');
      for (const plain of [randomBytes(size), text]) {
        const object = await pipeline.write(`o/${size}`, inPieces(plain, 70_001));
        const stored = await readFile(`${dir}/o/${size}`);
        assert.deepEqual(object, {
          key: `o/${size}`,
          plainBytes: size,
          storedBytes: stored.length,
          sha256: createHash('sha256').update(stored).digest('hex'),
          blake3: blake3(stored).toString('hex'),
        });
        assert.ok((await allOf(pipeline.read(object, 'LOG_CORRUPT'))).equals(plain), `${size} bytes`);
        if (size > 1000) assert.ok(plain === text ? stored.length < size / 10 : stored.length < size + 1000);
      }
    }
  });

  it('does not care in which pieces the bytes come', async (t) => {
    const { pipeline } = await openPipeline(t);
    for (const seed of seeds(t)) {
      const random = seeded(seed);
      const plain = randomBytes(3 * MiB);
      async function* pieces() {
        for (let at = 0; at < plain.length; ) {
          const size = Math.floor(random() ** 4 * 2 * MiB);
          yield plain.subarray(at, at + size);
          at += size;
        }
      }
      const object = await pipeline.write('pieces', pieces());
      assert.ok((await allOf(pipeline.read(object, 'LOG_CORRUPT'))).equals(plain), `seed ${seed}`);
    }
  });

  it('does not touch the buffers it is given', async (t) => {
    const { pipeline } = await openPipeline(t);
    const chunk = randomBytes(100_000);
    const before = Buffer.from(chunk);
    async function* twenty() {
      for (let n = 0; n < 20; n += 1) yield chunk;
    }
    await pipeline.write('same', twenty());
    assert.ok(chunk.equals(before));
  });

  it('takes what was made blocks elsewhere, however large they are, in a buffer that is used again', async (t) => {
    const { pipeline, dir } = await openPipeline(t);
    for (const seed of seeds(t)) {
      const random = seeded(seed);
      for (const size of [0, 1, SMALL_BYTES, 3 * SMALL_BYTES, 5 * MiB]) {
        const plain = Buffer.concat([randomBytes(size >> 1), Buffer.alloc(size - (size >> 1), 'again and again ')]);
        const chunk = Buffer.alloc(MiB + 100);
        const expected: Buffer[] = [];
        async function* blocks() {
          let filled = 0;
          for (let at = 0; at < size; ) {
            const bytes = 1 + Math.floor(random() ** 3 * BLOCK_BYTES);
            filled += packBlock(chunk.subarray(filled), plain.subarray(at, at + bytes));
            at += bytes;
            if (at < size && filled < random() * (MiB - BLOCK_BYTES)) continue;
            expected.push(Buffer.from(chunk.subarray(0, filled)));
            yield chunk.subarray(0, filled);
            filled = 0;
          }
        }
        const object = await pipeline.writeBlocks(`b/${size}`, blocks());
        const stored = await readFile(`${dir}/b/${size}`);
        assert.equal(object.plainBytes, size);
        assert.equal(object.storedBytes, stored.length);
        assert.equal(object.sha256, createHash('sha256').update(stored).digest('hex'));
        assert.ok(stored.includes(Buffer.concat(expected)));
        assert.ok((await allOf(pipeline.read(object, 'LOG_CORRUPT'))).equals(plain), `${size} bytes`);
      }
    }
  });

  it('refuses what are no whole blocks, and stores nothing', async (t) => {
    const { pipeline, dir } = await openPipeline(t);
    const room = Buffer.alloc(2 * BLOCK_BYTES);
    const block = room.subarray(0, packBlock(room, randomBytes(50_000)));
    for (const wrong of [block.subarray(0, -1), block.subarray(1), Buffer.concat([block, Buffer.alloc(12)])]) {
      for (const sound of [0, 1, 40]) {
        async function* blocks() {
          for (let i = 0; i < sound; i++) yield block;
          yield wrong;
        }
        await assert.rejects(pipeline.writeBlocks('wrong', blocks()), /no whole block/);
      }
    }
    assert.deepEqual(await readdir(dir), ['.incoming']);
  });

  it('cuts a stream into parts, in order', async (t) => {
    const { pipeline, dir } = await openPipeline(t);
    const partBytes = MiB + 5;
    for (const size of [1, partBytes, partBytes + 1, 7 * partBytes + 11]) {
      const plain = randomBytes(size);
      const parts = await pipeline.writeParts(`base/${size}`, inPieces(plain, 333_333), { partBytes });
      const names = Array.from({ length: Math.ceil(size / partBytes) }, (_, n) => `0000000${n}`);
      assert.deepEqual(
        parts.map((part) => part.key),
        names.map((name) => `base/${size}/${name}`),
      );
      assert.deepEqual((await readdir(`${dir}/base/${size}`)).sort(), names);
      assert.ok(parts.slice(0, -1).every((part) => part.plainBytes === partBytes));
      const read = await Promise.all(parts.map((part) => allOf(pipeline.read(part, 'BACKUP_CORRUPT'))));
      assert.ok(Buffer.concat(read).equals(plain), `${size} bytes`);
    }
    assert.deepEqual(await pipeline.writeParts('base/empty', inPieces(Buffer.alloc(0))), []);
  });

  it('removes the parts when the source fails, is aborted, or the storage refuses one', async (t) => {
    const { pipeline, storage, dir } = await openPipeline(t);
    const own = new Error('the source broke');
    async function* breaking(after: number, breakIt: () => Promise<void>) {
      for (let n = 0; n < after; n += 1) yield randomBytes(200_000);
      await breakIt();
    }
    const broken = breaking(40, () => Promise.reject(own));
    await assert.rejects(pipeline.writeParts('p', broken, { partBytes: MiB }), (error) => error === own);
    assert.deepEqual(await readdir(dir), ['.incoming']);

    const abort = new AbortController();
    const stuck = breaking(40, () => {
      abort.abort(own);
      return new Promise(() => {});
    });
    const aborted = pipeline.writeParts('p', stuck, { partBytes: MiB, signal: abort.signal });
    await assert.rejects(aborted, (error) => error === own);
    assert.deepEqual(await readdir(dir), ['.incoming']);

    await storage.put('p/00000002/in-the-way', inPieces(Buffer.from('x')));
    const refused = pipeline.writeParts('p', inPieces(randomBytes(8 * MiB)), { partBytes: MiB });
    await assert.rejects(refused, (error) => error instanceof Fault && error.code === 'INVALID_ARGUMENT');
    assert.deepEqual((await readdir(dir, { recursive: true })).sort(), [
      '.incoming',
      'p',
      'p/00000002',
      'p/00000002/in-the-way',
    ]);
    await assert.rejects(pipeline.writeParts('..', inPieces(randomBytes(10))), (error) => error instanceof Fault);
  });

  it('a source that throws leaves nothing and is heard', async (t) => {
    const { pipeline, dir } = await openPipeline(t);
    for (const chunks of [0, 1, 50]) {
      const own = new Error('the source broke');
      let ended = false;
      async function* breaking() {
        try {
          for (let n = 0; n < chunks; n += 1) yield randomBytes(100_000);
          throw own;
        } finally {
          ended = true;
        }
      }
      await assert.rejects(pipeline.write('x', breaking()), (error) => error === own);
      assert.ok(ended);
      assert.deepEqual(await readdir(dir, { recursive: true }), ['.incoming']);
    }
  });

  it('obeys a signal in the middle of a write and of a read', async (t) => {
    const { pipeline, dir } = await openPipeline(t);
    const reason = new Error('enough');
    const abort = new AbortController();
    async function* endless() {
      for (let n = 0; ; n += 1) {
        if (n === 30) abort.abort(reason);
        yield randomBytes(100_000);
      }
    }
    await assert.rejects(pipeline.write('x', endless(), abort.signal), (error) => error === reason);
    assert.deepEqual(await readdir(dir, { recursive: true }), ['.incoming']);

    const object = await pipeline.write('x', inPieces(randomBytes(20 * MiB)));
    const second = new AbortController();
    await assert.rejects(
      async () => {
        for await (const _ of pipeline.read(object, 'LOG_CORRUPT', second.signal)) second.abort(reason);
      },
      (error) => error === reason,
    );
    await assert.rejects(allOf(pipeline.read(object, 'LOG_CORRUPT', second.signal)), (error) => error === reason);
    assert.deepEqual(await openFiles(dir), []);
  });

  it('lets go of everything when a reader stops early', async (t) => {
    const { pipeline, dir } = await openPipeline(t, 1);
    for (const size of [30_000, 20 * MiB]) {
      const object = await pipeline.write('x', inPieces(randomBytes(size)));
      for (let n = 0; n < 5; n += 1) {
        for await (const _ of pipeline.read(object, 'LOG_CORRUPT')) break;
        assert.deepEqual(await openFiles(dir), []);
      }
      assert.equal((await allOf(pipeline.read(object, 'LOG_CORRUPT'))).length, size);
    }
  });

  it('moves on with many more open objects than threads', async (t) => {
    const { pipeline } = await openPipeline(t, 2);
    const plain = randomBytes(3 * MiB);
    const object = await pipeline.write('x', inPieces(plain));
    const readers = Array.from({ length: 40 }, () => pipeline.read(object, 'LOG_CORRUPT')[Symbol.asyncIterator]());
    // Each gets its first block while all the others are open, then all are read to their ends.
    for (const reader of readers) assert.equal((await reader.next()).value?.length, BLOCK_BYTES);
    const rests = await Promise.all(readers.map((reader) => allOf({ [Symbol.asyncIterator]: () => reader })));
    assert.ok(rests.every((rest) => rest.equals(plain.subarray(BLOCK_BYTES))));
  });

  it('fails what a dying thread had in hand, and starts another', async (t) => {
    const { pipeline } = await openPipeline(t, 1);
    const threads = watchThreads(t);
    // An answer that arrives while a thread is ended behind the pool's back lets go of what terminate() waits for.
    const awake = setInterval(() => {}, 1000);
    t.after(() => clearInterval(awake));
    const object = await pipeline.write('x', inPieces(randomBytes(20 * MiB)));
    // After the first block most of the others have not been asked for.
    const reading = pipeline.read(object, 'LOG_CORRUPT')[Symbol.asyncIterator]();
    await reading.next();
    await Promise.all([...threads].map((thread) => thread.terminate()));
    await assert.rejects(
      allOf({ [Symbol.asyncIterator]: () => reading }),
      (error) => isInternal(error) && error.hint !== null,
    );
    assert.equal((await allOf(pipeline.read(object, 'LOG_CORRUPT'))).length, 20 * MiB);
    assert.equal(threads.size, 2);
    await pipeline.close();
    await assert.rejects(allOf(pipeline.read(object, 'LOG_CORRUPT')), isInternal);
  });

  it('never runs further ahead of a slow storage than a few blocks', async (t) => {
    const { storage, pipeline } = await openPipeline(t, 2);
    const other = await openPipeline(t, 1);
    let produced = 0;
    async function* counted() {
      for (let n = 0; n < 64; n += 1) {
        produced += 1;
        yield randomBytes(MiB);
      }
    }
    let worst = 0;
    t.mock.method(storage, 'put', async (key: string, body: AsyncIterable<Uint8Array>) => {
      let bytes = 0;
      for await (const chunk of body) {
        // Time for everything that can run ahead to do so: several ways to a thread and the disk and back.
        for (let n = 0; n < 5; n += 1) await other.pipeline.write('breath', inPieces(randomBytes(2 * SMALL_BYTES)));
        bytes += chunk.length;
        worst = Math.max(worst, produced - bytes / MiB);
      }
      return { key, bytes };
    });
    await pipeline.write('x', counted());
    assert.equal(produced, 64);
    assert.ok(worst > 1 && worst < 12, `${worst} blocks ahead`);
  });
});

function isInternal(error: unknown): error is Fault {
  return error instanceof Fault && error.code === 'INTERNAL';
}

async function openFiles(dir: string): Promise<string[]> {
  const files = await Promise.all(
    (await readdir('/proc/self/fd')).map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => '')),
  );
  return files.filter((file) => file.startsWith(dir));
}

/** Every thread that is sent something while the test runs. */
function watchThreads(t: TestContext): Set<Worker> {
  const threads = new Set<Worker>();
  const original = Worker.prototype.postMessage;
  t.mock.method(Worker.prototype, 'postMessage', function (this: Worker, ...args: Parameters<Worker['postMessage']>) {
    threads.add(this);
    return original.apply(this, args);
  });
  return threads;
}
