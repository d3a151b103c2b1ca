/**
 * A database with a known history: written by programs that keep their own logs, backed up in the middle, with an
 * instant in the quiet between two of them. What a recovery to that instant must hold is known from the logs alone.
 */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import path from 'node:path';
import type { TestContext } from 'node:test';
import {
  type BackupAnswer,
  createInstance,
  fileOf,
  instance,
  plan,
  type RecoveryAnswer,
  takeBackup,
} from './apiCalls.js';
import type { Service } from './service.js';
import { ask, start } from './sqlitePrograms.js';
import { readLog } from './sqliteWriters.js';

export interface Content {
  n: number;
  hash: string;
  check: string;
}

export interface Story {
  instanceId: string;
  /** The source's database file. */
  file: string;
  logs: string[];
  /** Before the first program, and between the first and the second. */
  bases: [BackupAnswer, BackupAnswer];
  /** After the second program, before the third. */
  quiet: string;
  /** What the database held then. */
  expected: { n: number; hash: string };
}

type T = Pick<TestContext, 'after'>;

/** @param onAnother whether an INCREMENTAL backup ends the second chapter, so that every step of a recovery acts */
export async function tellStory(t: T, service: Service, transactions = 30, onAnother = false): Promise<Story> {
  const { id, file } = await createInstance(service, 'source');
  await ask(t, 'setup', file);
  const logs = [1, 2, 3].map((writer) => path.join(service.dir, `${id}-${writer}.log`));
  const write = (writer: number) =>
    start(t, 'write', file, logs[writer - 1] ?? '', String(writer), String(transactions), '7').done;
  const older = await takeBackup(service, id);
  await write(1);
  const newer = await takeBackup(service, id);
  await write(2);
  if (onAnother) await takeBackup(service, id, 'INCREMENTAL');
  // The archive has seen all of it when this is answered; the instant after it has nothing else before it.
  await plan(service, id);
  const quiet = new Date(Date.now() + 1).toISOString();
  while (Date.now() <= Date.parse(quiet));
  const n = committed(logs.slice(0, 2));
  await write(3);
  await plan(service, id);
  const hash = await hashAfter(t, file, n, logs);
  return { instanceId: id, file, logs, bases: [older, newer], quiet, expected: { n, hash } };
}

/** How many transactions the programs saw committed. */
export function committed(logs: readonly string[]): number {
  return logs.flatMap(readLog).filter((line) => 'acknowledged' in line).length;
}

/** A hash of what the database held after transaction `n`, made by executing what the programs logged. */
export async function hashAfter(t: T, file: string, n: number, logs: readonly string[]): Promise<string> {
  const { hashes } = await ask<{ hashes: Record<number, string> }>(t, 'replay', file, JSON.stringify([n]), ...logs);
  return hashes[n] ?? '';
}

export async function contentOf(t: T, file: string): Promise<Content> {
  const [content] = await ask<Content[]>(t, 'content', file);
  assert.ok(content);
  return content;
}

/** The recovered database holds exactly what the programs had committed by the quiet instant. */
export async function assertExact(t: T, story: Story, recovery: RecoveryAnswer): Promise<void> {
  assert.equal(recovery.state, 'SUCCEEDED', JSON.stringify(recovery.error));
  assert.equal(recovery.instance?.state, 'ACTIVE');
  const content = await contentOf(t, fileOf(recovery.instance.endpoint));
  assert.deepEqual(content, { ...story.expected, check: 'ok' });
}

/** The recovered database is what the programs had committed after some transaction; answers which one. */
export async function assertPrefix(t: T, story: Story, recovery: RecoveryAnswer): Promise<number> {
  assert.equal(recovery.state, 'SUCCEEDED', JSON.stringify(recovery.error));
  const content = await contentOf(t, fileOf(recovery.instance?.endpoint));
  assert.equal(content.check, 'ok');
  assert.equal(content.hash, await hashAfter(t, story.file, content.n, story.logs), `not the state after ${content.n}`);
  return content.n;
}

/** Everything outside the API that a recovery could leave behind. */
export function traces(service: Service): { instances: string[]; scratch: string[]; processes: number[] } {
  const list = (dir: string) => readdirSync(path.join(service.home, dir)).sort();
  return {
    instances: list('instances'),
    // An automatic backup may be running.
    scratch: list('scratch').filter((name) => name.startsWith('recovery-')),
    processes: service.children().map(({ pid }) => pid),
  };
}

/** What a recovery must not change: the source's content and the health of its capture. */
export async function stateOfSource(t: T, service: Service, story: Story): Promise<unknown> {
  const { state, logArchive } = await instance(service, story.instanceId);
  return { state, logArchive, content: await contentOf(t, story.file) };
}
