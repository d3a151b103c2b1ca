/** A SQLite file as the demo's processes use it. */
import { fileURLToPath } from 'node:url';
import sqlite3 from 'sqlite3';
import type { Database, Row } from './database.js';

/** `uri` is `sqlite:///path`. */
export async function openSqlite(uri: string, mode = sqlite3.OPEN_READWRITE): Promise<Database> {
  const file = fileURLToPath(uri.replace(/^sqlite:/, 'file:'));
  const database = await new Promise<sqlite3.Database>((resolve, reject) => {
    const opened = new sqlite3.Database(file, mode, (error) => (error ? reject(error) : resolve(opened)));
  });
  database.configure('busyTimeout', 5_000);
  return {
    query: (sql, values = []) =>
      new Promise<Row[]>((resolve, reject) =>
        database.all(sql, values, (error, rows) => (error ? reject(error) : resolve(rows as Row[]))),
      ),
    tables:
      "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND sql NOT LIKE 'CREATE VIRTUAL%'",
    close: () => new Promise((resolve) => database.close(() => resolve())),
  };
}

/** A consistent copy, whatever its owner is doing with the original, which is only read. */
export async function copySqlite(from: string, to: string): Promise<void> {
  const database = await openSqlite(from, sqlite3.OPEN_READONLY);
  await database.query('VACUUM INTO $1', [to]).finally(() => database.close());
}
