/**
 * What other programs do to a database in the tests of the SQLite driver, each in a process of its own: write
 * transactions and log them, checkpoint and vacuum, tell a database's content, replay the logs. The writers' logs are
 * the only oracle: what is asserted about a recovery comes from them and never from the archive.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { uriOfFile } from '../../src/datastores/sqlite/source/databasePaths.js';
import { inspectFile } from '../../src/datastores/sqlite/source/inspectFile.js';
import { Fault } from '../../src/errors.js';
import { TestDatabase } from './sqliteDatabase.js';
import { randomFrom, readLog, write, writeBoth, writeLarge } from './sqliteWriters.js';

export const setup = [
  'CREATE TABLE seq (id INTEGER PRIMARY KEY, n INTEGER NOT NULL)',
  'INSERT INTO seq VALUES (1, 0)',
  'CREATE TABLE ledger (n INTEGER PRIMARY KEY, writer INTEGER, k INTEGER)',
  'CREATE TABLE data (id INTEGER PRIMARY KEY, owner INTEGER, text TEXT, blob BLOB)',
  'CREATE INDEX data_by_owner ON data (owner, text)',
];

const [mode, ...words] = process.argv.slice(2);

if (mode === 'setup') await prepare(words);
if (mode === 'write') await write(words);
if (mode === 'large') await writeLarge(words);
if (mode === 'both') await writeBoth(words);
if (mode === 'disturb') await disturb(words);
if (mode === 'repeat') await repeat(words);
if (mode === 'hold') await hold(words);
if (mode === 'lock') await lock(words);
if (mode === 'run') await runSql(words);
if (mode === 'content') await content(words);
if (mode === 'replay') await replay(words);
if (mode === 'inspect') await inspect(words);

async function prepare([file = '', ...pragmas]: string[]): Promise<void> {
  const db = await TestDatabase.open(file);
  for (const pragma of pragmas) await db.run(pragma);
  for (const sql of setup) await db.run(sql);
  await db.close();
}

/** Checkpoints of every kind and VACUUM until told to stop by a closed stdin. */
async function disturb([file = '', seedText = '']: string[]): Promise<void> {
  const random = randomFrom(Number(seedText));
  const db = await TestDatabase.open(file);
  await db.run('PRAGMA busy_timeout=50');
  let stopped = false;
  process.stdin.on('end', () => {
    stopped = true;
  });
  process.stdin.resume();
  while (!stopped) {
    const kinds = [
      'wal_checkpoint(PASSIVE)',
      'wal_checkpoint(FULL)',
      'wal_checkpoint(RESTART)',
      'wal_checkpoint(TRUNCATE)',
    ];
    const sql =
      random() < 0.1
        ? random() < 0.5
          ? 'VACUUM'
          : 'PRAGMA incremental_vacuum'
        : `PRAGMA ${kinds[Math.floor(random() * kinds.length)]}`;
    await db.all(sql).catch(() => {});
    await delay(5 + Math.floor(random() * 40));
  }
  await db.close();
}

/** The same checkpoint again and again until told to stop by a closed stdin; prints how often it was not kept waiting in vain. */
async function repeat([file = '', sql = '', busyTimeout = '0']: string[]): Promise<void> {
  const db = await TestDatabase.open(file);
  await db.run(`PRAGMA busy_timeout=${busyTimeout}`);
  let stopped = false;
  process.stdin.on('end', () => {
    stopped = true;
  });
  process.stdin.resume();
  let done = 0;
  while (!stopped) {
    const [row] = await db.all(sql).catch(() => []);
    if (row?.busy === 0) done++;
    await delay(1);
  }
  process.stdout.write(JSON.stringify(done));
  await db.close();
}

/** Opens a read transaction in the middle of the log, says so, and keeps it until stdin closes: the log cannot restart. */
async function hold([file = '']: string[]): Promise<void> {
  const db = await TestDatabase.open(file);
  const other = await TestDatabase.open(file);
  await other.run('PRAGMA wal_autocheckpoint=0');
  for (let inTheLog = false, attempt = 1; !inTheLog; attempt++) {
    if (attempt > 200) throw new Error('the log is always copied before it can be held');
    // A transaction that changes no content; an update to the same value would not even be written.
    await other.run('BEGIN IMMEDIATE; UPDATE seq SET n = n + 1; UPDATE seq SET n = n - 1; COMMIT');
    await db.run('BEGIN');
    await db.all('SELECT * FROM sqlite_schema');
    // Frames that are still to be copied after the reader began were so before, so it reads from the log.
    const [state] = await other.all('PRAGMA wal_checkpoint=NOOP');
    inTheLog = Number(state?.checkpointed) < Number(state?.log);
    if (!inTheLog) await db.run('COMMIT');
  }
  process.stdout.write('held\n');
  for await (const _chunk of process.stdin);
  await db.run('COMMIT');
  await other.close();
  await db.close();
}

/** Holds the write lock of a database that is not in WAL mode until stdin closes. */
async function lock([file = '']: string[]): Promise<void> {
  const db = await TestDatabase.open(file);
  await db.run('BEGIN EXCLUSIVE');
  process.stdout.write('locked\n');
  for await (const _chunk of process.stdin);
  await db.run('COMMIT');
  await db.close();
}

async function runSql([file = '', ...statements]: string[]): Promise<void> {
  const db = await TestDatabase.open(file);
  const answers: unknown[] = [];
  for (const sql of statements) answers.push(await db.all(sql));
  process.stdout.write(JSON.stringify(answers));
  await db.close();
}

/** What each file holds. */
async function content(files: string[]): Promise<void> {
  const answers: unknown[] = [];
  for (const file of files) {
    const db = await TestDatabase.open(file);
    answers.push(await db.content());
    await db.close();
  }
  process.stdout.write(JSON.stringify(answers));
}

/** Executes what the writers logged, in the order that the ledger says, and hashes the content after chosen ones. */
async function replay([file = '', chosenText = '', ...logs]: string[]): Promise<void> {
  const source = await TestDatabase.open(file);
  const ledger = await source.all('SELECT n, writer, k FROM ledger ORDER BY n');
  await source.close();
  const statements = new Map<string, string[]>();
  for (const line of logs.flatMap(readLog)) {
    if ('sql' in line) statements.set(`${line.n}:${line.writer}:${line.k}`, line.sql);
  }
  const chosen = new Set(JSON.parse(chosenText) as number[]);
  const db = await TestDatabase.open(':memory:');
  for (const sql of setup) await db.run(sql);
  const hashes: Record<number, string> = {};
  if (chosen.has(0)) hashes[0] = await db.contentHash();
  for (const { n, writer, k } of ledger) {
    await db.run('BEGIN');
    for (const sql of statements.get(`${n}:${writer}:${k}`) ?? []) await db.run(sql);
    await db.run('COMMIT');
    if (chosen.has(Number(n))) hashes[Number(n)] = await db.contentHash();
  }
  process.stdout.write(JSON.stringify({ hashes, ledger }));
  await db.close();
}

/** Looks at files as a user without privileges, which root becomes first, and tells what was refused. */
async function inspect(files: string[]): Promise<void> {
  if (process.getuid?.() === 0) {
    const nobody = 65_534;
    process.setgroups?.([]);
    process.setgid?.(nobody);
    process.setuid?.(nobody);
  }
  const answers: (string | null)[] = [];
  for (const file of files) {
    const refusal = await inspectFile(uriOfFile(file), '').then(
      () => null,
      (error: unknown) => Fault.from(error).message,
    );
    answers.push(refusal);
  }
  process.stdout.write(JSON.stringify(answers));
}
