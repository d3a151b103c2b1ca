/** Writes that have reached the disk when they are said to be done. */
import { mkdir, open } from 'node:fs/promises';
import path from 'node:path';
import { systemCode } from './fileFaults.js';

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

/**
 * Makes the directories from `root`, which exists, down to `dir`, as far as nobody removes one of them meanwhile. Node's
 * own recursive mkdir takes such a removal for a file in the way.
 */
export async function makeDirectories(root: string, dir: string, mode: number): Promise<void> {
  let at = root;
  for (const name of path.relative(root, dir).split(path.sep)) {
    at = path.join(at, name);
    try {
      await mkdir(at, mode);
    } catch (error) {
      const code = systemCode(error);
      if (code === 'ENOENT') return;
      if (code !== 'EEXIST') throw error;
    }
  }
}
