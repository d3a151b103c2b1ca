import { statfs } from 'node:fs/promises';

/** What may still be written to the file system of a directory by whoever is not root. */
export async function freeBytes(directory: string): Promise<number> {
  const { bavail, bsize } = await statfs(directory);
  return bavail * bsize;
}
