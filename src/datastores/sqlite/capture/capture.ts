/**
 * The service's side of a capture: receives what the engine process found, hands it to the archive in order and without
 * loss, and attaches again when the engine process had to be started anew.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { Fault } from '../../../errors.js';
import { type Instant, instant } from '../../../instant.js';
import type { InstanceHandle, LogPosition } from '../../../model.js';
import type { CaptureHealth, LogCapture, LogSink, ResumePoint } from '../../datastore.js';
import { abortable, SharedCalls } from '../../sharedCalls.js';
import type { Engine, SqliteLogger } from '../engine/engine.js';
import type { ArchiveEnd, CaptureTuning, FenceReply, Pace, SessionEvent } from '../follower/captureTerms.js';
import { parseContinuation } from '../formats/continuation.js';
import { position } from '../formats/position.js';
import { databaseFile, spoolDirectory } from '../source/databasePaths.js';
import { discardSegment } from '../spool/spool.js';
import { SegmentShipper } from './segmentShipper.js';

/** Between two attempts of a capture to attach again, however well its process is. */
const leastRestartMs = 100;
/** How much of the cap may wait when the source is taken up again; a short hold keeps the times of commits exact. */
const HELD_UNTIL = 7 / 8;
const LET_GO_UNTIL = 1 / 2;

/** How long a capture that stops waits for the archive, ms. */
const stopPatienceMs = 5000;

export class SqliteCapture implements LogCapture {
  private archived: ArchiveEnd | null;
  private queue: Promise<void> = Promise.resolve();
  /** Counts attachments: what an earlier engine process said is not acted upon, it will be said again. */
  private attachment = 0;
  private stopped = false;
  private sourceTrouble: string | null = null;
  /** What the operator should know although capture is well. */
  private notice: string | null = null;
  /** A generation of which a segment was damaged on its way; nothing more of it can be archived. */
  private abandoned: number | null = null;
  /** Something was not handed over; what follows it must wait for the next attachment, which begins with it. */
  private halted = false;
  /** The present attachment's, see Engine; 0 before the first one. */
  private listener = 0;
  private readonly shipper: SegmentShipper;
  /** Captured log that waits for the archive, bytes. */
  private waitingBytes = 0;
  private pace: Pace = 'follows';
  private readonly fences = new SharedCalls(() => this.archivedFence(false));

  private constructor(
    private readonly engine: Engine,
    private readonly instance: InstanceHandle,
    resume: ResumePoint | null,
    private readonly sink: LogSink,
    private readonly tuning: CaptureTuning,
    private readonly logger: SqliteLogger,
  ) {
    this.archived = resume && {
      generation: Number(resume.position.stretch),
      ordinal: resume.position.ordinal,
      coveredTo: resume.coveredTo,
      continuation: parseContinuation(resume.continuation),
    };
    this.shipper = new SegmentShipper(sink, tuning.hangMs, () => {
      this.setPace();
      this.sink.health(this.health());
    });
  }

  static async start(
    engine: Engine,
    instance: InstanceHandle,
    resume: ResumePoint | null,
    sink: LogSink,
    tuning: CaptureTuning,
    logger: SqliteLogger,
  ): Promise<SqliteCapture> {
    const capture = new SqliteCapture(engine, instance, resume, sink, tuning, logger);
    await capture.attach();
    return capture;
  }

  async fence(signal?: AbortSignal): Promise<{ coveredTo: Instant; position: LogPosition }> {
    const reply = await this.fenceReply(signal);
    return { coveredTo: instant(reply.coveredTo), position: position(reply.generation, reply.ordinal) };
  }

  /** A fence with what backups want to know. */
  async fenceReply(signal?: AbortSignal): Promise<FenceReply> {
    return this.fences.next(signal);
  }

  /** As fenceReply, after letting the WAL be restarted if that is possible at once. */
  async fenceAfterRestart(signal: AbortSignal): Promise<FenceReply> {
    return abortable(this.archivedFence(true), signal);
  }

