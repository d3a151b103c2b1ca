/** Migrations: forwards, backwards, forwards again; and the schema they make is the one that the entities describe. */
import assert from 'node:assert/strict';
import path from 'node:path';
import { describe, test } from 'node:test';
import { DataSource } from 'typeorm';
import { openCatalog } from '../../src/catalog/catalog.js';
import { closeConnections, entities, migrationsTable, openSqlite } from '../../src/catalog/openSqlite.js';
import { scratchDir } from '../support/scratch.js';
import { aBackup, anEvent, anInstance, aRecovery, aSegment, aStretch, completion, pendingSteps } from './examples.js';

/** Every table and index as SQL, but the one TypeORM keeps for itself. White space and SQL's defaults do not count. */
async function schema(source: DataSource): Promise<string[]> {
  const rows: { sql: string }[] = await source.query(
    `SELECT "sql" FROM "sqlite_master" WHERE "sql" IS NOT NULL AND "tbl_name" NOT IN (?, 'sqlite_sequence') ORDER BY "type", "name"`,
    [migrationsTable],
  );
  return rows.map(({ sql }) =>
    sql
      .replace(/\s+/g, ' ')
      .replace(/\( /g, '(')
      .replace(/ ON (DELETE|UPDATE) NO ACTION/g, '')
      .trim(),
  );
}

describe('migrations', () => {
  test('up, down with rows in every table, up: the same schema, and nothing left in between', async (t) => {
    const file = path.join(await scratchDir(t), 'catalog.sqlite');
    const secretKey = Buffer.alloc(32, 7);
    const catalog = await openCatalog({ file, secretKey });
    await catalog.write(async (writer) => {
      await writer.insertInstance(anInstance({ id: 'i' }));
      await writer.insertStretch(aStretch({ id: 's', instanceId: 'i' }));
      await writer.insertSegment(aSegment({ stretchId: 's', after: 0, last: 1 }));
      await writer.insertBackup(aBackup({ id: 'b', instanceId: 'i', ...completion('s') }));
      await writer.insertRecovery(aRecovery({ id: 'r', sourceId: 'i' }), pendingSteps('r'));
      const made = { origin: 'RECOVERED', recoveredFromId: 'i', createdByRecoveryId: 'r' } as const;
      await writer.insertInstance(anInstance({ id: 'j', ...made }));
      await writer.updateRecovery('r', { targetId: 'j' });
      await writer.insertRecoveryOrigin({ recoveryId: 'r', requestId: 'q', traceparent: null });
      await writer.insertOutbox(anEvent({ id: 'e' }));
    });
    await catalog.close();

    const connections = await openSqlite(file);
    const { writer } = connections;
    try {
      const up = await schema(writer);
      assert.ok(up.length > 8);
      for (const _ of writer.migrations) await writer.undoLastMigration();
      assert.deepEqual(await schema(writer), []);
      await writer.runMigrations();
      assert.deepEqual(await schema(writer), up);
      assert.deepEqual(await writer.query('PRAGMA foreign_key_check'), []);
    } finally {
      await closeConnections(connections);
    }
    await (await openCatalog({ file, secretKey })).close();
  });

  test('make what the entities describe, to the letter of every constraint', async (t) => {
    const dir = await scratchDir(t);
    const migrated = await openSqlite(path.join(dir, 'migrated.sqlite'));
    const described = new DataSource({ type: 'sqlite', database: path.join(dir, 'described.sqlite'), entities });
    try {
      const { upQueries, downQueries } = await migrated.writer.driver.createSchemaBuilder().log();
      assert.deepEqual([upQueries, downQueries], [[], []]);

      await described.initialize();
      await described.synchronize();
      assert.deepEqual(await schema(migrated.writer), await schema(described));
    } finally {
      await closeConnections(migrated);
      if (described.isInitialized) await described.destroy();
    }
  });
});
