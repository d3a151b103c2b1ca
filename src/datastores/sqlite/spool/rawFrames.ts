/** Frames of a piece as they were captured, in its `.frames`. */
import { open } from 'node:fs/promises';
import { SpareBuffers } from '../../spareBuffers.js';
import { batchBytes } from '../formats/segmentFrames.js';

/** Of each piece that is read one; few are at the same time. */
const chunks = new SpareBuffers(batchBytes, 4);

/** `count` frames from byte `from` on, or as many as there are, in chunks of whole ones; each is valid until the next one is asked for. */
export async function* rawFrames(file: string, from: number, count: number, size: number): AsyncGenerator<Buffer> {
  if (count <= 0) return;
  const handle = await open(file, 'r').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null;
    throw error;
  });
  if (!handle) return;
  const chunk = chunks.take();
  try {
    const perChunk = Math.floor(chunk.length / size);
    for (let done = 0; done < count; ) {
      const wanted = chunk.subarray(0, Math.min(perChunk, count - done) * size);
      const { bytesRead } = await handle.read(wanted, 0, wanted.length, from + done * size);
      const whole = Math.floor(bytesRead / size);
      if (whole === 0) return;
      yield wanted.subarray(0, whole * size);
      done += whole;
    }
  } finally {
    chunks.give(chunk);
    await handle.close();
  }
}
