/** No damaged object may ever be read without an error, and the error has to say which object and what is wrong. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { open, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { describe, it } from 'node:test';
import { Fault } from '../../src/errors.js';
import type { StoredObject } from '../../src/model.js';
import { fileFault } from '../../src/storage/fileFaults.js';
import { FileReadable } from '../../src/storage/fileReadable.js';
import type { ObjectPipeline } from '../../src/storage/pipeline.js';
import type { Damage } from '../../src/storage/provedBlocks.js';
import { fileSink } from '../support/fileSink.js';
import { scratchDir } from '../support/scratch.js';
import { seeded, seeds } from '../support/seed.js';
import { allOf, inPieces, openPipeline } from './objects.js';

const GOLDEN = new URL('../../../test/fixtures/object-v1.bin', import.meta.url);

/** Two that stay on this thread and two that do not; of each one text, one noise. */
const PLAIN = [20_000, 1_300_000].flatMap((size) => [
  Buffer.alloc(size, 'line after line of text\n'),
  randomBytes(size),
]);

describe('damage to stored objects', () => {
  it('any flipped byte is found', async (t) => {
    await forEachObject(t, async (file, object, pipeline, whole) => {
      for (const seed of seeds(t)) {
        const random = seeded(seed);
        // All of the header and end marker, the first block's header, and anywhere.
        const places = [0, 4, 5, 6, 8, 9, 11, 12, 15, whole.length - 12, whole.length - 8, whole.length - 1];
        for (let n = 0; n < 12; n += 1) places.push(Math.floor(random() * whole.length));
        for (const at of places) {
          const flipped = Buffer.from(whole);
          flipped[at] = (flipped[at] ?? 0) ^ (1 + Math.floor(random() * 255));
          await writeFile(file, flipped);
          await assertDamaged(pipeline, object, 'checksum', `seed ${seed}, byte ${at}`);
        }
      }
    });
  });

  it('any cut and any extension is found', async (t) => {
    await forEachObject(t, async (file, object, pipeline, whole) => {
      for (const seed of seeds(t)) {
        const random = seeded(seed);
        const lengths = [
          0,
          1,
          7,
          8,
          15,
          16,
          17,
          whole.length - 13,
          whole.length - 12,
          whole.length - 4,
          whole.length - 1,
        ];
        for (let n = 0; n < 8; n += 1) lengths.push(Math.floor(random() * whole.length));
        for (const length of lengths) {
          await writeFile(file, whole.subarray(0, length));
          await assertDamaged(pipeline, object, 'truncated', `seed ${seed}, ${length} bytes`);
        }
        for (const garbage of [1, 12, Math.ceil(random() * 3_000_000)]) {
          await writeFile(file, Buffer.concat([whole, Buffer.alloc(garbage)]));
          await assertDamaged(pipeline, object, 'extended', `seed ${seed}, ${garbage} more`);
        }
        await writeFile(file, Buffer.concat([whole, whole]));
        await assertDamaged(pipeline, object, 'extended', 'twice');
      }
    });
  });

  it('a deleted object is found, whichever kind it is', async (t) => {
    await forEachObject(t, async (file, object, pipeline) => {
      await rm(file);
      await assertDamaged(pipeline, object, 'missing', 'deleted');
      const fault = await faultOf(pipeline, object, 'BACKUP_CORRUPT');
      assert.equal(fault.code, 'BACKUP_CORRUPT');
      assert.match(fault.hint ?? '', /new backup/);
    });
  });

  it('an object in the place of another is found', async (t) => {
    const { pipeline, dir } = await openPipeline(t);
    const first = await pipeline.write('first', inPieces(Buffer.alloc(2_000_000, 1)));
    const second = await pipeline.write('second', inPieces(Buffer.alloc(2_000_000, 2)));
    assert.equal(first.storedBytes, second.storedBytes);
    await writeFile(`${dir}/first`, await readFile(`${dir}/second`));
    await assertDamaged(pipeline, first, 'checksum', 'the same size');
    const longer = await pipeline.write('longer', inPieces(randomBytes(2_000_000)));
    await writeFile(`${dir}/first`, await readFile(`${dir}/longer`));
    await assertDamaged(pipeline, first, 'extended', 'a longer one');
    await writeFile(`${dir}/longer`, await readFile(`${dir}/second`));
    await assertDamaged(pipeline, longer, 'truncated', 'a shorter one');
  });

  it('a record that is wrong about its object is found', async (t) => {
    await forEachObject(t, async (_, object, pipeline) => {
      const { plainBytes, storedBytes, sha256 } = object;
      for (const wrong of [0, plainBytes - 1, plainBytes + 1, 2 * plainBytes]) {
        await assertDamaged(pipeline, { ...object, plainBytes: wrong }, 'length', `${wrong} plain bytes`);
      }
      await assertDamaged(pipeline, { ...object, storedBytes: storedBytes - 1 }, 'extended', 'fewer stored bytes');
      await assertDamaged(pipeline, { ...object, storedBytes: storedBytes + 1 }, 'truncated', 'more stored bytes');
      const { blake3 = null, ...older } = object;
      assert.ok(blake3);
      const other = (hash: string) => [...hash].reverse().join('');
      await assertDamaged(pipeline, { ...object, blake3: other(blake3) }, 'checksum', 'another hash');
      await assertDamaged(
        pipeline,
        { ...older, sha256: other(sha256) },
        'checksum',
        'another hash of an older release',
      );
      await assertDamaged(pipeline, { ...older, blake3: sha256 }, 'checksum', 'the one hash for the other');
    });
  });

  it('bytes that nobody ever wrote are refused though their hash is right', async (t) => {
    const { pipeline, dir } = await openPipeline(t);
    const golden = await readFile(GOLDEN);
    const forged: [string, Buffer][] = [
      ['nothing', Buffer.alloc(0)],
      ['text', Buffer.from('this is not a stored object at all')],
      ['no end', golden.subarray(0, -12)],
      ['half an end', golden.subarray(0, -3)],
      ['two ends', Buffer.concat([golden, golden.subarray(-12)])],
      ['a wrong total', patched(golden, golden.length - 8, 1)],
      ['a wrong plain length', patched(golden, 12, 1)],
      ['an impossible payload', patched(golden, 10, 0xff)],
      ['a payload that is not LZ4', patched(golden, 16, 0xff)],
    ];
    for (const [what, bytes] of forged) {
      await writeFile(`${dir}/forged`, bytes);
      await assertDamaged(pipeline, recordOf('forged', bytes, 4169), 'format', what);
    }
  });

  it('reads what version 1 wrote, for ever', async (t) => {
    const { pipeline, dir } = await openPipeline(t);
    const bytes = await readFile(GOLDEN);
    await writeFile(`${dir}/golden`, bytes);
    const object: StoredObject = {
      key: 'golden',
      plainBytes: 4169,
      storedBytes: 280,
      sha256: '205ca976b22869f89f7aec3db27bd222e6308658d3a792e8680aa5d138aa3530',
    };
    const text = 'To be recovered by every later release.\n'.repeat(100);
    const noise = [0, 1, 2, 3].map((n) => createHash('sha256').update(`noise ${n}`).digest());
    const expected = Buffer.concat([Buffer.from(text), ...noise, Buffer.from(text.slice(0, 41))]);
    assert.ok((await allOf(pipeline.read(object, 'LOG_CORRUPT'))).equals(expected));
  });

  it('says so when a later release wrote it', async (t) => {
    const { pipeline, dir } = await openPipeline(t);
    const golden = await readFile(GOLDEN);
    for (const [at, what] of [
      [4, 'version'],
      [5, 'codec'],
      [6, 'flags'],
    ] as const) {
      const later = patched(golden, at, 2);
      await writeFile(`${dir}/later`, later);
      const fault = await faultOf(pipeline, recordOf('later', later, 4169), 'LOG_CORRUPT');
      assert.equal(fault.code, 'VERSION_MISMATCH', what);
      assert.deepEqual(fault.details, { object: 'later' });
      assert.ok(fault.hint);
    }
  });

  it('trouble with the storage is not taken for damage', async (t) => {
    const { pipeline, dir } = await openPipeline(t);
    const object = await pipeline.write('x', inPieces(randomBytes(10)));
    await rm(dir, { recursive: true });
    assert.equal((await faultOf(pipeline, object, 'LOG_CORRUPT')).code, 'STORAGE_UNAVAILABLE');
  });

  it('an object that the disk itself cannot read is named, however it is read', async (t) => {
    const { pipeline, dir } = await openPipeline(t);
    const out = await scratchDir(t);
    for (const size of [10, 4_000_000]) {
      const object = await pipeline.write('x', inPieces(randomBytes(size)));
      // The first page of a process is mapped to nothing: reading it fails as a bad sector does.
      await rm(`${dir}/x`);
      await symlink('/proc/self/mem', `${dir}/x`);
      const named = { code: 'STORAGE_UNAVAILABLE', details: { object: 'x', problem: 'unreadable' } };
      await assert.rejects(allOf(pipeline.read(object, 'LOG_CORRUPT')), named);
      await assert.rejects(pipeline.pour(object, 'LOG_CORRUPT', fileSink(`${out}/${size}`)), named);
      await rm(`${dir}/x`);
    }
  });

  it('a disk that fails in the middle is not taken for damage, not even of an object that is damaged too', async (t) => {
    const { pipeline, storage, dir } = await openPipeline(t);
    const object = await pipeline.write('x', inPieces(randomBytes(4_000_000)));
    const whole = await readFile(`${dir}/x`);
    for (const bytes of [whole, patched(whole, 11, 0xff)]) {
      await writeFile(`${dir}/x`, bytes);
      const file = await open(`${dir}/x`);
      const read = file.read.bind(file) as (...args: unknown[]) => Promise<unknown>;
      const failing = t.mock.method(file, 'read', (...args: unknown[]) =>
        failing.mock.callCount() < 3
          ? read(...args)
          : Promise.reject(Object.assign(new Error('bad sector'), { code: 'EIO', syscall: 'read' })),
      );
      t.mock.method(storage, 'get', async () => new FileReadable(file, (error) => fileFault(error, 'Reading x', dir)));
      assert.equal((await faultOf(pipeline, object, 'LOG_CORRUPT')).code, 'STORAGE_UNAVAILABLE');
      assert.equal(file.fd, -1, 'the file is still open');
      t.mock.restoreAll();
    }
  });
});

