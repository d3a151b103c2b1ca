/**
 * Lets the next writer restart a log that has grown: all of it is read, copied into the database file, and no longer
 * needed. Where others are in the way, writers or a reader of an older state, nothing is lost.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { BrokenLog } from '../source/walFile.js';
import type { FollowedDatabase, LogWatch } from './logWatch.js';

/** How long another program that copies the log is waited for, one that begins to, and how long between two questions, ms. */
const copyPatienceMs = 2000;
const copyBeginMs = 20;
const copyAskMs = 4;
/** How many rounds of copying there are at most beside the writers, and how short one is that leaves little for the next, ms. */
const mostRounds = 3;
const shortRoundMs = 60;
/** The same of a synchronisation of the log, ms. */
const shortSyncMs = 30;
/** Between two looks while the disk is waited for, ms; as far apart as those at a busy database. */
const lookMs = 8;

export type RestartOutcome = 'restarted' | 'held by a reader' | 'others are busy';

/** `patienceMs`: how long the write lock is competed for, ms. @throws BrokenLog */
export async function restartLog(
  watch: LogWatch,
  followed: FollowedDatabase,
  patienceMs: number,
): Promise<RestartOutcome> {
  const { main, pins } = followed;
  if (await watch.looksCopied()) return 'restarted';
  if (await copyInRounds(watch, followed)) return 'restarted';
  // Others write all the time; only locking them out for a moment makes the copy complete. What they write is read while
  // this waits for that, because they wait for what is read afterwards.
  if (!(await pins.lockWrites(patienceMs, () => watch.looksCopied())))
    return pins.soft ? 'restarted' : 'others are busy';
  let othersCopy: boolean;
  try {
    othersCopy = await watch.hurried(() => copyRest(watch, followed));
  } finally {
    await pins.unlockWrites();
  }
  await main.note();
  if (pins.soft) return 'restarted';
  // It copied as far as it might, and no program can have written since: what kept it is a reader.
  return othersCopy ? 'others are busy' : 'held by a reader';
}

/**
 * Copies beside the writers and waits for the disk, so that little is left for the time in which they are locked out: what was
 * written during the last round. Answers whether all is copied.
 */
async function copyInRounds(watch: LogWatch, followed: FollowedDatabase): Promise<boolean> {
  const { host, pins, reading, request } = followed;
  for (let round = 1; reading.frames > pins.readsUpTo; round++) {
    const began = performance.now();
    await syncLog(watch, followed);
    // Others may have copied all of it meanwhile.
    if (pins.soft || reading.frames <= pins.readsUpTo) break;
    // What is copied from here on would explain a foreign write from before it.
    await watch.checkFiles();
    await pins.movePin();
    if (await copyBeside(watch, followed)) return true;
    await lookingMeanwhile(watch, host.sync(request.file));
    if (round === mostRounds || performance.now() - began < shortRoundMs) break;
  }
  return pins.soft;
}

/**
 * Whoever copies waits until the log is on disk, and that is likely to be one of the application's programs: where it writes
 * without waiting for the disk, hundreds of megabytes that none of them has waited for. What is written meanwhile
 * is synchronised in turn as long as that becomes less.
 */
async function syncLog(watch: LogWatch, { wal }: FollowedDatabase): Promise<void> {
  for (let before = Number.POSITIVE_INFINITY; ; ) {
    const began = performance.now();
    await lookingMeanwhile(watch, wal.sync());
    const took = performance.now() - began;
    if (took < shortSyncMs || took > before / 2) return;
    before = took;
  }
}

/** Goes on reading what is committed until `work` is done, so that its times stay exact. */
async function lookingMeanwhile(watch: LogWatch, work: Promise<void>): Promise<void> {
  let working = true;
  const ended = work.finally(() => {
    working = false;
  });
  // Where a look fails nobody waits for it any more.
  ended.catch(() => {});
  for (;;) {
    await Promise.race([ended, delay(lookMs)]);
    if (!working) return;
    await watch.look();
  }
}

/**
 * Copies up to the pin, or waits for a program that does: one that commits tries it after each commit, and is likely to be
 * the first where there are many. Answers whether all is copied.
 */
async function copyBeside(watch: LogWatch, { pins }: FollowedDatabase): Promise<boolean> {
  const began = performance.now();
  while (!(await pins.checkpoint())) {
    const copied = (await pins.state())?.copied ?? 0;
    const patienceMs = pins.copyBegunBeyond(copied) ? copyPatienceMs : copyBeginMs;
    if (performance.now() - began >= patienceMs) break;
    await delay(copyAskMs);
    if (await watch.looksCopied()) return true;
  }
  return await watch.looksCopied();
}

/** Under the write lock. Answers whether another program copies just then. */
async function copyRest(watch: LogWatch, { pins, reading }: FollowedDatabase): Promise<boolean> {
  await watch.look();
  await watch.checkFiles();
  const { state, othersCopy } = await pins.copyAndPin();
  if (state?.frames !== reading.frames) throw new BrokenLog('the log changed although its writers were locked out');
  await watch.checkMain(state.copied);
  return othersCopy;
}
