/** Which programs are found where several majors lie side by side, and what is said where they are not. */
import assert from 'node:assert/strict';
import { chmod, mkdir, rename, rm, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { supportedMajors } from '../../../src/datastores/postgresql/formats/majors.js';
import { Binaries } from '../../../src/datastores/postgresql/server/binaries.js';
import { resolveRunAs } from '../../../src/datastores/postgresql/server/processes.js';
import type { Fault } from '../../../src/errors.js';
import { scratchDir } from '../../support/scratch.js';

/** Programs that say which version they are, as PostgreSQL's do; they can do nothing else. */
async function programs(directory: string, version: string, names = ['postgres', 'initdb']): Promise<string> {
  await mkdir(directory, { recursive: true });
  for (const name of names) {
    const file = path.join(directory, name);
    await writeFile(file, `#!/bin/sh\necho "${name} (PostgreSQL) ${version}"\n`);
    await chmod(file, 0o755);
  }
  return directory;
}

describe('PostgreSQL: programs of several majors', () => {
  const MAJOR = supportedMajors.at(-1) ?? 0;

  /** Of majors that no machine has. */
  async function side(t: TestContext) {
    const dir = await scratchDir(t);
    await chmod(dir, 0o755);
    return {
      dir,
      one: await programs(path.join(dir, 'one'), '91.2 (Debian 91.2-1)'),
      two: await programs(path.join(dir, 'two'), '92beta1'),
    };
  }

  test('each is found by what it says of itself, in the order of the directories', async (t) => {
    const { dir, one, two } = await side(t);
    const later = await programs(path.join(dir, 'later'), '91.9');
    const binaries = new Binaries([two, path.join(dir, 'none'), one, later]);
    assert.equal(await binaries.find('postgres', 91, null), path.join(one, 'postgres'));
    assert.equal(await binaries.find('initdb', 92, null), path.join(two, 'initdb'));
    assert.equal(await binaries.version(91, null), '91.2');
    assert.equal(await binaries.version(92, null), '92beta1');
  });

  test('one that is exchanged or removed is noticed without a restart', async (t) => {
    const { dir, one, two } = await side(t);
    const binaries = new Binaries([one, two]);
    await binaries.demand(91, null);
    await programs(one, '93.1');
    await utimes(path.join(one, 'postgres'), 1, 1);
    await assert.rejects(binaries.demand(91, null), { code: 'DATASTORE_NOT_SUPPORTED' });
    assert.equal(await binaries.version(93, null), '93.1');
    await rename(two, path.join(dir, 'elsewhere'));
    await assert.rejects(binaries.demand(92, null), (fault: Fault) => {
      assert.equal(fault.code, 'DATASTORE_NOT_SUPPORTED');
      assert.match(fault.message, /^postgres of PostgreSQL 92 is not installed here$/);
      assert.match(
        fault.hint ?? '',
        /^Install PostgreSQL 92 beside the service, or name its directory in PITR_POSTGRESQL_BIN/,
      );
      return true;
    });
  });

  test('a major without all of its programs is none, and the newest whole one is chosen', async (t) => {
    const { dir } = await side(t);
    const newest = await programs(path.join(dir, 'newest'), `${MAJOR}.1`, ['postgres']);
    const binaries = new Binaries([newest]);
    await binaries.find('postgres', MAJOR, null);
    await programs(newest, `${MAJOR}.1`);
    assert.equal(await binaries.newest(null), MAJOR);
    await rm(path.join(newest, 'initdb'));
    // The machine may have that major itself.
    const left = await binaries.newest(null).catch(() => null);
    assert.ok(left !== MAJOR || !(await binaries.find('initdb', MAJOR, null)).startsWith(dir));
  });

  test('one that does not run is passed over, and told where there is no other', async (t) => {
    const { one, two } = await side(t);
    await writeFile(path.join(one, 'postgres'), '#!/bin/sh\necho "a library is missing" >&2\nexit 127\n');
    await writeFile(path.join(one, 'initdb'), '#!/bin/sh\necho "no version"\n');
    await programs(two, '91.4');
    assert.equal(await new Binaries([one, two]).find('postgres', 91, null), path.join(two, 'postgres'));
    assert.equal(await new Binaries([one, two]).find('initdb', 91, null), path.join(two, 'initdb'));
    await assert.rejects(new Binaries([one]).find('postgres', 91, null), /does not run: .*a library is missing/);
  });

  test('one that PostgreSQL’s user cannot reach is none', {
    skip: process.getuid?.() !== 0 && 'not root',
  }, async (t) => {
    const { dir, one } = await side(t);
    const binaries = new Binaries([one]);
    await chmod(dir, 0o700);
    await binaries.find('postgres', 91, null);
    await assert.rejects(binaries.find('postgres', 91, resolveRunAs('nobody')), /does not run: .*Permission denied/);
    await chmod(dir, 0o755);
    await binaries.find('postgres', 91, resolveRunAs('nobody'));
  });
});
