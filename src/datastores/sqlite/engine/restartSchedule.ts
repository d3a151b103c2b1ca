/**
 * When to let a grown log be restarted, again and again at growing distances; and the word to the operator where another
 * program's reader prevents it for long, or the disk, since nothing here stops the log from growing then.
 */
import type { CaptureTuning, SessionEvent } from '../follower/captureTerms.js';
import type { RestartOutcome } from '../follower/logRestart.js';
import type { WalFollower } from '../follower/walFollower.js';

/** How long a restart may compete for the write lock, ms. */
export const lockPatienceMs = 200;
/** Each restart locks the writers out for some milliseconds, while the rest of the log is copied and synchronised. */
const shortestPauseMs = 2000;
const longestPauseMs = 60_000;

export class RestartSchedule {
  // By the monotonic counter.
  private nextAt = 0;
  private pauseMs = shortestPauseMs;
  /** When a reader was first in the way, by the counter and for people; null while none is. */
  private heldSince: { counter: number; clock: string } | null = null;
  /** The size that was told last, MiB; 0 while no reader is told of. */
  private toldMiB = 0;
  private told: string | null = null;

  constructor(
    private readonly tuning: CaptureTuning,
    private readonly emit: (event: SessionEvent) => void,
  ) {}

  /** How large a log is to be restarted, bytes. */
  dueBytes(idle: boolean): number {
    const { restartBytes, idleRestartBytes } = this.tuning;
    return idle ? Math.min(restartBytes, idleRestartBytes) : restartBytes;
  }

  /** Tries if it is time. `isAwaited`: see restartLog. */
  async attempt(follower: WalFollower, now: number, isAwaited: () => boolean): Promise<void> {
    if (now < this.nextAt) return;
    let outcome: RestartOutcome | null = null;
    try {
      outcome = await follower.restart(lockPatienceMs, isAwaited);
    } finally {
      // Also where it failed: the next attachment finds the same log.
      this.pauseMs = outcome === 'restarted' ? shortestPauseMs : Math.min(this.pauseMs * 2, longestPauseMs);
      this.nextAt = performance.now() + this.pauseMs;
    }
    if (outcome === 'restarted') this.forget();
    else if (outcome === 'refused by the disk') this.refused();
    // Where writers are in the way nobody can see whether a reader is, too.
    else if (outcome === 'held by a reader') this.held(follower.logBytes, performance.now());
  }

  /** Nothing is in the way any more, or the log is another one. */
  forget(): void {
    this.heldSince = null;
    this.toldMiB = 0;
    this.tell(null);
  }

  private refused(): void {
    this.tell(
      'The write-ahead log cannot be copied into the database, because the disk under it is full or fails, so it does not ' +
        'shrink. No log is lost. Free space on the disk of the database; the log shrinks by itself then.',
    );
  }

  private tell(message: string | null): void {
    if (message === this.told) return;
    this.told = message;
    this.emit({ type: 'notice', message });
  }

  private held(bytes: number, now: number): void {
    this.heldSince ??= { counter: now, clock: new Date().toISOString() };
    if (now - this.heldSince.counter < this.tuning.heldTellMs) return;
    // Told again whenever it has doubled, not at every look; and not while it is small.
    const mebibytes = 2 ** Math.floor(Math.log2(bytes / (1 << 20)));
    if (mebibytes < 1 || mebibytes <= this.toldMiB) return;
    this.toldMiB = mebibytes;
    this.tell(
      `Another program has had a read transaction open on the database since ${this.heldSince.clock} or longer, which ` +
        `keeps its write-ahead log from shrinking: it has grown past ${mebibytes} MiB. No log is lost, but the disk may ` +
        'fill up. End that transaction or program; the log shrinks by itself then.',
    );
  }
}
