/**
 * Progress of running recoveries: one meter per run, which keeps percent from falling and numbers every event, and the
 * hub that hands events to whoever watches. Everything is committed to the catalog before it is published, so neither
 * the number nor the percent can fall when a run is taken up again; byte updates come at most five times a second.
 */
import { EventEmitter, once } from 'node:events';
import type { ProgressRecord } from '../catalog/records.js';
import type { Clock, Instant } from '../instant.js';
import type { RecoveryState, RecoveryStepName } from '../model.js';
import type { ProgressEvent } from '../services.js';
import { isFinal } from './runState.js';

const PUBLISH_EVERY_MS = 200;

/** Where the steps begin on the scale of 0 to 100; the two that move bytes share what lies between. */
const BYTES_FROM = 2;
const BYTES_TO = 94;
const startsAt: Record<RecoveryStepName, number> = {
  RESERVE: 0,
  RESTORE_BASE: BYTES_FROM,
  APPLY_INCREMENTALS: BYTES_FROM,
  REPLAY_LOG: BYTES_FROM,
  VERIFY: BYTES_TO,
  ACTIVATE: 98,
};

export interface MeterOptions {
  recoveryId: string;
  /** As stored when the run begins or is taken up again. */
  from: ProgressRecord;
  bytesTotal: number;
  clock: Clock;
  hub: ProgressHub;
  store(progress: ProgressRecord): Promise<void>;
}

export class ProgressMeter {
  private progress: ProgressRecord;
  private readonly startedMs = performance.now();
  private readonly bytesAtStart: number;
  private publishedMs = Number.NEGATIVE_INFINITY;
  private storing: Promise<void> | null = null;
  /** Between steps: what is still read then moves nothing, so that no update can come after a change of state. */
  private quiet = true;

  constructor(private readonly options: MeterOptions) {
    const { from } = options;
    this.progress = { ...from, bytesTotal: options.bytesTotal };
    this.bytesAtStart = from.bytesDone;
  }

  /** The progress with which a change of step or state is committed; publish it afterwards with `committed`. */
  next(change: Partial<Pick<ProgressRecord, 'step' | 'message' | 'percent' | 'bytesDone'>>): ProgressRecord {
    const percent = change.percent ?? (change.step ? startsAt[change.step] : this.progress.percent);
    this.progress = {
      ...this.progress,
      ...change,
      bytesDone: Math.round(change.bytesDone ?? this.progress.bytesDone),
      sequence: this.progress.sequence + 1,
      percent: Math.max(this.progress.percent, percent),
      etaSeconds: this.eta(),
      at: this.options.clock(),
    };
    return this.progress;
  }

  /** Before a change is written: waits for an update under way, and lets none begin until `committed`. */
  async settle(): Promise<void> {
    this.quiet = true;
    await this.storing;
  }

  committed(state: RecoveryState, progress: ProgressRecord): void {
    this.quiet = state !== 'RUNNING';
    this.options.hub.publish({ recoveryId: this.options.recoveryId, state, progress });
  }

  /** Counts stored bytes as they are read; parts of bytes too. */
  addBytes(count: number): void {
    const bytesTotal = this.options.bytesTotal;
    const bytesDone = Math.min(this.progress.bytesDone + count, bytesTotal);
    const share = bytesTotal > 0 ? bytesDone / bytesTotal : 1;
    this.move({ bytesDone, percent: BYTES_FROM + share * (BYTES_TO - BYTES_FROM) });
  }

  /** A step that is done again counts its bytes again. */
  rewindBytes(to: number): void {
    this.progress = { ...this.progress, bytesDone: Math.min(to, this.progress.bytesDone) };
  }

  get bytesDone(): number {
    return this.progress.bytesDone;
  }

  replayedTo(at: Instant): void {
    this.move({ replayedTo: at });
  }

  message(text: string): void {
    this.move({ message: text });
  }

  private move(change: Partial<ProgressRecord>): void {
    const percent = Math.max(this.progress.percent, change.percent ?? 0);
    this.progress = { ...this.progress, ...change, percent };
    const now = performance.now();
    if (this.quiet || this.storing || now - this.publishedMs < PUBLISH_EVERY_MS) return;
    this.publishedMs = now;
    const progress = this.next({});
    const { recoveryId, hub, store } = this.options;
    this.storing = store(progress)
      .then(() => hub.publish({ recoveryId, state: 'RUNNING', progress }))
      .catch(() => {}) // The next change of step is stored with its transaction, and fails the run if it can't be.
      .finally(() => {
        this.storing = null;
      });
  }

  private eta(): number | null {
    const { bytesDone } = this.progress;
    const seconds = (performance.now() - this.startedMs) / 1000;
    const done = bytesDone - this.bytesAtStart;
    if (seconds < 1 || done <= 0) return null;
    return ((this.options.bytesTotal - bytesDone) * seconds) / done;
  }
}

/** Hands events to the watchers in this process. The catalog holds the truth; a watcher starts from there. */
export class ProgressHub {
  private readonly emitter = new EventEmitter();

  constructor() {
    this.emitter.setMaxListeners(0);
  }

  publish(event: ProgressEvent): void {
    this.emitter.emit(event.recoveryId, event);
  }

  /**
   * The present progress, then every newer event until a final state. A reader that is slower than the events gets the
   * newest of those it missed; only changes of state are never skipped.
   */
  async *watch(
    recoveryId: string,
    present: () => Promise<ProgressEvent>,
    signal: AbortSignal,
  ): AsyncGenerator<ProgressEvent> {
    const waiting: ProgressEvent[] = [];
    const arrived = new EventEmitter();
    const listener = (event: ProgressEvent): void => {
      const last = waiting.at(-1);
      if (last && last.state === event.state && last.progress.step === event.progress.step) waiting.pop();
      waiting.push(event);
      arrived.emit('event');
    };
    // Listen first, read second: what happens in between is seen twice rather than never.
    this.emitter.on(recoveryId, listener);
    try {
      const first = await present();
      yield first;
      if (isFinal(first.state)) return;
      let sequence = first.progress.sequence;
      while (!signal.aborted) {
        const event = waiting.shift();
        if (!event) {
          await once(arrived, 'event', { signal }).catch(() => {});
          continue;
        }
        if (event.progress.sequence <= sequence) continue;
        sequence = event.progress.sequence;
        yield event;
        if (isFinal(event.state)) return;
      }
    } finally {
      this.emitter.off(recoveryId, listener);
    }
  }
}
