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

export type RestartOutcome = 'restarted' | 'held by a reader' | 'others are busy';

/** `patienceMs`: how long the write lock is competed for, ms. @throws BrokenLog */
export async function restartLog(
  watch: LogWatch,
  followed: FollowedDatabase,
  patienceMs: number,
): Promise<RestartOutcome> {
  const { main, pins, reading } = followed;
  if (await watch.looksCopied()) return 'restarted';
  if (reading.frames > pins.readsUpTo) {
    // Most of the copying happens here, beside the writers.
    await pins.movePin();
    // What is copied here would explain a foreign write from before it.
    await watch.checkFiles();
    if (await copyBeside(watch, followed)) return 'restarted';
  }
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