  health(): CaptureHealth {
    const troubles = [this.shipper.trouble, this.engine.trouble, this.sourceTrouble].filter((each) => each !== null);
    const healthy = troubles.length === 0;
    const said = this.notice === null ? troubles : [...troubles, this.notice];
    const message = said.length > 0 ? said.join(' ') : null;
    const lag = this.archived ? Math.max(0, (Date.now() * 1000 - this.archived.coveredTo) / 1e6) : null;
    return { healthy, message, lagSeconds: this.sourceTrouble === null ? lag : null };
  }

  async stop(): Promise<void> {
    if (this.stopped) return;
    this.stopped = true;
    // What the last look finds is still handed over; what the archive refuses now waits in the spool.
    await this.engine.call('detach', { capture: this.instance.id }).catch((error: Error) => {
      this.logger.warn({ instance: this.instance.id, error: error.message }, 'A capture did not stop properly');
    });
    this.shipper.lastAttempt();
    // An archive that hangs keeps nobody: what it did not take is in the spool.
    await Promise.race([this.queue, delay(stopPatienceMs, undefined, { ref: false })]);
    this.engine.unlisten(this.listener);
  }

  private async archivedFence(restart: boolean): Promise<FenceReply> {
    if (this.stopped) throw new Fault('DATASTORE_UNAVAILABLE', 'The capture of this database was stopped');
    const attachment = this.attachment;
    const reply = await this.engine.call('fence', { capture: this.instance.id, restart });
    await this.shipper.untilShippedOrRefused(this.queue);
    if (attachment !== this.attachment || this.halted || reply.generation === this.abandoned) {
      throw new Fault('DATASTORE_UNAVAILABLE', 'The capture of this database had to start anew just now');
    }
    return reply;
  }

  private async attach(): Promise<void> {
    const mine = ++this.attachment;
    this.abandoned = null;
    this.halted = false;
    // A session begins by following, and with nothing to tell.
    this.pace = 'follows';
    this.setNotice(null);
    this.engine.unlisten(this.listener);
    this.listener = this.engine.listen({
      event: (event) => this.enqueue(mine, event),
      lost: () => void this.reattach(mine, 'The process that follows the log ended unexpectedly and is started again.'),
      troubled: () => this.sink.health(this.health()),
    });
    const { instance, listener, archived, tuning } = this;
    const file = databaseFile(instance);
    try {
      await this.engine.call('attach', {
        capture: instance.id,
        listener,
        file,
        spool: spoolDirectory(instance),
        archived,
        tuning,
      });
    } catch (error) {
      // The loss of the process that caused this is noticed by itself, and answered by attaching again.
      this.setSourceTrouble((error as Error).message);
    }
  }

  private async reattach(lost: number, trouble: string): Promise<void> {
    if (this.stopped || lost !== this.attachment) return;
    this.attachment++;
    this.setSourceTrouble(trouble);
    this.shipper.lastAttempt();
    await this.queue;
    const delayMs = Math.max(this.engine.restartDelayMs, leastRestartMs);
    await delay(delayMs);
    if (this.stopped) return;
    // After the wait, because any call starts a process that ended; in a new one there is nothing to detach.
    await this.engine.call('detach', { capture: this.instance.id }).catch(() => {});
    if (this.stopped) return;
    this.shipper.resume();
    await this.attach();
  }

  private enqueue(attachment: number, event: SessionEvent): void {
    if (event.type === 'health' || event.type === 'notice') {
      if (event.type === 'health') this.setSourceTrouble(event.message);
      else this.setNotice(event.message);
      return;
    }
    if (event.type === 'identified') {
      this.sink.identified(event.identity);
      return;
    }
    const bytes = event.type === 'sealed' ? event.sealed.bytes : 0;
    this.retain(bytes);
    this.queue = this.queue
      .then(() => (attachment === this.attachment && !this.halted ? this.handle(event) : undefined))
      .catch((error: Error) => {
        this.halted = true;
        this.logger.warn({ instance: this.instance.id, error: error.message }, 'An event of a capture was not handled');
        void this.reattach(
          attachment,
          `Captured log could not be handed over: ${error.message}. Capture starts again.`,
        );
      })
      .then(() => this.retain(-bytes));
  }

