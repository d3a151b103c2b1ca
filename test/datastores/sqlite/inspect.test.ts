/** Which URIs lead to a database that can be captured, and what is said of the others. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import type { BigIntStats } from 'node:fs';
import { chmod, mkdir, readdir, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { refuseLinks } from '../../../src/datastores/sqlite/source/databasePaths.js';
import { identityOf } from '../../../src/datastores/sqlite/source/mainFile.js';
import { createSqliteDatastore } from '../../../src/datastores/sqlite/sqlite.js';
import { scratchDir } from '../../support/scratch.js';
import { ask } from '../../support/sqlitePrograms.js';

test('a database is found under every spelling of its path, and left as it is', async (t) => {
  const dir = await scratchDir(t);
  const datastore = createSqliteDatastore();
  t.after(() => datastore.close());
  await ask(t, 'setup', path.join(dir, 'a b.db'));
  await symlink(path.join(dir, 'a b.db'), path.join(dir, 'link.db'));
  const spellings = [`${dir}/a%20b.db`, `${dir}/./x/../a%20b.db`, `${dir}/link.db`];
  const facts = await Promise.all(spellings.map((each) => datastore.inspect(`sqlite://${each}`, 'tenant')));
  assert.equal(new Set(facts.map(({ identity }) => identity)).size, 1);
  assert.equal(new Set(facts.map(({ connectionUri }) => connectionUri)).size, 1);
  assert.match(facts[0]?.notices[0] ?? '', /journal mode .* WAL/);
  assert.deepEqual((await readdir(dir)).sort(), ['a b.db', 'link.db']);
});

test('what is no database is refused, naming the argument', async (t) => {
  const dir = await scratchDir(t);
  const datastore = createSqliteDatastore();
  t.after(() => datastore.close());
  await writeFile(path.join(dir, 'garbage'), 'This is not a database, however long it is. '.repeat(10));
  await writeFile(path.join(dir, 'short'), 'SQLite format 3\0');
  await mkdir(path.join(dir, 'directory'));
  const refused = [
    `postgresql://${dir}/x`,
    'sqlite://relative.db',
    'sqlite://host/file.db',
    `sqlite://${dir}/directory`,
    `sqlite://${dir}/missing.db`,
    `sqlite://${dir}/garbage`,
    `sqlite://${dir}/short`,
    `sqlite://${dir}/%zz`,
    `sqlite://${dir}/garbage?mode=ro`,
  ];
  for (const uri of refused) {
    await assert.rejects(
      datastore.inspect(uri, 'tenant'),
      { code: 'INVALID_ARGUMENT', details: { argument: 'connectionUri' } },
      uri,
    );
  }
});

test('what SQLite keeps beside a database is never taken for a database of its own', async (t) => {
  const dir = await scratchDir(t);
  const datastore = createSqliteDatastore();
  t.after(() => datastore.close());
  await ask(t, 'setup', path.join(dir, 'a.db'));
  await symlink(path.join(dir, 'a.db-wal'), path.join(dir, 'elsewhere.db'));
  for (const name of ['a.db-wal', 'a.db-shm', 'a.db-journal']) {
    await writeFile(path.join(dir, name), '');
    await assert.rejects(
      datastore.inspect(`sqlite://${dir}/${name}`, 'tenant'),
      { code: 'INVALID_ARGUMENT', message: /belongs to the database .*a\.db$/ },
      name,
    );
  }
  await assert.rejects(datastore.inspect(`sqlite://${dir}/elsewhere.db`, 'tenant'), /belongs to the database/);
  // Without a database beside it the name is as good as any.
  await writeFile(path.join(dir, 'b.db-wal'), '');
  await datastore.inspect(`sqlite://${dir}/b.db-wal`, 'tenant');
});

test('a database that may not be written to is refused', async (t) => {
  const dir = await scratchDir(t);
  await chmod(dir, 0o755);
  const places = { open: 0o777, closed: 0o555 };
  const files: string[] = [];
  for (const [name, mode] of Object.entries(places)) {
    await mkdir(path.join(dir, name));
    for (const [file, fileMode] of [
      ['writable', 0o666],
      ['readable', 0o444],
    ] as const) {
      files.push(path.join(dir, name, file));
      await ask(t, 'setup', path.join(dir, name, file));
      await chmod(path.join(dir, name, file), fileMode);
    }
    await chmod(path.join(dir, name), mode);
  }
  const refusals = await ask<(string | null)[]>(t, 'inspect', ...files);
  const ofFile = /may not write to the database file/;
  assert.equal(refusals[0], null);
  assert.match(refusals[1] ?? '', ofFile);
  assert.match(refusals[2] ?? '', /may not write to the directory/);
  assert.match(refusals[3] ?? '', ofFile);
  // So that whoever is not root can remove it.
  await chmod(path.join(dir, 'closed'), 0o755);
});

test('a file is told from a later one that is given its number by the time of its birth', () => {
  const stats = { dev: 1n, ino: 2n, birthtimeNs: 3n } as BigIntStats;
  assert.equal(identityOf({ ...stats, ctimeNs: 9n }), identityOf(stats));
  assert.notEqual(identityOf({ ...stats, birthtimeNs: 4n }), identityOf(stats));
});

test('a pipe that was put in the place of a registered database is waited for by nobody', async (t) => {
  const file = path.join(await scratchDir(t), 'a.db');
  execFileSync('mkfifo', [file]);
  await assert.rejects(refuseLinks(file, path.dirname(file)), {
    code: 'DATASTORE_UNAVAILABLE',
    message: /is not a file/,
  });
});

test('a database beside which something else has the name of one of its files is refused', async (t) => {
  const dir = await scratchDir(t);
  const datastore = createSqliteDatastore();
  t.after(() => datastore.close());
  for (const ending of ['-wal', '-shm', '-journal']) {
    const file = path.join(dir, `a${ending}.db`);
    await ask(t, 'setup', file);
    execFileSync('mkfifo', [`${file}${ending}`]);
    await assert.rejects(datastore.inspect(`sqlite://${file}`, 'tenant'), {
      code: 'INVALID_ARGUMENT',
      message: /is not a file/,
    });
    await assert.rejects(refuseLinks(file, dir), { code: 'DATASTORE_UNAVAILABLE' });
  }
});

test('an empty file beside a log is refused, because SQLite would delete the log', async (t) => {
  const dir = await scratchDir(t);
  const datastore = createSqliteDatastore();
  t.after(() => datastore.close());
  await writeFile(path.join(dir, 'a.db'), '');
  await writeFile(path.join(dir, 'a.db-wal'), 'log');
  await assert.rejects(datastore.inspect(`sqlite://${dir}/a.db`, 'tenant'), {
    code: 'DATASTORE_UNAVAILABLE',
    message: /is empty, and there is a log/,
  });
  // An empty log is none.
  await writeFile(path.join(dir, 'a.db-wal'), '');
  await datastore.inspect(`sqlite://${dir}/a.db`, 'tenant');
});
