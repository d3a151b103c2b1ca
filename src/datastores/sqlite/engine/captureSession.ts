/**
 * Follows one database's log in the engine process: decides when to look, when to finish a segment, when to let the WAL
 * be restarted, and starts anew when the log broke. What a look does is walFollower.ts.
 */
import { mkdir } from 'node:fs/promises';
import { Fault } from '../../../errors.js';
import { WakeablePause } from '../../wakeablePause.js';
import { attachFollower } from '../follower/attachFollower.js';
import type { AttachFrom } from '../follower/attachPoint.js';
import type { AttachRequest, CaptureHost, FenceReply, Pace } from '../follower/captureTerms.js';
import type { WalFollower } from '../follower/walFollower.js';
import { LogListener } from '../source/logListener.js';
import { BrokenLog } from '../source/walFile.js';
import {
  fullSpoolFault,
  fullSpoolTrouble,
  isFullDisk,
  logPastCap,
  outrunReason,
  pastCapReason,
  spoolHasRoom,
} from './fullSpool.js';
import { handOverLeftovers } from './handOverLeftovers.js';
import { lockPatienceMs, RestartSchedule } from './restartSchedule.js';
import { restRound } from './restRound.js';

const shortestRetryMs = 250;
const longestRetryMs = 5000;
/** How often is looked whether log that has to wait outgrows its cap, and a full disk is tried again. */
const fullRetryMs = 1000;
const idleMs = 2000;

export class CaptureSession {
  private follower: WalFollower | null = null;
  /** Where the next attachment goes on, or why it cannot. */
  private from: AttachFrom = { known: null, gap: null, unwatched: null };
  private readonly listener: LogListener;
  private queue: Promise<unknown> = Promise.resolve();
  private stopping = false;
  private pace: Pace = 'follows';
  private readonly pause = new WakeablePause();
  /** Ends a rest before its round does. */
  private endRest: () => void = () => {};
  /** Calls that run or wait in the queue: a look beside them would meet them half done. */
  private pending = 0;
  private spoolIsFull = false;
  private wait: number;
  // Moments of the monotonic counter: the clock may be set, and all of this has to go on.
  private lastFound = performance.now();
  private lastSlowPoll = Number.NEGATIVE_INFINITY;
  private retryMs = shortestRetryMs;
  private readonly restarts: RestartSchedule;
  /** What was told last; nothing yet, so that the first word after a start is always said. */
  private trouble: string | null | undefined;
  private readonly running: Promise<void>;
  private attempted: () => void = () => {};
  /** Resolves after the first attempt to attach, however it ended. */
  readonly ready = new Promise<void>((resolve) => {
    this.attempted = resolve;
  });

  /** `before`: what has to be over before the database and the spool may be touched. */
  constructor(
    private readonly request: AttachRequest,
    private readonly host: CaptureHost,
    before: Promise<void> = Promise.resolve(),
  ) {
    this.wait = request.tuning.pauseMs;
    this.listener = new LogListener(`${request.file}-wal`, () => this.poke());
    this.restarts = new RestartSchedule(request.tuning, host.emit);
    this.running = before.then(() => this.run()).finally(() => this.attempted());
  }

  /**
   * Looks until everything committed before the call is found and its time lies in the past, and finishes the segment.
   * @throws Fault DATASTORE_UNAVAILABLE
   */
  async fence(restart: boolean): Promise<FenceReply> {
    return this.exclusive(async () => {
      const follower = this.follower;
      if (!follower) throw this.unavailable();
      try {
        if (restart) await follower.restart(lockPatienceMs, () => true);
        return await follower.fence();
      } catch (error) {
        await this.recoverFrom(error);
        throw this.unavailable();
      }
    });
  }

  /** Gives up the present stretch, because what was captured of it cannot be archived. */
  async abandon(reason: string): Promise<void> {
    await this.exclusive(() => this.detachFor(new BrokenLog(reason)));
    this.poke();
  }

  /**
   * Reads no log until told to take it up again, but keeps what is written from being lost. What was committed meanwhile
   * gets less exact times.
   */
  hold(): void {
    this.pace = 'is held';
  }

  /** Lets go of the source until told to take it up again; the reason is told as trouble, and as a gap where the log does not go on. */
  async letGo(reason: string): Promise<void> {
    this.pace = 'let go';
    await this.exclusive(() => this.lapse(reason));
  }

  takeUp(): void {
    this.pace = 'follows';
    this.retryMs = shortestRetryMs;
    this.wake();
  }

  async stop(): Promise<void> {
    this.stopping = true;
    this.wake();
    await this.running;
  }

