/** Opening a catalog: its mode, its key, its version, and files that are none. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, test } from 'node:test';
import { migrations } from '../../migrations/migrations.js';
import { openCatalog } from '../../src/catalog/catalog.js';
import { closeConnections, openSqlite } from '../../src/catalog/openSqlite.js';
import { scratchDir } from '../support/scratch.js';
import { anInstance, rawSql, scratchCatalog } from './examples.js';

describe('opening a catalog', () => {
  test('creates a file that only its owner can read, in a directory that need not exist', async (t) => {
    const file = path.join(await scratchDir(t), 'new', 'catalog.sqlite');
    const catalog = await openCatalog({ file, secretKey: randomBytes(32) });
    await catalog.write((writer) => writer.insertInstance(anInstance({ id: 'i' })));
    for (const suffix of ['', '-wal', '-shm']) assert.equal((await stat(file + suffix)).mode & 0o777, 0o600, suffix);
    await catalog.close();
  });

  test('sets up both connections, and the reading one cannot write', async (t) => {
    const connections = await openSqlite(path.join(await scratchDir(t), 'catalog.sqlite'));
    try {
      for (const connection of [connections.writer, connections.reader]) {
        assert.deepEqual(await connection.query('PRAGMA journal_mode'), [{ journal_mode: 'wal' }]);
        assert.deepEqual(await connection.query('PRAGMA foreign_keys'), [{ foreign_keys: 1 }]);
        assert.deepEqual(await connection.query('PRAGMA synchronous'), [{ synchronous: 2 }]);
        assert.deepEqual(await connection.query('PRAGMA busy_timeout'), [{ timeout: 5000 }]);
      }
      await assert.rejects(connections.reader.query(`DELETE FROM "catalog_facts"`), /SQLITE_READONLY/);
    } finally {
      await closeConnections(connections);
    }
  });

  test('tells of the migrations it ran, the first time only', async (t) => {
    const file = path.join(await scratchDir(t), 'catalog.sqlite');
    const told: object[] = [];
    const options = { file, secretKey: randomBytes(32), logger: { info: (facts: object) => told.push(facts) } };
    await (await openCatalog(options)).close();
    const all = migrations.map((each) => ({ migration: new each().name }));
    assert.deepEqual(told, all);
    await (await openCatalog(options)).close();
    assert.equal(told.length, all.length);
  });

  test('with another key is refused before anything is read, and the right key still opens it', async (t) => {
    const { catalog, file, reopen } = await scratchCatalog(t);
    await catalog.write((writer) => writer.insertInstance(anInstance({ id: 'i' })));
    await catalog.close();
    await assert.rejects(openCatalog({ file, secretKey: randomBytes(32) }), {
      code: 'INVALID_ARGUMENT',
      message: /secret key is not the one/,
      hint: /key it was first started with/,
      details: { argument: 'secretKey' },
    });
    assert.equal((await (await reopen()).read.instance('i'))?.connectionUri, 'file:///secret-i.db');
  });

  test('with a key of the wrong length is refused, and no file is made', async (t) => {
    const file = path.join(await scratchDir(t), 'catalog.sqlite');
    await assert.rejects(openCatalog({ file, secretKey: randomBytes(16) }), { code: 'INVALID_ARGUMENT' });
    await assert.rejects(stat(file), { code: 'ENOENT' });
  });

  test('of a newer version is refused, unchanged', async (t) => {
    const { catalog, file } = await scratchCatalog(t);
    await catalog.close();
    await rawSql(
      file,
      `INSERT INTO "catalog_migrations" ("timestamp", "name") VALUES (99, 'FromTheFuture0000000000099')`,
    );
    await assert.rejects(openCatalog({ file, secretKey: randomBytes(32) }), {
      code: 'VERSION_MISMATCH',
      message: /newer version \(FromTheFuture0000000000099\)/,
      hint: /Start the version that wrote it/,
    });
  });

  test("refuses somebody else's database, and what is no database, without touching them", async (t) => {
    const dir = await scratchDir(t);
    const foreign = path.join(dir, 'orders.db');
    await rawSql(foreign, 'CREATE TABLE "orders" ("id" integer)');
    await assert.rejects(openCatalog({ file: foreign, secretKey: randomBytes(32) }), {
      code: 'INVALID_ARGUMENT',
      details: { argument: 'file' },
    });
    const tables = await rawSql(foreign, 'SELECT "name" FROM "sqlite_master"');
    assert.deepEqual(tables, [{ name: 'orders' }]);
    assert.deepEqual(await rawSql(foreign, 'PRAGMA journal_mode'), [{ journal_mode: 'delete' }]);

    const garbage = path.join(dir, 'garbage');
    await writeFile(garbage, 'not a database at all, but long enough to have a header of its own'.repeat(99));
    await assert.rejects(openCatalog({ file: garbage, secretKey: randomBytes(32) }), {
      code: 'INTERNAL',
      message: /cannot be opened/,
    });
  });
});
