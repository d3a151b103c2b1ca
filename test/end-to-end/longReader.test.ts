/** Another program reads for long: its log cannot shrink, which loses nothing, and which the operator is told of. */
import assert from 'node:assert/strict';
import { rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { instance, takeBackup } from '../support/apiCalls.js';
import { LivingService } from '../support/livingService.js';
import { holding } from '../support/sqliteHistory.js';
import { start, until } from '../support/sqlitePrograms.js';

test('a reader that keeps the log from shrinking is told with since when and how large, until it ends', async (t) => {
  const living = await LivingService.start(t, null);
  const { service } = living;
  const held = await living.adopt(t, 'held', []);
  const free = await living.adopt(t, 'free', []);
  for (const { id } of [held, free]) await takeBackup(service, id);
  const archive = async ({ id }: { id: string }) => (await instance(service, id)).logArchive;
  const write = async ({ file }: { file: string }, writer: number, bytes: number) => {
    const log = path.join(service.dir, `${writer}-${bytes}.log`);
    await start(t, 'large', file, log, String(writer), String(bytes)).done;
    await rm(log);
  };
  const began = Date.now();
  const reader = await holding(t, held);
  const told = async (mebibytes: number) => {
    const { healthy, message } = await archive(held);
    assert.equal(healthy, true, 'no log is lost');
    return message?.includes(`grown past ${mebibytes} MiB`) === true;
  };
  await write(held, 1, 3_000_000);
  await write(free, 2, 3_000_000);
  await until('it is told', () => told(2));
  const { message } = await archive(held);
  const since = Date.parse(
    /read transaction open on the database since (\S+) or longer/.exec(message ?? '')?.[1] ?? '',
  );
  assert.ok(began <= since && since <= Date.now(), message ?? '');
  await write(held, 3, 6_000_000);
  await until('it is told that it has grown on', () => told(8));
  assert.ok((await archive(held)).message?.includes(new Date(since).toISOString()), 'it is the same reader');
  assert.equal((await archive(free)).message, null);

  await reader.release();
  await until('nothing is told any more', async () => (await archive(held)).message === null, 60);
  const { size } = await stat(`${held.file}-wal`);
  await write(held, 4, 1_000_000);
  assert.equal((await stat(`${held.file}-wal`)).size, size, 'the log was begun anew, not grown');
});
