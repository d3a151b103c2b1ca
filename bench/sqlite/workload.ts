/** The databases that are measured: tables of rows of a kilobyte, filled, and then changed at random places. */
import { randomBytes } from 'node:crypto';
import sqlite3 from 'sqlite3';

/** What the rows are made of: nothing LZ4 can shorten, or bytes of which it leaves about a quarter. */
export type Kind = '1:1' | '4:1';

const MIB = 1 << 20;
const ROW_BYTES = 1000;
/** Four rows fill a page of 4096 bytes but for what SQLite keeps about them. */
const ROWS_PER_PAGE = 4;
const CHANGES_PER_TRANSACTION = 20;
const FRAME_BYTES = 4096 + 24;

export class Database {
  private constructor(
    private readonly database: sqlite3.Database,
    private readonly material: Buffer,
  ) {}

  static async open(file: string, kind: Kind): Promise<Database> {
    const database = await new Promise<sqlite3.Database>((resolve, reject) => {
      const opened = new sqlite3.Database(file, (error) => (error ? reject(error) : resolve(opened)));
    });
    database.configure('busyTimeout', 10_000);
    const opened = new Database(database, material(kind));
    await opened.run('PRAGMA journal_mode = WAL');
    await opened.run('PRAGMA synchronous = NORMAL');
    return opened;
  }

  /** Makes the table, so large that the file has about `bytes`. */
  async fill(bytes: number): Promise<void> {
    await this.run('CREATE TABLE rows (id INTEGER PRIMARY KEY, body BLOB NOT NULL)');
    const rows = Math.floor(bytes / 4096) * ROWS_PER_PAGE;
    const perBatch = 50_000;
    for (let from = 0; from < rows; from += perBatch) {
      await this.run(
        `WITH RECURSIVE n(i) AS (SELECT ${from + 1} UNION ALL SELECT i + 1 FROM n WHERE i < ${Math.min(rows, from + perBatch)})
         INSERT INTO rows SELECT i, substr(?, 1 + abs(random()) % ${this.material.length - ROW_BYTES}, ${ROW_BYTES}) FROM n`,
        this.material,
      );
    }
    await this.checkpoint();
  }

  /** Transactions of random changes that write about `bytes` of log. */
  async change(bytes: number): Promise<void> {
    const rows = Number((await this.get('SELECT max(id) AS rows FROM rows')).rows);
    const transactions = Math.ceil(bytes / FRAME_BYTES / CHANGES_PER_TRANSACTION);
    for (let done = 0; done < transactions; done++) {
      const ids = Array.from({ length: CHANGES_PER_TRANSACTION }, () => 1 + Math.floor(Math.random() * rows));
      await this.run(
        `UPDATE rows SET body = substr(?, 1 + abs(random()) % ${this.material.length - ROW_BYTES}, ${ROW_BYTES})
         WHERE id IN (${ids.join(',')})`,
        this.material,
      );
    }
  }

  /** Brings everything into the main file, as far as nobody reads an older state. */
  async checkpoint(): Promise<void> {
    await this.get('PRAGMA wal_checkpoint(PASSIVE)');
  }

  run(sql: string, ...values: unknown[]): Promise<void> {
    return new Promise((resolve, reject) =>
      this.database.run(sql, values, (error) => (error ? reject(error) : resolve())),
    );
  }

  /** Several statements, one after the other. */
  script(sql: string): Promise<void> {
    return new Promise((resolve, reject) => this.database.exec(sql, (error) => (error ? reject(error) : resolve())));
  }

  get(sql: string): Promise<Record<string, unknown>> {
    return new Promise((resolve, reject) =>
      this.database.get<Record<string, unknown>>(sql, (error, row) => (error ? reject(error) : resolve(row ?? {}))),
    );
  }

  close(): Promise<void> {
    return new Promise((resolve, reject) => this.database.close((error) => (error ? reject(error) : resolve())));
  }
}

/** LZ4 looks back 64 KiB, so rows cut from many MiB hardly ever repeat one another. */
function material(kind: Kind): Buffer {
  const bytes = 8 * MIB;
  if (kind === '1:1') return randomBytes(bytes);
  const some = Buffer.alloc(bytes);
  for (let at = 0; at + 12 <= some.length; at += 64) randomBytes(12).copy(some, at);
  return some;
}
