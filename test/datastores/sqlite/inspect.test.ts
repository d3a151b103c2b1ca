/** Which URIs lead to a database that can be captured, and what is said of the others. */
import assert from 'node:assert/strict';
import { chmod, mkdir, readdir, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { createSqliteDatastore } from '../../../src/datastores/sqlite/sqliteDatastore.js';
import { scratchDir } from '../../support/scratch.js';
import { ask } from '../../support/sqlitePrograms.js';

test('a database is found under every spelling of its path, and left as it is', async (t) => {
  const dir = await scratchDir(t);
  const datastore = createSqliteDatastore();
  t.after(() => datastore.close());
  await ask(t, 'setup', path.join(dir, 'a b.db'));
  await symlink(path.join(dir, 'a b.db'), path.join(dir, 'link.db'));
  const spellings = [`${dir}/a%20b.db`, `${dir}/./x/../a%20b.db`, `${dir}/link.db`];
  const facts = await Promise.all(spellings.map((each) => datastore.inspect(`sqlite://${each}`)));
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
      datastore.inspect(uri),
      { code: 'INVALID_ARGUMENT', details: { argument: 'connectionUri' } },
      uri,
    );
  }
});

test('a database that may not be written to is refused', {
  skip: process.getuid?.() === 0 && 'root may write anywhere',
}, async (t) => {
  const dir = await scratchDir(t);
  const datastore = createSqliteDatastore();
  t.after(() => datastore.close());
  const file = path.join(dir, 'a.db');
  await ask(t, 'setup', file);
  await chmod(file, 0o400);
  await assert.rejects(datastore.inspect(`sqlite://${file}`), { code: 'INVALID_ARGUMENT' });
});
