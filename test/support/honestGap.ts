/**
 * What a gap in the captured log must look like: the first generation promises nothing from the moment on from which log
 * could be lost, the second begins after it, and both are exact at the ends that they promise.
 */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type { LocateTarget, StoredBackup } from '../../src/datastores/datastore.js';
import { type Instant, instant } from '../../src/instant.js';
import type { SqliteBench } from './sqliteBench.js';
import { ask } from './sqlitePrograms.js';
import { readLog } from './sqliteWriters.js';
import type { Content } from './writtenStory.js';

export const onlyTheFirst = [['1', 'FIRST_BACKUP']];
export const thenAGap = [...onlyTheFirst, ['2', 'LOG_GAP']];

export function stretchesOf({ archive }: SqliteBench): string[][] {
  return archive.stretches.map(({ stretch, because }) => [stretch, because]);
}

/** After everything that was done before the call, and before everything that is done when it is answered. */
export async function momentBetween(): Promise<Instant> {
  const before = Date.now();
  // It tells whole milliseconds, rounded down.
  while (Date.now() <= before) await delay(1);
  return instant(Date.now() * 1000);
}

/** @param broken a moment from which on nothing more could be captured, with all that was lost committed after it */
export function assertHonestGap(bench: SqliteBench, broken: Instant): void {
  const { archive } = bench;
  assert.deepEqual(stretchesOf(bench), thenAGap);
  const covered = archive.coverage.get('1');
  const begins = archive.stretches[1]?.at;
  assert.ok(covered && begins);
  assert.ok(covered <= broken, `covered ${covered - broken} µs into the gap`);
  assert.ok(begins >= broken, `the new generation begins ${broken - begins} µs before the gap`);
}

let recoveries = 0;

/** The file of a recovery. */
export async function recoveredTo(bench: SqliteBench, target: LocateTarget, stretch: string): Promise<string> {
  const { archive, datastore } = bench;
  const cut = await archive.locate(datastore, target, stretch);
  const base = archive.baseFor(cut);
  assert.ok(base, `no backup for ${cut.position.text}`);
  return path.join(await archive.recover(datastore, cut, base, `edge-${++recoveries}`), 'database.db');
}

export async function contentsOf(t: TestContext, ...files: string[]): Promise<Content[]> {
  return ask<Content[]>(t, 'content', ...files);
}

/** The last instant that the first generation promises is what the database held before log was lost; answers with the file. */
export async function assertEndsWith(t: TestContext, bench: SqliteBench, before: Content | undefined): Promise<string> {
  const at = bench.archive.coverage.get('1');
  assert.ok(at && before);
  const file = await recoveredTo(bench, { at }, '1');
  assert.deepEqual(await contentsOf(t, file), [before]);
  return file;
}

/** The first instant that the second generation promises is the database as it is; for when nobody wrote since its backup. */
export async function assertBeginsAsItIs(t: TestContext, bench: SqliteBench, base: StoredBackup): Promise<void> {
  const { consistentAt, consistent } = base.facts;
  assert.equal(consistent.stretch, '2');
  const begins = bench.archive.stretches[1]?.at;
  assert.ok(begins && consistentAt >= begins, 'the backup of the new generation is of before it');
  const file = await recoveredTo(bench, { at: consistentAt }, '2');
  const [copy, source] = await contentsOf(t, file, bench.file);
  assert.deepEqual(copy, source);
}

/**
 * For a database that was written to all the while, by programs whose logs are in `dir`: the first generation holds all that
 * was acknowledged by the last instant it promises, that instant holds nothing that was begun later, and both are prefixes of
 * what the programs did.
 */
export async function assertEndsAsWritten(t: TestContext, bench: SqliteBench, dir: string): Promise<void> {
  const { archive, datastore, file } = bench;
  const at = archive.coverage.get('1');
  const last = archive.ofStretch('1').at(-1)?.last;
  const position = datastore.parsePosition(`1/${last}`);
  assert.ok(at && position);
  const files = [await recoveredTo(bench, { at }, '1'), await recoveredTo(bench, { position }, '1')];
  const found = await contentsOf(t, ...files);
  const logs = readdirSync(dir)
    .filter((name) => name.endsWith('.log'))
    .map((name) => path.join(dir, name));
  const chosen = JSON.stringify(found.map(({ n }) => n));
  const { hashes } = await ask<{ hashes: Record<number, string> }>(t, 'replay', file, chosen, ...logs);
  for (const { n, hash, check } of found) assert.deepEqual({ n, hash, check }, { n, hash: hashes[n], check: 'ok' });
  const lines = logs.flatMap(readLog);
  const [atTheInstant, whole] = found.map(({ n }) => n) as [number, number];
  for (const line of lines) {
    if ('acknowledged' in line && line.acknowledged <= at)
      assert.ok(line.n <= whole, `${line.n} was acknowledged ${at - line.acknowledged} µs before the end and is lost`);
    if ('begun' in line && line.begun > at)
      assert.ok(line.n > atTheInstant, `${line.n} was begun ${line.begun - at} µs after the end and is there`);
  }
}
