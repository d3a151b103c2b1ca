/** Bytes and names that are on disk when a call resolves, and files that are written whole; for every driver. */
import { constants, writeSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';

/** Waits until a file's content, or what was made, renamed or removed in a directory, is on disk. */
export async function syncToDisk(fileOrDirectory: string, flags: number = constants.O_RDONLY): Promise<void> {
  const handle = await open(fileOrDirectory, flags);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** All of the bytes: a disk that fills up takes a part first and refuses only the next one, and a signal cuts a write short. */
export async function writeWhole(file: FileHandle, bytes: Uint8Array, at: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    done += (await file.write(bytes, done, bytes.length - done, at + done)).bytesWritten;
  }
}

/** As writeWhole, on a thread that waits for it. */
export function writeWholeSync(file: number, bytes: Uint8Array, at: number): void {
  for (let done = 0; done < bytes.length; ) done += writeSync(file, bytes, done, bytes.length - done, at + done);
}
