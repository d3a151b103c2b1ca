/** Puts a proved copy in its place by one rename, durably, and clears away. */
import { open, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { managedFile } from './databasePaths.js';
import { copyFile } from './recovery.js';

/** The file of the new instance. A second call finds the first one's work and is content. */
export async function activateCopy(context: { scratch: string; target: { home: string } }): Promise<string> {
  const copy = copyFile(context);
  const file = managedFile(context.target.home);
  if (await exists(copy)) {
    for (const ending of ['-wal', '-shm', '-journal']) await rm(`${copy}${ending}`, { force: true });
    await sync(copy);
    await rename(copy, file);
  }
  await sync(context.target.home);
  return file;
}

async function exists(file: string): Promise<boolean> {
  return stat(file).then(
    () => true,
    () => false,
  );
}

async function sync(what: string): Promise<void> {
  const handle = await open(path.resolve(what), 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
