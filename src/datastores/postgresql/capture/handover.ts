/**
 * Moves received log into the archive: cuts a segment off when enough has come or has waited long enough, and hands one
 * after another to the sink until it takes them.
 */
import type { LogSink } from '../../datastore.js';
import { SharedCalls } from '../../sharedCalls.js';
import type { Cut, Progress, WalBuffer } from './walBuffer.js';

/** Half of a WAL file: large enough to compress well, small enough to be held in memory twice for each instance. */
const SEGMENT_BYTES = 8 * 1024 * 1024;
/** How long a commit may wait for its segment to fill. */
const SEGMENT_AGE_MS = 10_000;
/** The same where the source's commits wait for the archive: at most ten segments a second. */
const SYNCHRONOUS_AGE_MS = 100;
const RETRY_MS = 1_000;
/** A segment that the sink has neither taken nor refused for so long is taken for refused. */
const HANGS_MS = 60_000;

export interface HandoverEvents {
  /** The archive has everything up to here. */
  taken(progress: Progress): void;
  failed(error: unknown): void;
}

export class Handover {
  /** What arrives now; null between two connections. */
  buffer: WalBuffer | null = null;
  /** The source's commits wait for what is handed over. */
  synchronous = false;
  /** Cut off, and not yet taken by the sink. */
  private leaving: (Cut & { since: number }) | null = null;
  private refused = false;
  private readonly draining = new SharedCalls(() => this.drain());
  private timer: NodeJS.Timeout | null = null;
  private handedOverAt = 0;
  private closed = false;

  /** @param abandoned once it is aborted the sink is not called any more */
  constructor(
    private readonly sink: LogSink,
    private readonly events: HandoverEvents,
    private readonly abandoned: AbortSignal,
  ) {}

  /** Nothing waits that could be lost or sent twice. */
  get idle(): boolean {
    return this.buffer === null && this.leaving === null;
  }

  /** As much waits as may be held in memory. */
  get full(): boolean {
    return (this.buffer?.wholeBytes ?? 0) >= 2 * SEGMENT_BYTES;
  }

  /** The sink takes nothing. */
  get stuck(): boolean {
    return this.refused || (this.leaving !== null && performance.now() - this.leaving.since > HANGS_MS);
  }

  /** The smallest commit time that is not archived. */
  get oldestPending() {
    return this.leaving?.segment.firstCommitAt ?? this.buffer?.oldestPending ?? null;
  }

  /** Something came into the buffer. */
  arrived(): void {
    const { buffer } = this;
    if (!buffer || this.closed) return;
    if (buffer.pendingBytes >= SEGMENT_BYTES) this.attempt();
    else if (this.synchronous || buffer.oldestPending !== null) this.soon();
  }

  soon(): void {
    // What waits for its ordinary age when commits begin to wait for it must not.
    if (this.synchronous && this.timer) this.cancel();
    const age = Math.max(0, this.handedOverAt + SYNCHRONOUS_AGE_MS - performance.now());
    this.after(this.synchronous ? age : SEGMENT_AGE_MS);
  }

  /**
   * Hands everything received whole to the sink. Who asks while nothing was cut off yet shares the segment: a full buffer
   * is told of with each of the source's commits. What the sink refuses is offered again by itself.
   * @throws what the sink throws, or the signal's reason
   */
  now(signal?: AbortSignal): Promise<void> {
    return this.draining.next(signal);
  }

  /** From here on nothing is handed over by itself and nothing is tried again. */
  close(): void {
    this.closed = true;
    this.cancel();
  }

  /** Resolves when nothing is being handed over any more. */
  async settled(): Promise<void> {
    await this.draining.settled();
  }

  private cancel(): void {
    if (this.timer) clearTimeout(this.timer);
    this.timer = null;
  }

  /** What comes meanwhile waits until it is enough for a segment of its own. */
  private async drain(): Promise<void> {
    try {
      // An earlier call may have cut off what the sink refused.
      if (this.leaving) await this.handOver(this.leaving);
      const cut = this.buffer?.cut();
      if (!cut) return;
      // What comes next has all its time to fill a segment.
      this.cancel();
      this.leaving = { ...cut, since: performance.now() };
      await this.handOver(this.leaving);
    } catch (error) {
      this.events.failed(error);
      // Whoever asked may never ask again, and a source that has gone quiet sends nothing that would.
      this.cancel();
      this.after(RETRY_MS);
      throw error;
    }
  }

  private async handOver({ segment, progress, release }: Cut): Promise<void> {
    this.abandoned.throwIfAborted();
    try {
      await this.sink.segment(segment);
    } catch (error) {
      this.refused = true;
      throw error;
    }
    this.leaving = null;
    release();
    this.refused = false;
    this.handedOverAt = performance.now();
    this.events.taken(progress);
  }

  private after(milliseconds: number): void {
    if (this.closed) return;
    this.timer ??= setTimeout(() => {
      this.timer = null;
      this.attempt();
    }, milliseconds);
  }

  /** A failure is told and tried again where it happened. */
  private attempt(): void {
    void this.now().catch(() => {});
  }
}
