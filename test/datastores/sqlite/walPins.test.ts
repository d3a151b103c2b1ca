/** The write lock that a capture takes for moments, beside a program that has it. */
import assert from 'node:assert/strict';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { WalPins } from '../../../src/datastores/sqlite/source/walPins.js';
import { scratchDir } from '../../support/scratch.js';
import { TestDatabase } from '../../support/sqliteDatabase.js';

async function written(t: TestContext) {
  const file = path.join(await scratchDir(t), 'a.db');
  const writer = await TestDatabase.open(file);
  t.after(() => writer.close());
  await writer.run('PRAGMA journal_mode=WAL; CREATE TABLE data (text)');
  const pins = await WalPins.open(file);
  t.after(() => pins.close());
  return { writer, pins };
}

test('while the write lock cannot be had, it is asked whether it is still wanted', async (t) => {
  const { writer, pins } = await written(t);
  await writer.run('BEGIN IMMEDIATE');
  let asked = 0;
  const answering = (answer: () => Promise<boolean>) => async () => {
    asked++;
    return answer();
  };
  assert.equal(
    await pins.lockWrites(
      30,
      answering(async () => false),
    ),
    false,
  );
  assert.ok(asked > 1);
  asked = 0;
  assert.equal(
    await pins.lockWrites(
      10_000,
      answering(async () => asked === 3),
    ),
    false,
  );
  assert.equal(asked, 3, 'it waits no longer');
  asked = 0;
  const letGo = answering(async () => {
    if (asked === 2) await writer.run('COMMIT');
    return false;
  });
  assert.equal(await pins.lockWrites(10_000, letGo), true);
  assert.equal(asked, 2, 'it is taken as soon as it is free');
  await assert.rejects(writer.run('PRAGMA busy_timeout=1; BEGIN IMMEDIATE'), { code: 'SQLITE_BUSY' });
  await pins.unlockWrites();
  await writer.run('BEGIN IMMEDIATE; COMMIT');
});

test('a program that does nothing but commit keeps it from nobody', async (t) => {
  const { writer, pins } = await written(t);
  let writes = true;
  const writing = (async () => {
    while (writes) await writer.run("INSERT INTO data VALUES ('a');".repeat(100));
  })();
  try {
    for (let i = 0; i < 10; i++) {
      assert.ok(await pins.lockWrites(10_000, async () => false));
      await pins.unlockWrites();
    }
  } finally {
    writes = false;
    await writing;
  }
});
