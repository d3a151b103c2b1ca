/**
 * Lets the next writer restart a log that has grown: all of it is read, copied into the database file, and no longer
 * needed. Where others are in the way, writers or a reader of an older state, nothing is lost.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { WakeablePause } from '../../wakeablePause.js';
import { BrokenLog } from '../source/walFile.js';
import { DiskRefuses } from '../source/walPins.js';
import type { FollowedDatabase, LogWatch } from './logWatch.js';

/** How long another program that copies the log is waited for, one that begins to, and how long between two questions, ms. */
const copyPatienceMs = 2000;
const copyBeginMs = 20;
const copyAskMs = 4;
/** Between two looks while the disk is waited for, ms; as far apart as those at a busy database. */
const lookMs = 8;
/** The disk takes as long for less as for this, bytes. */
const littleBytes = 1 << 20;
/** For how long anything is begun that only saves the writers a wait, ms. */
const savingMs = 2000;

export type RestartOutcome = 'restarted' | 'held by a reader' | 'others are busy' | 'refused by the disk';

/**
 * @param patienceMs how long the write lock is competed for, ms
 * @param isAwaited whether others wait for the end of this by now: then the writers are locked out the sooner, and longer
 * @throws BrokenLog
 */
export async function restartLog(
  watch: LogWatch,
  followed: FollowedDatabase,
  patienceMs: number,
  isAwaited: () => boolean,
): Promise<RestartOutcome> {
  try {
    return await copyAll(watch, followed, patienceMs, isAwaited);
  } catch (error) {
    if (error instanceof DiskRefuses) return 'refused by the disk';
    throw error;
  }
}

async function copyAll(
  watch: LogWatch,
  followed: FollowedDatabase,
  patienceMs: number,
  isAwaited: () => boolean,
): Promise<RestartOutcome> {
  const { main, pins } = followed;
  if (await watch.looksCopied()) return 'restarted';
  const until = performance.now() + savingMs;
  const pays: Pays = (left, before) =>
    left > littleBytes && left <= before / 2 && performance.now() < until && !isAwaited();
  if (await copyInRounds(watch, followed, pays)) return 'restarted';
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

/** Whether it pays to go on where so many bytes are left, and so many were before; the disk may be as slow as they are written. */
type Pays = (left: number, before: number) => boolean;

/**
 * Copies beside the writers, again and again as long as that leaves less for the time in which they are locked out, and
 * waits for the disk. Answers whether all is copied.
 */
async function copyInRounds(watch: LogWatch, followed: FollowedDatabase, pays: Pays): Promise<boolean> {
  const { host, pins, reading, request } = followed;
  let left = await uncopiedBytes(followed);
  let isMuch = pays(left, Number.POSITIVE_INFINITY);
  do {
    if (isMuch) await syncLog(watch, followed, left, pays);
    // What is copied from here on would explain a foreign write from before it.
    await watch.checkFiles();
    // It may be there already, where a reader was in the way of the copy before.
    if (reading.frames > pins.readsUpTo) await pins.movePin();
    if (await copyBeside(watch, followed)) return true;
    if (isMuch) await lookingMeanwhile(watch, host.sync(request.file));
    const before = left;
    left = await uncopiedBytes(followed);
    isMuch = pays(left, before);
  } while (isMuch);
  return pins.soft;
}

async function uncopiedBytes({ pins, reading }: FollowedDatabase): Promise<number> {
  const state = await pins.state();
  return state ? reading.uncopiedBytes(state) : 0;
}

/**
 * Whoever copies waits until the log is on disk, and that is likely to be one of the application's programs: where it writes
 * without waiting for the disk, hundreds of megabytes that none of them has waited for.
 */
async function syncLog(watch: LogWatch, { reading, wal }: FollowedDatabase, bytes: number, pays: Pays): Promise<void> {
  for (let before = bytes; ; ) {
    const from = reading.bytes;
    await lookingMeanwhile(watch, wal.sync());
    const since = reading.bytes - from;
    if (!pays(since, before)) return;
    before = since;
  }
}

/**
 * Goes on reading what is committed until `work` has ended, so that its times stay exact. Where it failed, whoever copies meets
 * the same, and tells.
 */
async function lookingMeanwhile(watch: LogWatch, work: Promise<void>): Promise<void> {
  const pause = new WakeablePause();
  let working = true;
  const end = () => {
    working = false;
    pause.wake();
  };
  void work.then(end, end);
  while (working) {
    await pause.wait(lookMs);
    if (working) await watch.look();
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
