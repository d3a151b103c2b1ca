/** The few statements that the demo's processes run, on SQLite and PostgreSQL alike, each as its own client. */
import { openPostgresql } from './postgresqlDatabase.js';
import { openSqlite } from './sqliteDatabase.js';

export type Row = Record<string, unknown>;

export interface Database {
  /** Placeholders are $1, $2, … in the order in which they appear. */
  query(sql: string, values?: unknown[]): Promise<Row[]>;
  /** The statement that lists the names of the user's own tables. */
  readonly tables: string;
  close(): Promise<void>;
}

export function openDatabase(uri: string): Promise<Database> {
  return uri.startsWith('sqlite:') ? openSqlite(uri) : openPostgresql(uri);
}

async function withDatabase<T>(uri: string, work: (database: Database) => Promise<T>): Promise<T> {
  const database = await openDatabase(uri);
  return await work(database).finally(() => database.close());
}

/** Makes the table that the application writes to. */
export async function createOrders(database: Database, table: string): Promise<void> {
  await database.query(
    `CREATE TABLE ${quoted(table)} (
      id INTEGER PRIMARY KEY,
      good TEXT NOT NULL,
      amount INTEGER NOT NULL,
      ordered_at TEXT NOT NULL
    )`,
  );
}

export async function insertOrder(database: Database, table: string, number: number, good: string): Promise<void> {
  await database.query(`INSERT INTO ${quoted(table)} (id, good, amount, ordered_at) VALUES ($1, $2, $3, $4)`, [
    number,
    good,
    1 + (number % 7),
    new Date().toISOString(),
  ]);
}

/** `orders`, or a name like it where a database of the user's own has such a table. */
export async function nameForOrders(uri: string): Promise<string> {
  const taken = new Set((await tableNames(uri)).map((name) => name.toLowerCase()));
  for (let number = 1; ; number += 1) {
    const name = number === 1 ? 'orders' : `orders_${number}`;
    if (!taken.has(name)) return name;
  }
}

export async function countRows(uri: string, table: string): Promise<number> {
  const [row] = await withDatabase(uri, (database) => database.query(`SELECT count(*) AS rows FROM ${quoted(table)}`));
  return Number(row?.rows);
}

/** The mistake. Tells the instant just before the statement was sent. */
export async function deleteEverything(uri: string, table: string): Promise<{ startedAt: string }> {
  return withDatabase(uri, async (database) => {
    const startedAt = new Date().toISOString();
    await database.query(`DELETE FROM ${quoted(table)}`);
    return { startedAt };
  });
}

/** Of the user's own tables, the one whose loss would hurt most. */
export async function largestTable(uri: string, otherwise: string): Promise<string> {
  let largest = { name: otherwise, rows: -1 };
  for (const name of await tableNames(uri)) {
    const rows = await countRows(uri, name);
    if (rows > largest.rows) largest = { name, rows };
  }
  return largest.name;
}

async function tableNames(uri: string): Promise<string[]> {
  const rows = await withDatabase(uri, (database) => database.query(database.tables));
  return rows.map(({ name }) => String(name));
}

function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}
