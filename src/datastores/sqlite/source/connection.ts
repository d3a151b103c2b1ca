/** SQLite connections with promises. Only the engine process imports this: the service process opens no database. */
import sqlite3 from 'sqlite3';
import { refuseEmptied } from './databasePaths.js';

export interface SqliteError extends Error {
  /** As SQLite calls it: SQLITE_BUSY, SQLITE_CANTOPEN … */
  code: string;
}

export function isBusy(error: unknown): boolean {
  const code = (error as SqliteError).code;
  return code === 'SQLITE_BUSY' || code === 'SQLITE_LOCKED';
}

/** The disk is full or fails. */
export function isOfDisk(error: unknown): boolean {
  return ['SQLITE_FULL', 'SQLITE_IOERR'].includes((error as SqliteError).code);
}

export type OpenMode = 'read-only' | 'read-write' | 'create';

export class Connection {
  private constructor(private readonly db: sqlite3.Database) {}

  /**
   * Waits for no lock: whoever calls decides how to retry.
   * @param query what else SQLite is told of the file, as a URI's query
   * @throws Fault DATASTORE_UNAVAILABLE see refuseEmptied
   */
  static async open(file: string, mode: OpenMode, query = ''): Promise<Connection> {
    refuseEmptied(file);
    const flags = {
      'read-only': sqlite3.OPEN_READONLY,
      'read-write': sqlite3.OPEN_READWRITE,
      create: sqlite3.OPEN_READWRITE | sqlite3.OPEN_CREATE,
    }[mode];
    const db = await new Promise<sqlite3.Database>((resolve, reject) => {
      const opened = new sqlite3.Database(fileUri(file, query), flags | sqlite3.OPEN_URI, (error) =>
        error ? reject(error) : resolve(opened),
      );
    });
    db.configure('busyTimeout', 0);
    const connection = new Connection(db);
    // Nothing here ever checkpoints as a side effect; the WAL is restarted on purpose or not at all.
    await connection.run('PRAGMA wal_autocheckpoint=0');
    return connection;
  }

  all(sql: string): Promise<Record<string, unknown>[]> {
    return new Promise((resolve, reject) => {
      this.db.all<Record<string, unknown>>(sql, (error, rows) => (error ? reject(error) : resolve(rows)));
    });
  }

  run(sql: string): Promise<void> {
    return new Promise((resolve, reject) => this.db.exec(sql, (error) => (error ? reject(error) : resolve())));
  }

  /** The single value that a statement answers with. */
  async value(sql: string): Promise<unknown> {
    return Object.values((await this.all(sql))[0] ?? {})[0];
  }

  close(): Promise<void> {
    return new Promise((resolve, reject) => this.db.close((error) => (error ? reject(error) : resolve())));
  }
}

/** A path as a file: URI, safe for names with `?`, `#` and `%` in them. */
function fileUri(file: string, query: string): string {
  return `file:${encodeURI(file).replaceAll('?', '%3f').replaceAll('#', '%23')}${query}`;
}