  private async run(): Promise<void> {
    const { pauseMs } = this.request.tuning;
    let prepared = false;
    while (!this.stopping) {
      await this.exclusive(async () => {
        try {
          if (this.pace === 'let go') return;
          if (!prepared) {
            await mkdir(this.request.spool, { recursive: true, mode: 0o700 });
            this.from.known = await handOverLeftovers(this.request, this.host.emit);
            prepared = true;
          }
          if (this.follower && this.pace === 'is held') return await this.holdUp(this.follower);
          if (this.follower) await this.turn(this.follower);
          else {
            if (this.spoolIsFull && !(await spoolHasRoom(this.request))) return;
            this.follower = await attachFollower(this.request, this.from, this.host);
            this.listener.listen();
            this.from = { known: null, gap: null, unwatched: null };
            this.retryMs = shortestRetryMs;
            this.wait = this.request.tuning.pauseMs;
          }
          this.spoolIsFull = false;
          this.tell(null);
        } catch (error) {
          await this.recoverFrom(error);
        }
      });
      this.attempted();
      if (this.stopping) break;
      // What was heard of during the turn sets the wait back, and is looked at first.
      const heard = this.wait <= pauseMs;
      if (this.spoolIsFull || this.pace === 'is held') await this.pause.wait(fullRetryMs);
      else if (!heard && this.listener.listens && this.follower?.atRest(this.restarts.dueBytes(true)))
        await this.rest(this.follower);
      else await this.pause.wait(this.follower ? this.wait : this.pace === 'let go' ? longestRetryMs : this.retryMs);
    }
    await this.exclusive(async () => {
      this.listener.stop();
      await this.follower?.rest(lockPatienceMs).catch((error: Error) => this.tell(error.message));
      await this.follower?.close();
      this.follower = null;
    });
  }

  private async turn(follower: WalFollower): Promise<void> {
    const { pauseMs, busyPauseMs, pollMs } = this.request.tuning;
    const quiet = follower.glance();
    const found = !quiet && (await follower.look());
    const now = performance.now();
    if (found) this.lastFound = now;
    // After something was heard of, looks come at growing distances: a commit becomes visible a while after its write.
    if (found) this.wait = this.listener.listens ? pauseMs : busyPauseMs;
    else this.wait = Math.min(this.wait * 2, pollMs);
    // Written before it was heard.
    if (this.listener.looked(this.wait)) this.wait = pauseMs;
    await follower.finishIfDue();
    await follower.noteIfAtRest();
    const idle = now - this.lastFound >= idleMs;
    if (follower.restartable(this.restarts.dueBytes(idle)))
      await this.restarts.attempt(follower, now, () => this.isAwaited());
    if (now - this.lastSlowPoll >= pollMs) {
      this.lastSlowPoll = now;
      if (quiet) follower.tellCoverage();
      else await follower.onSlowPoll();
    }
  }

  /** Somebody waits for the end of the present turn. */
  private isAwaited(): boolean {
    return this.stopping || this.pending > 1 || this.pace !== 'follows';
  }

  private async holdUp(follower: WalFollower): Promise<void> {
    if (!(await logPastCap(follower, this.request))) return;
    this.pace = 'let go';
    await this.lapse(outrunReason(this.request));
  }

  private async lapse(reason: string): Promise<void> {
    await this.detachFor(new Error(reason));
    this.from.unwatched = reason;
  }

  private async recoverFrom(error: unknown): Promise<void> {
    if (this.follower && isFullDisk(error) && !(await logPastCap(this.follower, this.request).catch(() => true))) {
      // The follower keeps the log, and reads on where it had to stop.
      this.spoolIsFull = true;
      this.tell(fullSpoolTrouble(this.request));
      return;
    }
    await this.detachFor(error);
  }

  private async detachFor(error: unknown): Promise<void> {
    const message = error instanceof Error ? error.message : String(error);
    const follower = this.follower;
    this.follower = null;
    this.listener.stop();
    this.restarts.forget();
    if (follower) {
      const known = await follower.abandon();
      this.from = { known, gap: error instanceof BrokenLog ? message : null, unwatched: null };
      if (isFullDisk(error)) this.from.unwatched = pastCapReason(this.request);
    } else if (error instanceof BrokenLog) this.from = { ...this.from, gap: message };
    this.retryMs = Math.min(this.retryMs * 2, longestRetryMs);
    this.spoolIsFull = isFullDisk(error);
    this.tell(this.spoolIsFull ? `${fullSpoolTrouble(this.request)} ${this.from.unwatched ?? ''}`.trimEnd() : message);
  }

  private poke(): void {
    this.endRest();
    // Every write of the application would be a try.
    if (this.spoolIsFull || this.pace === 'is held' || this.wait <= this.request.tuning.pauseMs) return;
    this.wait = this.request.tuning.pauseMs;
    this.pause.wake();
  }

  /** Until the file or its log changes, somebody wakes it, or a call finds something. */
  private async rest(follower: WalFollower): Promise<void> {
    const { ended, wake } = restRound(this.request.tuning.pollMs).rest(() => {
      if (this.pending > 0) return true;
      if (this.follower !== follower || !follower.glance()) return false;
      follower.tellCoverage();
      return true;
    });
    this.endRest = wake;
    await ended;
    this.endRest = () => {};
    this.wait = this.request.tuning.pauseMs;
  }

  private wake(): void {
    this.pause.wake();
    this.endRest();
  }

  private tell(message: string | null): void {
    if (message === this.trouble) return;
    this.trouble = message;
    this.host.emit({ type: 'health', message });
  }

  private unavailable(): Fault {
    if (this.spoolIsFull) return fullSpoolFault(this.request);
    return new Fault(
      'DATASTORE_UNAVAILABLE',
      `The log of the database cannot be read: ${this.trouble ?? 'not attached yet'}`,
      {
        hint: 'Look at the instance: its file must exist, be readable and writable by the service, and be in WAL mode.',
      },
    );
  }

  private exclusive<T>(work: () => Promise<T>): Promise<T> {
    this.pending++;
    const result = this.queue.then(work).finally(() => this.pending--);
    this.queue = result.catch(() => {});
    return result;
  }
}
