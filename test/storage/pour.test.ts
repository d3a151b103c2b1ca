/** Bytes poured into code that runs beside the decoding: the same bytes, the same verdicts, and errors that keep their code. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readFile, rm, rmdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { SMALL_BYTES } from '../../src/storage/objectWriter.js';
import { fileSink } from '../support/fileSink.js';
import { scratchDir } from '../support/scratch.js';
import { inPieces, openPipeline } from './objects.js';

const MiB = 1 << 20;

/** Sinks are closed by a message to their thread that nobody waits for. */
async function closed(file: string): Promise<string> {
  for (let tried = 0; tried < 500 && !existsSync(`${file}.closed`); tried += 1) await delay(10);
  await delay(20);
  return readFile(`${file}.closed`, 'utf8');
}

test('a sink gets every byte in order, raw or compressed, small or large', async (t) => {
  const { pipeline } = await openPipeline(t);
  const out = await scratchDir(t);
  for (const size of [0, 1, SMALL_BYTES + 1, 3 * MiB + 7]) {
    for (const [kind, plain] of Object.entries({ noise: randomBytes(size), text: Buffer.alloc(size, 'line\n') })) {
      const object = await pipeline.write('o', inPieces(plain));
      const file = path.join(out, `${size}-${kind}`);
      let passed = 0;
      const result = await pipeline.pour(object, 'LOG_CORRUPT', fileSink(file), {
        passed: (more) => {
          passed += more;
        },
      });
      assert.ok((await readFile(file)).equals(plain), `${size} bytes`);
      assert.equal(passed, size);
      assert.deepEqual(result, { taken: size });
      assert.ok(existsSync(`${file}.ended`));
      assert.equal(await closed(file), 'once');
    }
  }
});

test('what is damaged is refused as when it is read, and the sink is closed', async (t) => {
  const { pipeline, dir } = await openPipeline(t);
  const out = await scratchDir(t);
  for (const size of [1000, 2 * MiB]) {
    const object = await pipeline.write('o', inPieces(randomBytes(size)));
    const stored = await readFile(path.join(dir, 'o'));
    stored[size >> 1] = (stored[size >> 1] ?? 0) ^ 1;
    await writeFile(path.join(dir, 'o'), stored);
    const file = path.join(out, String(size));
    await assert.rejects(pipeline.pour(object, 'BACKUP_CORRUPT', fileSink(file)), {
      code: 'BACKUP_CORRUPT',
      details: { object: 'o', problem: 'checksum' },
    });
    assert.equal(await closed(file), 'once');
  }
});

test('what is not there is missing, unless the whole storage is not there; no sink is opened for it', async (t) => {
  const { pipeline, dir } = await openPipeline(t);
  const file = path.join(await scratchDir(t), 'file');
  const sizes = [1000, 2 * MiB];
  for (const size of sizes) {
    const object = await pipeline.write('o', inPieces(randomBytes(size)));
    const missing = { code: 'BACKUP_CORRUPT', details: { object: 'o', problem: 'missing' } };
    await rm(path.join(dir, 'o'));
    await assert.rejects(pipeline.pour(object, 'BACKUP_CORRUPT', fileSink(file)), missing);
    await mkdir(path.join(dir, 'o'));
    await assert.rejects(pipeline.pour(object, 'BACKUP_CORRUPT', fileSink(file)), missing);
    await rmdir(path.join(dir, 'o'));
  }
  const objects = await Promise.all(sizes.map((size) => pipeline.write(`o${size}`, inPieces(randomBytes(size)))));
  await rm(dir, { recursive: true });
  for (const object of objects) {
    await assert.rejects(pipeline.pour(object, 'BACKUP_CORRUPT', fileSink(file)), { code: 'STORAGE_UNAVAILABLE' });
  }
  assert.equal(existsSync(file), false);
});

test('damage is named also where the sink objected to what it made of the bytes', async (t) => {
  const { pipeline, dir } = await openPipeline(t);
  const out = await scratchDir(t);
  for (const size of [1000, 2 * MiB]) {
    const object = await pipeline.write('o', inPieces(randomBytes(size)));
    const stored = await readFile(path.join(dir, 'o'));
    stored[size >> 1] = (stored[size >> 1] ?? 0) ^ 1;
    await writeFile(path.join(dir, 'o'), stored);
    const file = path.join(out, String(size));
    await assert.rejects(pipeline.pour(object, 'LOG_CORRUPT', fileSink(file, size / 4)), {
      code: 'LOG_CORRUPT',
      details: { object: 'o', problem: 'checksum' },
    });
    assert.equal(await closed(file), 'once');
    assert.equal(existsSync(`${file}.ended`), false);
  }
});

test("a sink's error ends the pouring and keeps its code", async (t) => {
  const { pipeline } = await openPipeline(t);
  const out = await scratchDir(t);
  for (const size of [1000, 3 * MiB]) {
    const object = await pipeline.write('o', inPieces(randomBytes(size)));
    const file = path.join(out, String(size));
    await assert.rejects(pipeline.pour(object, 'LOG_CORRUPT', fileSink(file, size / 2)), {
      message: 'no space',
      code: 'ENOSPC',
      syscall: 'write',
    });
    assert.equal(await closed(file), 'once');
    const away = path.join(out, 'not', 'there');
    await assert.rejects(pipeline.pour(object, 'LOG_CORRUPT', fileSink(away)), { code: 'ENOENT' });
  }
});

test('an aborted pouring rejects with the reason and closes its sink', async (t) => {
  const { pipeline } = await openPipeline(t);
  const file = path.join(await scratchDir(t), 'file');
  const object = await pipeline.write('o', inPieces(randomBytes(8 * MiB)));
  const giveUp = new AbortController();
  const reason = new Error('enough');
  const passed = () => giveUp.abort(reason);
  await assert.rejects(pipeline.pour(object, 'LOG_CORRUPT', fileSink(file), { signal: giveUp.signal, passed }), reason);
  assert.equal(await closed(file), 'once');
});