  private retain(bytes: number): void {
    this.waitingBytes += bytes;
    this.setPace();
  }

  /** Keeps captured log that waits for the archive from growing without end. */
  private setPace(): void {
    // By then the session may be another capture's.
    if (this.stopped) return;
    const { pace, waitingBytes } = this;
    const { retainBytes } = this.tuning;
    const capture = this.instance.id;
    if (waitingBytes > retainBytes && this.shipper.trouble !== null && pace !== 'let go') {
      this.pace = 'let go';
      const reason =
        `Captured log of more than ${Math.ceil(retainBytes / (1 << 20))} MiB waits for the archive, so capture let go of ` +
        'the database. It goes on by itself, with a new full backup if log was lost, once the archive takes the log again.';
      this.engine.call('letGo', { capture, reason }).catch(() => {});
    } else if (waitingBytes > retainBytes && pace === 'follows') {
      this.pace = 'is held';
      this.engine.call('hold', { capture }).catch(() => {});
    } else if (waitingBytes <= (pace === 'is held' ? HELD_UNTIL : LET_GO_UNTIL) * retainBytes && pace !== 'follows') {
      this.pace = 'follows';
      this.engine.call('takeUp', { capture }).catch(() => {});
    }
  }

  private async handle(event: Exclude<SessionEvent, { type: 'health' | 'notice' | 'identified' }>): Promise<void> {
    if (event.type === 'stretch') {
      const { generation, first, reason } = event;
      await this.shipper.insist(() =>
        this.sink.stretchStarted({
          stretch: String(generation),
          position: position(generation, 0),
          because: first ? 'FIRST_BACKUP' : 'LOG_GAP',
          reason,
          at: instant(event.at),
        }),
      );
      this.archived = { generation, ordinal: 0, coveredTo: this.archived?.coveredTo ?? 0, continuation: null };
    } else if (event.type === 'covered') {
      const { generation, ordinal, coveredTo } = event;
      const archived = this.archived;
      // Only what is archived whole can be covered: a refused segment may lie between.
      if (archived?.generation !== generation || archived.ordinal !== ordinal || generation === this.abandoned) return;
      this.archived = { ...archived, coveredTo: Math.max(coveredTo, archived.coveredTo) };
      this.sink.covered(position(generation, ordinal), instant(this.archived.coveredTo));
    } else if (event.sealed.generation === this.abandoned) {
      await discardSegment(event.sealed.file).catch(() => {});
    } else {
      const { generation, last, coveredTo, continuation } = event.sealed;
      const outcome = await this.shipper.ship(event.sealed);
      if (outcome === 'damaged') {
        this.abandoned = generation;
        const reason = 'A piece of captured log was damaged on the local disk before it could be archived.';
        // Not awaited: the engine's answer may stand behind events that wait for this one.
        const mine = this.attachment;
        this.engine
          .call('abandon', { capture: this.instance.id, reason })
          .catch(() => void this.reattach(mine, `${reason} Capture starts again.`));
      } else if (outcome === 'archived') {
        const { coveredTo: before } = this.archived ?? { coveredTo: 0 };
        this.archived = { generation, ordinal: last, coveredTo: Math.max(coveredTo, before), continuation };
      } else {
        this.halted = true;
      }
    }
  }

  private setSourceTrouble(message: string | null): void {
    if (this.sourceTrouble === message) return;
    this.sourceTrouble = message;
    this.sink.health(this.health());
  }

  private setNotice(message: string | null): void {
    if (this.notice === message) return;
    this.notice = message;
    this.sink.health(this.health());
  }
}
