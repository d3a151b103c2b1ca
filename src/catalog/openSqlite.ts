/** Opens and migrates the catalog's SQLite file: one connection that writes and one that can only read. */
import { mkdir, open } from 'node:fs/promises';
import path from 'node:path';
import sqlite3 from 'sqlite3';
import { DataSource, type DataSourceOptions } from 'typeorm';
import { migrations } from '../../migrations/migrations.js';
import { Fault, invalidArgument } from '../errors.js';
import { backupEntity } from './backupEntity.js';
import { factEntity } from './factEntity.js';
import { gapEntity } from './gapEntity.js';
import { instanceEntity } from './instanceEntity.js';
import { originEntity } from './originEntity.js';
import { outboxEntity } from './outboxEntity.js';
import { recoveryEntity } from './recoveryEntity.js';
import { segmentEntity } from './segmentEntity.js';
import { stepEntity } from './stepEntity.js';
import { stretchEntity } from './stretchEntity.js';

export const entities = [
  factEntity,
  instanceEntity,
  recoveryEntity,
  stepEntity,
  stretchEntity,
  segmentEntity,
  gapEntity,
  backupEntity,
  originEntity,
  outboxEntity,
];

export const migrationsTable = 'catalog_migrations';

/** How long a statement waits for another process, such as one that copies the file, before it fails. */
const BUSY_MILLISECONDS = 5000;

/** What each connection must answer once it is set up; journal_mode is the file's, the others the connection's. */
const REQUIRED_PRAGMAS: Record<string, string | number> = {
  journal_mode: 'wal',
  foreign_keys: 1,
  // FULL: an acknowledged write survives the loss of power.
  synchronous: 2,
  busy_timeout: BUSY_MILLISECONDS,
};

export interface CatalogLogger {
  info(facts: object, message: string): void;
}

export interface Connections {
  writer: DataSource;
  reader: DataSource;
}

/**
 * @throws Fault VERSION_MISMATCH for a catalog that a newer version of this service has migrated, INVALID_ARGUMENT
 * (file) for a database that is no catalog, INTERNAL where the file cannot be opened
 */
export async function openSqlite(file: string, logger?: CatalogLogger): Promise<Connections> {
  const writer = new DataSource({ ...commonOptions(file), migrations, migrationsTableName: migrationsTable });
  const reader = new DataSource({ ...commonOptions(file), flags: sqlite3.OPEN_READONLY } as DataSourceOptions);
  try {
    await createPrivately(file);
    await writer.initialize();
    await refuseForeign(writer, file);
    // Not before: the mode is written into the file, which may have been somebody else's.
    await writer.query('PRAGMA journal_mode = WAL');
    for (const { name } of await writer.runMigrations({ transaction: 'each' })) {
      logger?.info({ migration: name }, 'catalog migrated');
    }
    await reader.initialize();
    for (const connection of [writer, reader]) await setUp(connection);
    return { writer, reader };
  } catch (error) {
    await closeConnections({ writer, reader });
    if (error instanceof Fault) throw error;
    throw new Fault('INTERNAL', `The catalog ${file} cannot be opened`, {
      hint: 'Check that the file is a catalog of this service, that its directory is writable and that the disk is not full.',
      cause: error,
    });
  }
}

/** The writer goes last: as the last connection it folds the write-ahead log into the file. */
export async function closeConnections({ writer, reader }: Connections): Promise<void> {
  for (const connection of [reader, writer]) if (connection.isInitialized) await connection.destroy();
}

function commonOptions(file: string) {
  return {
    type: 'sqlite' as const,
    database: file,
    // TypeORM would switch on sqlite3's verbose mode, which makes a stack trace for every statement of the process.
    driver: { Database: sqlite3.Database, verbose: () => sqlite3 },
    entities,
    busyTimeout: BUSY_MILLISECONDS,
    synchronize: false,
    logging: false as const,
    // A condition that is undefined by mistake must not mean "every row".
    invalidWhereValuesBehavior: { null: 'throw' as const, undefined: 'throw' as const },
  };
}

/** SQLite gives its -wal and -shm files the mode of the database file. */
async function createPrivately(file: string): Promise<void> {
  await mkdir(path.dirname(file), { recursive: true, mode: 0o700 });
  await (await open(file, 'a', 0o600)).close();
}

async function refuseForeign(connection: DataSource, file: string): Promise<void> {
  const tables: { name: string }[] = await connection.query(
    `SELECT "name" FROM "sqlite_master" WHERE "type" = 'table' AND "name" NOT LIKE 'sqlite~_%' ESCAPE '~'`,
  );
  if (tables.length === 0) return;
  if (!tables.some(({ name }) => name === migrationsTable)) {
    throw invalidArgument(
      'file',
      `${file} is a database, but not a catalog of this service`,
      'Name another file; one that does not exist is created.',
    );
  }
  const known = new Set(connection.migrations.map((migration) => migration.name));
  const applied: { name: string }[] = await connection.query(`SELECT "name" FROM "${migrationsTable}"`);
  const unknown = applied.filter(({ name }) => !known.has(name)).map(({ name }) => name);
  if (unknown.length > 0) {
    throw new Fault('VERSION_MISMATCH', `The catalog ${file} was written by a newer version (${unknown.join(', ')})`, {
      hint: 'Start the version that wrote it or a newer one, or restore the copy of the catalog made before the upgrade.',
    });
  }
}

async function setUp(connection: DataSource): Promise<void> {
  await connection.query('PRAGMA synchronous = FULL');
  for (const [name, required] of Object.entries(REQUIRED_PRAGMAS)) {
    const rows: Record<string, string | number>[] = await connection.query(`PRAGMA ${name}`);
    const [found] = Object.values(rows[0] ?? {});
    // Without any one of these, an acknowledged write or a reference could be lost without a word.
    if (found !== required) throw new Error(`PRAGMA ${name} is ${found} instead of ${required}`);
  }
}
