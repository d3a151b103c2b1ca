/**
 * Judges recoveries by what the writing programs logged themselves: a recovered database has to hold exactly what they
 * had committed up to the cut, and the cut has to be one that their own clocks allow: nothing begun after it is in, and
 * nothing acknowledged well before it is missing.
 */
import assert from 'node:assert/strict';
import path from 'node:path';
import type { TestContext } from 'node:test';
import type { StoredBackup } from '../../src/datastores/datastore.js';
import { widestBracket } from '../../src/datastores/sqlite/capture/segmentShipper.js';
import { segmentHead } from '../../src/datastores/sqlite/replay/storedSegment.js';
import { instant } from '../../src/instant.js';
import type { Cut } from '../../src/model.js';
import type { RecoveryAnswer } from './apiCalls.js';
import { type DirectoryArchive, stored } from './directoryArchive.js';
import type { SqliteBench } from './sqliteBench.js';
import { ask } from './sqlitePrograms.js';
import { type LogLine, readLog } from './sqliteWriters.js';

export interface Content {
  n: number;
  hash: string;
  check: string;
}

/** One line of commits, however many generations of log captured parts of it. */
export interface History {
  /** A database in which all of it is, to read the order from. */
  file: string;
  logs: string[];
}

export interface Asked {
  cut: Cut;
  /** The instant that was asked for, microseconds; null for a position. */
  at: number | null;
  history: History;
  /** What was acknowledged before: has to be kept. */
  atLeast?: number;
}

/** How far the clock may seem ahead to a capture just after it was set, µs: a reading of it is of whole milliseconds. */
const justSetMicros = 2000;
/** As wide as half of the brackets may be at most, µs: ten times what is documented for a busy database. */
const usualMicros = 100_000;

/**
 * Recovers to each cut, from any base that reaches it, and compares. Answers with what each recovery held. That nothing
 * kept is too young is compared only where the clock of the writers is the one of the capture.
 */
export async function assertRecoveriesExact(
  t: TestContext,
  bench: SqliteBench,
  asked: readonly Asked[],
  options: {
    random: () => number;
    compareTimes: boolean;
    /** Full backups with what stands on each; the archive's full ones where it is left out. */
    chains?: readonly (readonly StoredBackup[])[];
  },
): Promise<Content[]> {
  const { random, compareTimes } = options;
  const { archive, datastore } = bench;
  const chains = options.chains ?? archive.backups.map((backup) => [backup]);
  const files: string[] = [];
  for (const [i, { cut }] of asked.entries()) {
    const usable = chains.filter((chain) => {
      const consistent = chain.at(-1)?.facts.consistent;
      return consistent?.stretch === cut.position.stretch && consistent.ordinal <= cut.position.ordinal;
    });
    const [base, ...onIt] = usable[Math.floor(random() * usable.length)] ?? [];
    assert.ok(base, `no base for ${cut.position.text}`);
    files.push(path.join(await archive.recover(datastore, cut, base, `recovered-${i}`, onIt), 'database.db'));
  }
  const found = files.length > 0 ? await ask<Content[]>(t, 'content', ...files) : [];
  const judged: (Asked & { cut: JudgedCut; content: Content })[] = [];
  for (const [i, each] of asked.entries()) {
    const firstDroppedNotBefore = await firstDroppedIn(archive, each.cut);
    judged.push({ ...each, cut: { ...each.cut, firstDroppedNotBefore }, content: found[i] as Content });
  }
  await assertContentsExact(t, judged, compareTimes ? () => true : null);
  return found;
}

/** What a cut says of itself, as far as it can be judged. */
export type JudgedCut = Pick<Cut, 'lastKeptAt' | 'lastKeptNotBefore' | 'firstDroppedAt'> & {
  position: { text: string };
  /** With firstDroppedAt the bracket of the first transaction left out, where the archive itself can be asked. */
  firstDroppedNotBefore?: number;
};

/** What a recovery through the service says of the cut that it was planned to and reached. */
export function cutOf({ id, recoveredTo, plan }: RecoveryAnswer): JudgedCut {
  assert.ok(recoveredTo, `recovery ${id} does not say how far it reached`);
  const micros = (text: string | null) => (text === null ? null : instant(microsOf(text)));
  return {
    position: { text: recoveredTo.position },
    lastKeptAt: micros(recoveredTo.lastKeptAt),
    lastKeptNotBefore: micros(recoveredTo.lastKeptNotBefore),
    firstDroppedAt: micros(plan.cut.firstDroppedAt),
  };
}

/** Of an instant as the API writes it, or a test with milliseconds. */
export function microsOf(text: string): number {
  const [, fraction = ''] = /\.(\d+)Z$/.exec(text) ?? [];
  return Math.floor(Date.parse(text) / 1000) * 1_000_000 + Number(fraction.padEnd(6, '0'));
}

/**
 * Compares what recoveries held with what the programs logged. Of the commits that `timed` says yes to, because the clock
 * of the writers was the one of the capture then, none may be kept that began later; nothing may be missing whatever the
 * clock was, see keptBefore.
 */