/** Runs `work` with each kind of object, first made sure to be readable. */
async function forEachObject(
  t: Parameters<typeof openPipeline>[0],
  work: (file: string, object: StoredObject, pipeline: ObjectPipeline, whole: Buffer) => Promise<void>,
): Promise<void> {
  const { pipeline, dir } = await openPipeline(t);
  for (const [n, plain] of PLAIN.entries()) {
    const object = await pipeline.write(`objects/${n}`, inPieces(plain));
    assert.ok((await allOf(pipeline.read(object, 'LOG_CORRUPT'))).equals(plain));
    const file = `${dir}/objects/${n}`;
    await work(file, object, pipeline, await readFile(file));
  }
}

async function assertDamaged(pipeline: ObjectPipeline, object: StoredObject, problem: Damage, what: string) {
  const fault = await faultOf(pipeline, object, 'LOG_CORRUPT');
  assert.equal(fault.code, 'LOG_CORRUPT', what);
  assert.deepEqual(fault.details, { object: object.key, problem }, what);
  assert.ok(fault.message.includes(object.key));
  assert.match(fault.hint ?? '', /Recover to an instant before/);
}

async function faultOf(
  pipeline: ObjectPipeline,
  object: StoredObject,
  code: 'LOG_CORRUPT' | 'BACKUP_CORRUPT',
): Promise<Fault> {
  const error: unknown = await allOf(pipeline.read(object, code)).then(
    () => assert.fail(`${object.key} was read without an error`),
    (thrown) => thrown,
  );
  assert.ok(error instanceof Fault, String(error));
  return error;
}

function recordOf(key: string, bytes: Buffer, plainBytes: number): StoredObject {
  return { key, plainBytes, storedBytes: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') };
}

function patched(bytes: Buffer, at: number, flip: number): Buffer {
  const copy = Buffer.from(bytes);
  copy[at] = (copy[at] ?? 0) ^ flip;
  return copy;
}
