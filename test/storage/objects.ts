/** A pipeline over a directory of its own, and bytes on their way in and out. */
import type { TestContext } from 'node:test';
import { FileStorage } from '../../src/storage/fileStorage.js';
import { ObjectPipeline } from '../../src/storage/pipeline.js';
import { scratchDir } from '../support/scratch.js';

export async function openPipeline(t: TestContext, workers = 2) {
  const dir = await scratchDir(t);
  const storage = await FileStorage.open(dir);
  const pipeline = new ObjectPipeline(storage, { workers });
  t.after(() => pipeline.close());
  return { dir, storage, pipeline };
}

export async function* inPieces(bytes: Buffer, size = 64 * 1024): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

export async function allOf(bytes: AsyncIterable<Buffer>): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of bytes) chunks.push(chunk);
  return Buffer.concat(chunks);
}
