/**
 * What the object pipeline costs: plain MB/s in and out for one object and several side by side, next to a plain copy
 * and a bare SHA-256, and the milliseconds of small objects. In the directory PITR_BENCH_DIR, else the system's
 * temporary one; PITR_BENCH_MIB plain MiB per figure, 512 unless told.
 */
import { createHash, randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { StoredObject } from '../src/model.js';
import { FileStorage } from '../src/storage/fileStorage.js';
import { ObjectPipeline } from '../src/storage/pipeline.js';

const MIB = 1 << 20;
const CHUNK_BYTES = 256 * 1024;
const TOTAL_BYTES = Number(process.env.PITR_BENCH_MIB ?? 512) * MIB;
const SMALL_REPEATS = 100;

export async function run(): Promise<void> {
  const dir = await mkdtemp(path.join(process.env.PITR_BENCH_DIR ?? tmpdir(), 'pitr-bench-'));
  const pipeline = new ObjectPipeline(await FileStorage.open(path.join(dir, 'storage')));
  try {
    const kinds = { incompressible: randomBytes(8 * MIB), 'about 4:1': compressible(8 * MIB) };
    const rows: Record<string, Record<string, string>> = {};
    for (const [kind, sample] of Object.entries(kinds)) {
      rows[`${kind}: plain copy, fsync`] = await floors(sample, path.join(dir, 'copy'));
      for (const parallel of [1, 2, 4])
        rows[`${kind}: ${parallel} at once`] = await objects(pipeline, sample, parallel);
      rows[`${kind}: one stream in parts`] = await parts(pipeline, sample);
    }
    console.log(`${TOTAL_BYTES / MIB} MiB of plain bytes each, MB/s of plain bytes, in ${dir}`);
    console.table(rows);
    console.log(`Milliseconds of one small object, median of ${SMALL_REPEATS}`);
    console.table(await smallObjects(pipeline));
  } finally {
    await pipeline.close();
    await rm(dir, { recursive: true, force: true });
  }
}

async function floors(sample: Buffer, file: string): Promise<Record<string, string>> {
  const write = await rate(async () => {
    const handle = await open(file, 'w');
    for await (const chunk of repeated(sample, TOTAL_BYTES)) await handle.write(chunk);
    await handle.sync();
    await handle.close();
  });
  const read = await rate(async () => {
    for await (const _ of createReadStream(file, { highWaterMark: 512 * 1024 }));
  });
  const sha256 = await rate(async () => {
    const hash = createHash('sha256');
    for await (const chunk of repeated(sample, TOTAL_BYTES)) hash.update(chunk);
    hash.digest();
  });
  await rm(file);
  return { write, read, 'SHA-256 alone': sha256 };
}

async function objects(pipeline: ObjectPipeline, sample: Buffer, parallel: number): Promise<Record<string, string>> {
  const each = TOTAL_BYTES / parallel;
  const memory = watchMemory();
  let stored: StoredObject[] = [];
  const write = await rate(async () => {
    const keys = Array.from({ length: parallel }, (_, n) => `bench/${n}`);
    stored = await Promise.all(keys.map((key) => pipeline.write(key, repeated(sample, each))));
  });
  const read = await rate(async () => {
    await Promise.all(stored.map((object) => drain(pipeline, object)));
  });
  return { write, read, stored: ratio(stored), 'RSS grew by MiB': memory() };
}

async function parts(pipeline: ObjectPipeline, sample: Buffer): Promise<Record<string, string>> {
  const memory = watchMemory();
  let stored: StoredObject[] = [];
  const write = await rate(async () => {
    stored = await pipeline.writeParts('bench/parts', repeated(sample, TOTAL_BYTES));
  });
  const read = await rate(async () => {
    for (const part of stored) await drain(pipeline, part);
  });
  return { write, read, stored: ratio(stored), 'RSS grew by MiB': memory() };
}

async function smallObjects(pipeline: ObjectPipeline): Promise<Record<string, Record<string, string>>> {
  const rows: Record<string, Record<string, string>> = {};
  for (const kib of [1, 64, 65, 256]) {
    const plain = compressible(kib * 1024);
    const write: number[] = [];
    const read: number[] = [];
    for (let n = 0; n < SMALL_REPEATS; n += 1) {
      const start = performance.now();
      const object = await pipeline.write(`small/${n}`, repeated(plain, plain.length));
      write.push(performance.now() - start);
      const middle = performance.now();
      await drain(pipeline, object);
      read.push(performance.now() - middle);
    }
    rows[`${kib} KiB`] = { write: median(write), read: median(read) };
  }
  return rows;
}

async function drain(pipeline: ObjectPipeline, object: StoredObject): Promise<void> {
  let bytes = 0;
  for await (const chunk of pipeline.read(object, 'BACKUP_CORRUPT')) bytes += chunk.length;
  if (bytes !== object.plainBytes) throw new Error(`${bytes} bytes instead of ${object.plainBytes}`);
}

async function* repeated(sample: Buffer, bytes: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes; ) {
    const from = at % sample.length;
    const chunk = sample.subarray(from, Math.min(from + CHUNK_BYTES, sample.length, from + bytes - at));
    at += chunk.length;
    yield chunk;
  }
}

/** Of every 64 bytes 12 are noise. */
function compressible(bytes: number): Buffer {
  const sample = Buffer.alloc(bytes);
  for (let at = 0; at + 12 <= bytes; at += 64) randomBytes(12).copy(sample, at);
  return sample;
}

async function rate(work: () => Promise<void>): Promise<string> {
  const start = performance.now();
  await work();
  return (TOTAL_BYTES / 1e6 / ((performance.now() - start) / 1000)).toFixed(0);
}

/** Samples the resident memory until it is asked how far it rose above where it started, in MiB. */
function watchMemory(): () => string {
  const before = process.memoryUsage.rss();
  let most = before;
  const timer = setInterval(() => {
    most = Math.max(most, process.memoryUsage.rss());
  }, 20);
  return () => {
    clearInterval(timer);
    return ((most - before) / MIB).toFixed(0);
  };
}

function ratio(stored: StoredObject[]): string {
  const plain = stored.reduce((sum, object) => sum + object.plainBytes, 0);
  const bytes = stored.reduce((sum, object) => sum + object.storedBytes, 0);
  return `${((100 * bytes) / plain).toFixed(1)} %`;
}

function median(numbers: number[]): string {
  return (numbers.toSorted((a, b) => a - b)[numbers.length >> 1] ?? Number.NaN).toFixed(2);
}
