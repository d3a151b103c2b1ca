/** A thin promise around sqlite3 for test programs, independent of the driver's own. */
import { createHash } from 'node:crypto';
import sqlite3 from 'sqlite3';

export class TestDatabase {
  private constructor(private readonly db: sqlite3.Database) {}

  static open(file: string): Promise<TestDatabase> {
    return new Promise((resolve, reject) => {
      const db = new sqlite3.Database(file, (error) => (error ? reject(error) : resolve(new TestDatabase(db))));
      db.configure('busyTimeout', 10_000);
    });
  }

  run(sql: string): Promise<void> {
    return new Promise((resolve, reject) => this.db.exec(sql, (error) => (error ? reject(error) : resolve())));
  }

  all(sql: string): Promise<Record<string, unknown>[]> {
    return new Promise((resolve, reject) => {
      this.db.all<Record<string, unknown>>(sql, (error, rows) => (error ? reject(error) : resolve(rows)));
    });
  }

  close(): Promise<void> {
    return new Promise((resolve, reject) => this.db.close((error) => (error ? reject(error) : resolve())));
  }

  /** The number of its last transaction, a hash of all it holds, and SQLite's own check. */
  async content(): Promise<{ n: number; hash: string; check: string }> {
    const [row] = await this.all('SELECT n FROM seq');
    const [check] = await this.all('PRAGMA integrity_check(1)');
    return { n: Number(row?.n), hash: await this.contentHash(), check: String(check?.integrity_check) };
  }

  /** A hash over the schema and every row of every table; Litestream's own tables do not count. */
  async contentHash(): Promise<string> {
    const hash = createHash('sha256');
    const schema = await this.all(
      "SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%' AND name NOT LIKE '~_litestream~_%' ESCAPE '~' ORDER BY name",
    );
    hash.update(JSON.stringify(schema));
    for (const { type, name } of schema) {
      if (type !== 'table') continue;
      for (const row of await this.all(`SELECT rowid AS rowid_, * FROM "${name}" ORDER BY rowid`)) {
        for (const value of Object.values(row))
          hash.update(Buffer.isBuffer(value) ? value : `|${typeof value}:${value}`);
      }
    }
    return hash.digest('hex');
  }
}
