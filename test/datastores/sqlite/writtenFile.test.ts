/** The new database file: what finds another thread writing waits, and is where it belongs in the end. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { WrittenFile, WrittenFileOnThread } from '../../../src/datastores/sqlite/recovery/writtenFile.js';
import { Turns } from '../../../src/datastores/turns.js';
import { scratchDir } from '../../support/scratch.js';

test('bytes that find another thread writing are written with those that come next, or at the end', async (t) => {
  const file = path.join(await scratchDir(t), 'database.db');
  const out = await WrittenFile.open(file);
  t.after(() => out.close());
  const turns = new Turns(out.shared.turns);
  const onThread = new WrittenFileOnThread(out.shared, 1000);
  const bytes = randomBytes(900_000);
  const pieces = [bytes.subarray(0, 100_000), bytes.subarray(100_000, 300_000), bytes.subarray(300_000, 700_000)];
  // The one that is held back may be used again by whoever gave it.
  const reused = Buffer.from(pieces[0] as Buffer);
  turns.take(() => onThread.write(reused));
  reused.fill(0);
  assert.equal((await readFile(file)).length, 0);
  onThread.write(pieces[1] as Buffer);
  onThread.write(pieces[2] as Buffer);
  turns.take(() => onThread.write(bytes.subarray(700_000)));
  assert.equal((await readFile(file)).length, 701_000);
  onThread.flush();
  onThread.close();
  await out.sync();
  assert.ok((await readFile(file)).subarray(1000).equals(bytes));
});
