/** Puts a proved copy in its place by one rename, durably, and clears away. */
import { rename, rm, stat } from 'node:fs/promises';
import { syncToDisk } from '../../durable.js';
import { managedFile } from '../source/databasePaths.js';
import { copyFile } from './recovery.js';

/** The file of the new instance. A second call finds the first one's work and is content. */
export async function activateCopy(context: { scratch: string; target: { home: string } }): Promise<string> {
  const copy = copyFile(context);
  const file = managedFile(context.target.home);
  if (await exists(copy)) {
    for (const ending of ['-wal', '-shm', '-journal']) await rm(`${copy}${ending}`, { force: true });
    await syncToDisk(copy);
    await rename(copy, file);
  }
  await syncToDisk(context.target.home);
  return file;
}

async function exists(file: string): Promise<boolean> {
  return stat(file).then(
    () => true,
    () => false,
  );
}
