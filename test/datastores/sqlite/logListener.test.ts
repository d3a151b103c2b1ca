/** Hearing of writes to a log: of its own alone, of few rather than of many, and of the file that has its name. */
import assert from 'node:assert/strict';
import { appendFile, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { LogListener } from '../../../src/datastores/sqlite/source/logListener.js';
import { scratchDir } from '../../support/scratch.js';
import { until } from '../../support/sqlitePrograms.js';

const QUIET_MS = 1000;

async function listening(t: TestContext) {
  const file = path.join(await scratchDir(t), 'a.db-wal');
  await writeFile(file, '');
  const heard = { times: 0 };
  const listener = new LogListener(file, () => {
    heard.times++;
  });
  t.after(() => listener.stop());
  assert.equal(listener.listen(), true);
  const hears = async (write: () => Promise<unknown>) => {
    const before = heard.times;
    await write();
    await until('it is heard of', () => heard.times > before);
  };
  return { file, listener, heard, hears };
}

test('writes to the log are heard of, those to its neighbours are not', async (t) => {
  const { file, heard, hears } = await listening(t);
  await hears(() => appendFile(file, 'a'));
  heard.times = 0;
  for (let i = 0; i < 100; i++) await appendFile(`${file}2`, 'a');
  // Events come in order: with this one all earlier ones would have come.
  await hears(() => appendFile(file, 'a'));
  assert.ok(heard.times <= 2, `heard ${heard.times} times`);
});

test('of a busy log nothing is heard any more, until looks are far apart again', async (t) => {
  const { file, listener, heard, hears } = await listening(t);
  await hears(() => appendFile(file, 'a'));
  listener.looked(2);
  assert.equal(listener.listens, true, 'a single write is no busy time');
  for (let i = 0; i < 200; i++) await appendFile(file, 'a');
  await until('many writes are heard of', () => heard.times >= 16);
  assert.equal(listener.looked(2), false);
  assert.equal(listener.listens, false);
  assert.equal(listener.looked(16), false, 'looks are still near each other');
  assert.equal(listener.looked(32), true, 'what was written before is for another look to find');
  await hears(() => appendFile(file, 'a'));
});

test('some writes at each look make no log busy, a few more in the long run do', async (t) => {
  const { file, listener, heard } = await listening(t);
  const looksUntilBusy = async (writes: number) => {
    let looks = 0;
    for (; listener.listens && looks < 50; looks++) {
      heard.times = 0;
      // One event for each: the system tells of writes that nobody has heard of yet once.
      for (let i = 1; i <= writes; i++) {
        await appendFile(file, 'a');
        await until('it is heard of', () => heard.times >= i);
      }
      listener.looked(2);
    }
    return looks;
  };
  assert.equal(await looksUntilBusy(1), 50);
  assert.ok((await looksUntilBusy(6)) < 50);
});

test('a log that gets another name is heard of once more, and the one in its place after the next looks', async (t) => {
  const { file, listener, hears } = await listening(t);
  await hears(() => rename(file, `${file}.old`));
  assert.equal(listener.listens, false);
  assert.equal(listener.looked(1000), false, 'there is nothing to listen to');
  await writeFile(file, '');
  assert.equal(listener.looked(1000), true);
  await hears(() => appendFile(file, 'a'));
});

test('nothing is heard after it was stopped', async (t) => {
  const { file, listener, heard } = await listening(t);
  listener.stop();
  heard.times = 0;
  await appendFile(file, 'a');
  await delay(QUIET_MS);
  assert.equal(heard.times, 0);
});
