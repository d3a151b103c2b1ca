/**
 * The key that seals credentials in the catalog: 32 random bytes in a file of their own, made on the first start, and
 * worth keeping apart from the catalog's backups.
 */
import { randomBytes } from 'node:crypto';
import { access, open, readFile, rename } from 'node:fs/promises';
import { invalidArgument } from './errors.js';
import type { Places } from './instances/places.js';

const KEY_BYTES = 32;

/** @throws Fault INVALID_ARGUMENT (secretKey) where the key is lost, or is none */
export async function secretKey({ keyFile, catalogFile }: Places): Promise<Buffer> {
  const key = await readIfThere(keyFile);
  if (key?.length === KEY_BYTES) return key;
  const hint = 'Put the key back that the catalog was made with; connection URIs cannot be read without it.';
  if (key) throw invalidArgument('secretKey', `${keyFile} is no key: it is not ${KEY_BYTES} bytes long`, hint);
  if (await exists(catalogFile)) throw invalidArgument('secretKey', `${keyFile} is missing`, hint);
  return makeKey(keyFile);
}

/** Whole and on disk before anything is sealed with it. The caller holds the lock: nobody else makes one. */
async function makeKey(keyFile: string): Promise<Buffer> {
  const key = randomBytes(KEY_BYTES);
  const unfinished = `${keyFile}.new`;
  const handle = await open(unfinished, 'w', 0o600);
  try {
    await handle.writeFile(key);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(unfinished, keyFile);
  return key;
}

async function readIfThere(file: string): Promise<Buffer | null> {
  return readFile(file).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null;
    throw error;
  });
}

function exists(file: string): Promise<boolean> {
  return access(file).then(
    () => true,
    () => false,
  );
}
