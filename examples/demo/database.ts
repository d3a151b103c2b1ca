/** The few statements that the demo's processes run on SQLite files, each as its own client. */
import sqlite3 from 'sqlite3';

/** Makes the table that the application writes to. */
export function createOrders(database: sqlite3.Database, table: string): Promise<void> {
  return execute(
    database,
    `CREATE TABLE ${quoted(table)} (
      id INTEGER PRIMARY KEY,
      good TEXT NOT NULL,
      amount INTEGER NOT NULL,
      ordered_at TEXT NOT NULL
    )`,
  );
}

/** `orders`, or a name like it where a database of the user's own has such a table. */
export async function nameForOrders(file: string): Promise<string> {
  for (let number = 1; ; number += 1) {
    const name = number === 1 ? 'orders' : `orders_${number}`;
    const taken = await one(file, 'SELECT 1 FROM sqlite_schema WHERE name = ? COLLATE NOCASE', [name]);
    if (!taken) return name;
  }
}

export function openDatabase(file: string, mode = sqlite3.OPEN_READWRITE): Promise<sqlite3.Database> {
  return new Promise((resolve, reject) => {
    const database = new sqlite3.Database(file, mode, (error) => {
      if (error) return reject(error);
      database.configure('busyTimeout', 5_000);
      resolve(database);
    });
  });
}

export function execute(database: sqlite3.Database, sql: string, values: unknown[] = []): Promise<void> {
  return new Promise((resolve, reject) => database.run(sql, values, (error) => (error ? reject(error) : resolve())));
}

async function one(file: string, sql: string, values: unknown[] = []): Promise<Record<string, unknown> | undefined> {
  const database = await openDatabase(file);
  try {
    return await new Promise((resolve, reject) =>
      database.get(sql, values, (error, row) => (error ? reject(error) : resolve(row as Record<string, unknown>))),
    );
  } finally {
    await new Promise((resolve) => database.close(resolve));
  }
}

export async function countRows(file: string, table: string): Promise<number> {
  return Number((await one(file, `SELECT count(*) AS rows FROM ${quoted(table)}`))?.rows);
}

/** The mistake. Tells the instant just before the statement was sent. */
export async function deleteEverything(file: string, table: string): Promise<{ startedAt: string }> {
  const database = await openDatabase(file);
  const startedAt = new Date().toISOString();
  await execute(database, `DELETE FROM ${quoted(table)}`);
  await new Promise((resolve) => database.close(resolve));
  return { startedAt };
}

/** Of the user's own tables, the one whose loss would hurt most. */
export async function largestTable(file: string, otherwise: string): Promise<string> {
  const database = await openDatabase(file);
  const tables = await new Promise<{ name: string }[]>((resolve, reject) =>
    database.all(
      "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND sql NOT LIKE 'CREATE VIRTUAL%'",
      (error, rows) => (error ? reject(error) : resolve(rows as { name: string }[])),
    ),
  );
  await new Promise((resolve) => database.close(resolve));
  let largest = { name: otherwise, rows: -1 };
  for (const { name } of tables) {
    const rows = await countRows(file, name);
    if (rows > largest.rows) largest = { name, rows };
  }
  return largest.name;
}

/** A consistent copy, whatever its owner is doing with the original, which is only read. */
export async function copyDatabase(from: string, to: string): Promise<void> {
  const database = await openDatabase(from, sqlite3.OPEN_READONLY);
  await execute(database, 'VACUUM INTO ?', [to]);
  await new Promise((resolve) => database.close(resolve));
}

export function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}
