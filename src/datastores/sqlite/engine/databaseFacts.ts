/** What SQLite itself says of a database file, asked in the engine process. */

import { setTimeout as delay } from 'node:timers/promises';
import sqlite3 from 'sqlite3';
import { Fault, invalidArgument } from '../../../errors.js';
import { Connection, isBusy, type OpenMode, type SqliteError } from '../source/connection.js';
import type { DatabaseFacts } from './engineProtocol.js';

const walAttempts = 50;

export function sqliteVersion(): string {
  return sqlite3.VERSION;
}

/** Sets journal mode WAL, or makes a new database in it. @throws Fault INSTANCE_NOT_READY while others hold locks */
export async function useWal(file: string, create: boolean): Promise<DatabaseFacts> {
  return withConnection(file, create ? 'create' : 'read-write', async (connection) => {
    for (let attempt = 1; ; attempt++) {
      try {
        const mode = await connection.value('PRAGMA journal_mode=WAL');
        if (mode === 'wal') return facts(connection);
        throw invalidArgument('connectionUri', `The database stays in journal mode ${mode}; WAL is not possible there`);
      } catch (error) {
        if (!isBusy(error)) throw error;
        if (attempt === walAttempts) {
          throw new Fault(
            'INSTANCE_NOT_READY',
            'Another program holds the database, so its journal mode cannot change',
            {
              hint: 'Pause what uses the database for a moment, or run PRAGMA journal_mode=WAL there, and try again.',
            },
          );
        }
        await delay(100);
      }
    }
  });
}

/** Looks at a restored copy without making a log or a lock beside it. @throws Fault RECOVERY_INCOMPLETE */
export async function examineCopy(file: string): Promise<DatabaseFacts> {
  try {
    return await withConnection(file, 'read-only', facts, '?immutable=1');
  } catch (error) {
    throw new Fault('RECOVERY_INCOMPLETE', 'SQLite cannot read the recovered database', { cause: error });
  }
}

async function facts(connection: Connection): Promise<DatabaseFacts> {
  // Every table and index is parsed by this, so a schema that cannot be read shows here.
  await connection.all('SELECT count(*), max(length(sql)) FROM sqlite_schema');
  return {
    version: sqliteVersion(),
    journalMode: String(await connection.value('PRAGMA journal_mode')),
    pageSize: Number(await connection.value('PRAGMA page_size')),
    dbPages: Number(await connection.value('PRAGMA page_count')),
  };
}

async function withConnection<T>(
  file: string,
  mode: OpenMode,
  work: (connection: Connection) => Promise<T>,
  query?: string,
): Promise<T> {
  const connection = await Connection.open(file, mode, query);
  try {
    return await work(connection);
  } catch (error) {
    const code = (error as SqliteError).code;
    if (code === 'SQLITE_NOTADB' || code === 'SQLITE_CORRUPT') {
      throw invalidArgument(
        'connectionUri',
        'SQLite cannot read this file: it is damaged, encrypted or no SQLite database',
      );
    }
    throw error;
  } finally {
    await connection.close();
  }
}
