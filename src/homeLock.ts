/**
 * One service per PITR_HOME. The lock is SQLite's exclusive lock on a file of its own: the kernel lets go of it when
 * the holder dies, however it dies, so nothing stale ever has to be cleared by hand.
 */
import { closeSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import sqlite3 from 'sqlite3';
import type { Places } from './instances/places.js';

export class HomeInUse extends Error {}

export interface HomeLock {
  /** Records where the service can be reached, for the message that a second one gives. */
  publish(facts: { url: string }): void;
  release(): Promise<void>;
}

/** @throws HomeInUse saying who holds it */
export async function lockHome(places: Places): Promise<HomeLock> {
  makePrivately(places.lockFile);
  const database = await open(places.lockFile);
  try {
    await run(database, 'PRAGMA locking_mode = EXCLUSIVE');
    await run(database, 'BEGIN EXCLUSIVE');
  } catch (error) {
    await close(database);
    if ((error as NodeJS.ErrnoException).code !== 'SQLITE_BUSY') throw error;
    throw new HomeInUse(`${places.root} is in use by another pitr-gateway${describeHolder(places.holderFile)}.`);
  }
  const holder = { pid: process.pid, startedAt: new Date().toISOString() };
  const write = (facts: object) => writeFileSync(places.holderFile, JSON.stringify(facts), { mode: 0o600 });
  write(holder);
  return {
    publish: ({ url }) => write({ ...holder, url }),
    async release() {
      rmSync(places.holderFile, { force: true });
      await close(database);
    },
  };
}

/** Nobody else may open it: whoever reads a file can lock it too, and so keep the service from starting. */
function makePrivately(file: string): void {
  try {
    closeSync(openSync(file, 'wx', 0o600));
  } catch (error) {
    // Not even opened where it exists: closing it would drop a lock that this process holds on it.
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
}

function describeHolder(file: string): string {
  try {
    const { pid, url, startedAt } = JSON.parse(readFileSync(file, 'utf8'));
    return ` (process ${pid}${url ? ` at ${url}` : ''}, started ${startedAt})`;
  } catch {
    return ''; // It is only just starting.
  }
}

function open(file: string): Promise<sqlite3.Database> {
  return new Promise((resolve, reject) => {
    const database = new sqlite3.Database(file, (error) => (error ? reject(error) : resolve(database)));
  });
}

function run(database: sqlite3.Database, sql: string): Promise<void> {
  return new Promise((resolve, reject) => {
    database.exec(sql, (error) => (error ? reject(error) : resolve()));
  });
}

function close(database: sqlite3.Database): Promise<void> {
  return new Promise((resolve, reject) => database.close((error) => (error ? reject(error) : resolve())));
}
