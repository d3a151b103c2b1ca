/** What tests of an interrupted capture do again and again: write, hold the log, compare the newest point with the source. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import path from 'node:path';
import type { TestContext } from 'node:test';
import type { LogCapture } from '../../src/datastores/datastore.js';
import type { SqliteBench } from './sqliteBench.js';
import { ask, start, until } from './sqlitePrograms.js';

let writers = 0;

/** Each call is another writer, with tables of its own. */
export async function committed(
  t: TestContext,
  bench: SqliteBench,
  dir: string,
  name: string,
  count = 20,
): Promise<void> {
  await start(t, 'write', bench.file, path.join(dir, `${name}.log`), String(++writers), String(count), '7').done;
}

/** Another program that reads all the while, so that the log outlives its writers. */
export async function holding(
  t: TestContext,
  bench: Pick<SqliteBench, 'file'>,
): Promise<{ release(): Promise<unknown>; kill(): Promise<void> }> {
  const reader = start(t, 'hold', bench.file);
  if (reader.child.stdout) await once(reader.child.stdout, 'data');
  return {
    release: () => {
      reader.child.stdin?.end();
      return reader.done;
    },
    // Without a goodbye: the log stays as it is, as after the loss of power.
    kill: async () => {
      const closed = once(reader.child, 'close');
      reader.child.kill('SIGKILL');
      await closed;
    },
  };
}

/** Recovers to the newest position and compares everything with the source itself. */
export async function assertNewestIsExact(
  t: TestContext,
  bench: SqliteBench,
  capture: LogCapture,
  name: string,
): Promise<void> {
  const { position } = await capture.fence();
  const cut = await bench.archive.locate(bench.datastore, { position }, position.stretch);
  const base = bench.archive.baseFor(cut);
  assert.ok(base, `no backup in generation ${position.stretch}`);
  const home = await bench.archive.recover(bench.datastore, cut, base, name);
  const [source, copy] = await ask<{ hash: string; check: string }[]>(
    t,
    'content',
    bench.file,
    path.join(home, 'database.db'),
  );
  assert.equal(copy?.check, 'ok');
  assert.equal(copy?.hash, source?.hash);
}

/** Until the capture has the source again, after whatever happened to it. */
export async function attached(capture: LogCapture): Promise<void> {
  await until('the capture is attached', async () =>
    capture.fence().then(
      () => true,
      () => false,
    ),
  );
}
