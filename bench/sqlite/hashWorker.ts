/** A thread of the hashing floor: answers each file name with its SHA-256. */
import { createHash } from 'node:crypto';
import { closeSync, openSync, readSync } from 'node:fs';
import { parentPort } from 'node:worker_threads';

const space = Buffer.alloc(1 << 20);

parentPort?.on('message', (file: string) => {
  const hash = createHash('sha256');
  const handle = openSync(file, 'r');
  for (let bytes = readSync(handle, space); bytes > 0; bytes = readSync(handle, space)) {
    hash.update(space.subarray(0, bytes));
  }
  closeSync(handle);
  parentPort?.postMessage(hash.digest('hex'));
});
