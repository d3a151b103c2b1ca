/** The writing programs of the tests of SQLite: each transaction is logged before it is committed and when it was acknowledged. */
import { appendFileSync, readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { BracketClock } from '../../src/datastores/sqlite/follower/bracketClock.js';
import { TestDatabase } from './sqliteDatabase.js';

/** One line of a writer's log. `begun` is written before COMMIT, `acknowledged` after it returned. */
export type LogLine =
  | { n: number; writer: number; k: number; sql: string[]; begun: number }
  | { n: number; writer: number; k: number; acknowledged: number };

export async function write([
  file = '',
  log = '',
  writerText = '',
  countText = '',
  seedText = '',
]: string[]): Promise<void> {
  const writer = Number(writerText);
  const random = randomFrom(Number(seedText) * 31 + writer);
  const clock = new BracketClock();
  const db = await TestDatabase.open(file);
  await db.run('PRAGMA synchronous=NORMAL');
  for (let k = 1; k <= Number(countText); k++) {
    const rollBack = random() < 0.1;
    const statements = statementsOf(writer, k, random);
    await retrying(async () => {
      await db.run('BEGIN IMMEDIATE');
      try {
        const { n, sql } = await begunIn(db, '', writer, k, statements);
        for (const statement of sql.slice(1)) await db.run(statement);
        if (rollBack) {
          await db.run('ROLLBACK');
          return;
        }
        record(log, { n, writer, k, sql, begun: clock.now().lo });
        await db.run('COMMIT');
        record(log, { n, writer, k, acknowledged: clock.now().hi });
      } catch (error) {
        await db.run('ROLLBACK').catch(() => {});
        throw error;
      }
    });
    if (random() < 0.3) await delay(Math.floor(random() * 4));
  }
  await db.close();
}

/** One transaction of so many bytes, in statements of a megabyte. */
export async function writeLarge([file = '', log = '', writerText = '', bytesText = '']: string[]): Promise<void> {
  const writer = Number(writerText);
  const clock = new BracketClock();
  const db = await TestDatabase.open(file);
  const megabyte = `INSERT INTO data (owner, text, blob) VALUES (${writer}, 'large', CAST(printf('%.*c', 1000000, 'l') AS BLOB))`;
  const statements = Array.from({ length: Math.ceil(Number(bytesText) / 1_000_000) }, () => megabyte);
  await retrying(async () => {
    await db.run('BEGIN IMMEDIATE');
    try {
      const line = await begunIn(db, '', writer, 1, statements);
      for (const statement of line.sql.slice(1)) await db.run(statement);
      record(log, { ...line, begun: clock.now().lo });
      await db.run('COMMIT');
      record(log, { n: line.n, writer, k: 1, acknowledged: clock.now().hi });
    } catch (error) {
      await db.run('ROLLBACK').catch(() => {});
      throw error;
    }
  });
  await db.close();
}

/** Transactions over two files, of which the second is attached; each file has its own log. */
export async function writeBoth([
  file = '',
  log = '',
  writer = '',
  otherFile = '',
  otherLog = '',
  otherWriter = '',
  countText = '',
]: string[]): Promise<void> {
  const clock = new BracketClock();
  const db = await TestDatabase.open(file);
  await db.run(`ATTACH '${otherFile.replaceAll("'", "''")}' AS other`);
  const parts = [
    { schema: 'main.', log, writer: Number(writer) },
    { schema: 'other.', log: otherLog, writer: Number(otherWriter) },
  ];
  for (let k = 1; k <= Number(countText); k++) {
    await retrying(async () => {
      await db.run('BEGIN IMMEDIATE');
      try {
        const lines: Omit<Extract<LogLine, { sql: string[] }>, 'begun'>[] = [];
        for (const { schema, writer } of parts) {
          const statements = [`INSERT INTO data (owner, text) VALUES (${writer}, 'both ${k}')`];
          const line = await begunIn(db, schema, writer, k, statements);
          lines.push(line);
          for (const sql of line.sql.slice(1)) await db.run(sql.replace('INTO ', `INTO ${schema}`));
        }
        const begun = clock.now().lo;
        for (const [i, line] of lines.entries()) record(parts[i]?.log ?? '', { ...line, begun });
        await db.run('COMMIT');
        const acknowledged = clock.now().hi;
        for (const [i, { n, writer }] of lines.entries()) record(parts[i]?.log ?? '', { n, writer, k, acknowledged });
      } catch (error) {
        await db.run('ROLLBACK').catch(() => {});
        throw error;
      }
    });
  }
  await db.close();
}

/** Takes the next number; what is to be logged, of which the first statement is executed. */
async function begunIn(db: TestDatabase, schema: string, writer: number, k: number, statements: readonly string[]) {
  const [row] = await db.all(`UPDATE ${schema}seq SET n = n + 1 RETURNING n`);
  const n = Number(row?.n);
  const sql = [`UPDATE seq SET n = ${n}`, `INSERT INTO ledger VALUES (${n}, ${writer}, ${k})`, ...statements];
  return { n, writer, k, sql };
}

function statementsOf(writer: number, k: number, random: () => number): string[] {
  const below = (limit: number) => Math.floor(random() * limit);
  const letter = String.fromCharCode(97 + below(26));
  const sql: string[] = [];
  const insert = (length: number) =>
    sql.push(
      `INSERT INTO data (owner, text, blob) VALUES (${writer}, '${letter}${k}', CAST(printf('%.*c', ${length}, '${letter}') AS BLOB))`,
    );
  const kind = random();
  if (kind < 0.45) for (let i = below(4); i >= 0; i--) insert(below(300));
  else if (kind < 0.55) insert(20_000 + below(60_000));
  else if (kind < 0.75)
    sql.push(`UPDATE data SET text = '${letter}' || id WHERE owner = ${writer} AND id % 3 = ${below(3)}`);
  else if (kind < 0.85) sql.push(`DELETE FROM data WHERE owner = ${writer} AND id % 5 = ${below(5)}`);
  else if (kind < 0.93) {
    sql.push('SAVEPOINT here');
    insert(5000);
    sql.push('ROLLBACK TO here');
    insert(50);
    sql.push('RELEASE here');
  } else {
    sql.push(`CREATE TABLE w${writer}_${k} (a, b)`, `INSERT INTO w${writer}_${k} VALUES (${k}, '${letter}')`);
    if (random() < 0.5) sql.push(`DROP TABLE w${writer}_${k}`);
  }
  return sql;
}

export function readLog(file: string): LogLine[] {
  return readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line.endsWith('}'))
    .map((line) => JSON.parse(line) as LogLine);
}

function record(log: string, line: LogLine): void {
  appendFileSync(log, `${JSON.stringify(line)}\n`);
}

async function retrying(work: () => Promise<void>): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work();
    } catch (error) {
      if ((error as { code?: string }).code !== 'SQLITE_BUSY' || attempt === 200) throw error;
      await delay(5);
    }
  }
}

/** mulberry32, a small generator that gives the same numbers for the same seed everywhere. */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}