export async function assertContentsExact(
  t: TestContext,
  judged: readonly (Omit<Asked, 'cut'> & { cut: JudgedCut; content: Content })[],
  timed: ((begun: number) => boolean) | null,
): Promise<void> {
  for (const history of new Set(judged.map((each) => each.history))) {
    const ofThis = judged.filter((each) => each.history === history);
    const { hashes, times } = await replayed(
      t,
      history,
      ofThis.map(({ content }) => content.n),
    );
    for (const { cut, at, atLeast, content } of ofThis) {
      const where = `${cut.position.text} (${at})`;
      assert.equal(content.check, 'ok', where);
      assert.equal(content.hash, hashes[content.n], `content at ${where} is not that after transaction ${content.n}`);
      assert.ok(content.n >= (atLeast ?? 0), `${where} holds ${content.n} transactions, ${atLeast} were acknowledged`);
      if (at !== null) {
        assert.ok((cut.lastKeptAt ?? 0) <= at && at < (cut.firstDroppedAt ?? Number.MAX_SAFE_INTEGER), where);
      }
      assertTimesAllow(cut, at, content.n, times, timed);
    }
  }
}

interface CommitTime {
  n: number;
  begun: number;
  acknowledged: number;
}

function assertTimesAllow(
  cut: JudgedCut,
  at: number | null,
  kept: number,
  times: readonly CommitTime[],
  timed: ((begun: number) => boolean) | null,
): void {
  const bound = keptBefore(cut, at);
  for (const { n, begun, acknowledged } of times) {
    if (n > kept) {
      const where = `${cut.position.text} (${at})`;
      assert.ok(acknowledged >= bound, `${where}: transaction ${n}, of ${acknowledged}, before ${bound}, is missing`);
    } else if (timed?.(begun)) {
      if (at !== null) assert.ok(begun <= at, `transaction ${n} began to commit after ${at}, but is kept`);
      if (n === kept && cut.lastKeptAt !== null) {
        assert.ok(begun <= cut.lastKeptAt, `transaction ${n} began ${begun - cut.lastKeptAt} µs after its tHi`);
      }
    }
  }
}

/**
 * Whatever was acknowledged before this has to be kept. What is left out became visible neither before the last kept
 * transaction nor before the first that is not. An instant is covered only by a look at or after it that left nothing
 * unread, so where nothing is left out, nothing committed by then is missing; otherwise the instant lies before the end
 * of the first missing one's bracket, and is refused inside one wider than `widestBracket`. All of it holds for a
 * capture whose clock is behind the writers' (no test sets one ahead), since it gives no transaction a later time for that.
 */
function keptBefore(cut: JudgedCut, at: number | null): number {
  const bounds = [cut.lastKeptNotBefore ?? 0, cut.firstDroppedNotBefore ?? 0];
  if (at !== null) bounds.push(at - (cut.firstDroppedAt === null ? justSetMicros : widestBracket));
  return Math.max(...bounds);
}

/** The first instant of the bracket that the archive gives the first transaction behind a cut; 0 where there is none. */
async function firstDroppedIn(archive: DirectoryArchive, { position: { stretch, ordinal } }: Cut): Promise<number> {
  const segment = archive.ofStretch(stretch).find(({ last }) => last > ordinal);
  if (!segment) return 0;
  const { after, transactions } = await segmentHead(stored(segment), stretch);
  return transactions.tLo(ordinal - after);
}

/** Executes the logs in the order that the history's file says. */
async function replayed(
  t: TestContext,
  { file, logs }: History,
  chosen: number[],
): Promise<{ hashes: Record<number, string>; times: CommitTime[] }> {
  const { hashes, ledger } = await ask<{
    hashes: Record<number, string>;
    ledger: { n: number; writer: number; k: number }[];
  }>(t, 'replay', file, JSON.stringify([...new Set(chosen)]), ...logs);
  const begun = new Map<string, number>();
  const acknowledged = new Map<string, number>();
  for (const line of logs.flatMap(readLog)) {
    if ('begun' in line) begun.set(keyOf(line), line.begun);
    else acknowledged.set(keyOf(line), line.acknowledged);
  }
  const times = ledger.map((entry) => ({
    n: entry.n,
    begun: begun.get(keyOf(entry)) ?? 0,
    // The last one of a program that was killed may be committed without it ever having heard so.
    acknowledged: acknowledged.get(keyOf(entry)) ?? Number.MAX_SAFE_INTEGER,
  }));
  return { hashes, times };
}

export function keyOf({ n, writer, k }: Pick<LogLine, 'n' | 'writer' | 'k'>): string {
  return `${n}:${writer}:${k}`;
}

/** Along a stretch the greatest time of each transaction never falls. */
export async function assertTimesRise(archive: DirectoryArchive, stretch: string): Promise<void> {
  let before = 0;
  for (const segment of archive.ofStretch(stretch)) {
    const head = await segmentHead(stored(segment), stretch);
    for (const { tLo, tHi } of head.transactions) {
      assert.ok(tLo <= tHi);
      assert.ok(tHi >= before, `times fall along stretch ${stretch}`);
      before = tHi;
    }
  }
}

/**
 * While somebody writes a bracket is some milliseconds wide (docs/sqlite.md). A loaded machine lets single ones grow, but
 * not most of them, so that most instants mean what was committed a moment before.
 */
export async function assertBracketsNarrow(archive: DirectoryArchive, stretch: string): Promise<void> {
  const widths: number[] = [];
  for (const segment of archive.ofStretch(stretch)) {
    for (const { tLo, tHi } of (await segmentHead(stored(segment), stretch)).transactions) widths.push(tHi - tLo);
  }
  const median = widths.sort((a, b) => a - b)[Math.floor(widths.length / 2)] ?? 0;
  assert.ok(median <= usualMicros, `half of the brackets of stretch ${stretch} are ${median} µs wide or more`);
}
