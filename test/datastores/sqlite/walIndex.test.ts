/** SQLite's count of commits, read from its index: what SQLite itself answers, or nothing. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { copyFile, readFile, rename, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { WalIndex } from '../../../src/datastores/sqlite/formats/walIndex.js';
import { WalFile } from '../../../src/datastores/sqlite/source/walFile.js';
import { scratchDir } from '../../support/scratch.js';
import { TestDatabase } from '../../support/sqliteDatabase.js';
import { holding } from '../../support/sqliteHistory.js';
import { ask, start } from '../../support/sqlitePrograms.js';

async function held(t: TestContext) {
  const file = path.join(await scratchDir(t), 'a.db');
  await ask(t, 'setup', file, 'PRAGMA journal_mode=WAL');
  // While somebody has it open, the log and its index stay.
  await holding(t, { file });
  const index = new WalIndex(`${file}-shm`);
  t.after(() => index.close());
  const asked = async (how = 'NOOP') => {
    const [, [row] = []] = await ask<{ log: number; checkpointed: number }[][]>(
      t,
      'run',
      file,
      'PRAGMA busy_timeout=50',
      `PRAGMA wal_checkpoint=${how}`,
    );
    const log = new WalFile(`${file}-wal`);
    const header = await log.header();
    await log.close();
    return { frames: row?.log, copied: row?.checkpointed, salt1: header?.salt1, salt2: header?.salt2 };
  };
  return { file, index, asked };
}

test('says what SQLite and the log say, after commits and checkpoints of all kinds', async (t) => {
  const { file, index, asked } = await held(t);
  const rows = ['PRAGMA wal_autocheckpoint=0', 'INSERT INTO data (text) VALUES (hex(randomblob(9000)))'];
  for (let i = 0; i < 3; i++) {
    await ask(t, 'run', file, ...rows);
    assert.deepEqual(index.state(), await asked());
  }
  const before = index.state();
  assert.ok(before && before.copied < before.frames);
  for (const how of ['PASSIVE', 'FULL', 'PASSIVE']) {
    await ask(t, 'run', file, ...rows);
    await asked(how).catch(() => {});
    assert.deepEqual(index.state(), await asked(), how);
    const copied = index.state()?.copied ?? 0;
    assert.ok(index.copyBegunBeyond(copied - 1));
    assert.ok(!index.copyBegunBeyond(copied), 'what was begun has ended');
  }
});

test('neither waits for a pipe that has the name of an index, nor follows a link', async (t) => {
  const dir = await scratchDir(t);
  const [pipe = '', link = ''] = ['pipe', 'link'].map((name) => path.join(dir, name));
  execFileSync('mkfifo', [pipe]);
  const { file, index: linked } = await held(t);
  await symlink(`${file}-shm`, link);
  for (const name of [pipe, link]) {
    const index = new WalIndex(name);
    assert.equal(index.state(), null);
    index.close();
  }
  assert.ok(linked.state());
  await rename(`${file}-shm`, `${file}-moved`);
  await symlink(`${file}-moved`, `${file}-shm`);
  assert.equal(linked.sameFile(), false, 'SQLite follows no link to it');
});

test('tells a restarted log by its salts from the first commit on', async (t) => {
  const file = path.join(await scratchDir(t), 'a.db');
  const application = await TestDatabase.open(file);
  t.after(() => application.close());
  await application.run('PRAGMA journal_mode=WAL; CREATE TABLE data (text)');
  const index = new WalIndex(`${file}-shm`);
  t.after(() => index.close());
  const log = new WalFile(`${file}-wal`);
  t.after(() => log.close());
  const first = index.state();
  await application.all('PRAGMA wal_checkpoint(PASSIVE)');
  await application.run("INSERT INTO data VALUES ('a')");
  const state = index.state();
  const header = await log.header();
  assert.ok(first && state && header);
  assert.equal(state.salt1, first.salt1 + 1);
  assert.deepEqual([state.salt1, state.salt2], [header.salt1, header.salt2]);
});

test('is asked while others commit: the count only grows, and ends with what SQLite says', async (t) => {
  const { file, index, asked } = await held(t);
  const log = path.join(path.dirname(file), 'writer.log');
  await writeFile(log, '');
  const writing = start(t, 'write', file, log, '1', '300', '7');
  let last = 0;
  let ended = false;
  void writing.done
    .catch(() => {})
    .then(() => {
      ended = true;
    });
  let answers = 0;
  while (!ended) {
    for (let i = 0; i < 200; i++) {
      const state = index.state();
      if (!state) continue;
      answers++;
      assert.ok(state.frames >= last && state.copied <= state.frames, JSON.stringify(state));
      last = state.frames;
    }
    await new Promise(setImmediate);
  }
  await writing.done;
  assert.ok(answers > 1000);
  assert.deepEqual(index.state(), await asked());
});

test('leaves it to SQLite where the index is missing, half written, damaged, or of a kind that it does not know', async (t) => {
  const { file } = await held(t);
  const copy = path.join(path.dirname(file), 'copy-shm');
  assert.equal(new WalIndex(copy).state(), null);
  assert.equal(new WalIndex(copy).copyBegunBeyond(0), false);
  await copyFile(`${file}-shm`, copy);
  const whole = await readFile(copy);
  const stateOf = async (change: (bytes: Buffer) => Buffer | undefined) => {
    const bytes = Buffer.from(whole);
    await writeFile(copy, change(bytes) ?? bytes);
    const index = new WalIndex(copy);
    try {
      return index.state();
    } finally {
      index.close();
    }
  };
  const change =
    (...places: number[]) =>
    (bytes: Buffer) => {
      for (const at of places) bytes[at] = (bytes[at] ?? 0) ^ 1;
      return undefined;
    };
  assert.notEqual(await stateOf(() => undefined), null);
  assert.equal(await stateOf(change(0, 48)), null, 'another version');
  assert.equal(await stateOf(change(12, 60)), null, 'not initialized');
  assert.equal(await stateOf(change(16)), null, 'the first header was not changed yet');
  assert.equal(await stateOf(change(64)), null, 'the second one is another');
  assert.equal(await stateOf(change(16, 64)), null, 'both are alike and do not fit their checksum');
  assert.equal(await stateOf((bytes) => bytes.subarray(0, 100)), null, 'cut short');
});
