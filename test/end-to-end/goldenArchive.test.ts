/**
 * A home that an earlier release left behind: catalog, key and storage as they were then. Every later release has to
 * open it and recover what was promised. A change of a stored format adds another such archive and keeps this one.
 */
import assert from 'node:assert/strict';
import { cp, mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import type { Golden } from '../support/makeGoldenArchive.js';
import { marksOf, recover } from '../support/recoverable.js';
import { scratchDir } from '../support/scratch.js';
import { startService } from '../support/service.js';

const archive = path.resolve(import.meta.dirname, '../../../test/fixtures/golden-archive');

test('the archive of 0.1 is recovered, by instants and by positions', async (t) => {
  const dir = await scratchDir(t);
  const home = path.join(dir, 'home');
  await mkdir(home);
  await cp(path.join(archive, 'storage'), path.join(home, 'storage'), { recursive: true });
  await cp(path.join(archive, 'secret.key'), path.join(home, 'secret.key'));
  await writeFile(path.join(home, 'catalog.db'), gunzipSync(await readFile(path.join(archive, 'catalog.db.gz'))));
  const golden = JSON.parse(await readFile(path.join(archive, 'expected.json'), 'utf8')) as Golden;
  assert.ok(golden.points.length >= 4);

  const service = await startService(t, { dir });
  for (const { pointInTime, position, marks } of golden.points) {
    for (const target of [{ pointInTime }, { position }]) {
      const instance = await recover(service, golden.instanceId, target);
      assert.deepEqual(await marksOf(instance), marks, JSON.stringify(target));
    }
  }
});
