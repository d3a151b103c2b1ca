/** Writes that have reached the disk when they are said to be done. */
import { open } from 'node:fs/promises';

/** Writes a new file and waits until its bytes are on disk; answers how many. */
export async function writeDurably(file: string, mode: number, body: AsyncIterable<Uint8Array>): Promise<number> {
  const handle = await open(file, 'wx', mode);
  let bytes = 0;
  try {
    for await (const chunk of body) {
      for (let done = 0; done < chunk.length; ) {
        const { bytesWritten } = await handle.write(chunk, done, chunk.length - done, null);
        done += bytesWritten;
      }
      bytes += chunk.length;
    }
    await handle.sync();
  } finally {
    await handle.close();
  }
  return bytes;
}

/** Waits until what was made, renamed or removed in a directory is on disk. */
export async function syncDirectory(dir: string): Promise<void> {
  const handle = await open(dir, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
