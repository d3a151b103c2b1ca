/** A process to be killed: stores an object whose source never ends, and says when it is in the middle of it. */
import { FileStorage } from '../../src/storage/fileStorage.js';

async function* endless() {
  for (let n = 0; n < 8; n += 1) yield Buffer.alloc(128 * 1024, n);
  process.stdout.write('in the middle\n');
  setInterval(() => {}, 60_000); // keeps the process alive until it is killed
  await new Promise(() => {});
}

const storage = await FileStorage.open(process.argv[2] ?? '');
await storage.put('killed/object', endless());
