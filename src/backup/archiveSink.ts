/** Takes over what one instance's capture produces: segments into storage and catalog, gaps and health into the catalog. */
import type { Logger } from 'pino';
import { uuidv7 } from 'uuidv7';
import type { Catalog, CatalogWriter, StretchRecord } from '../catalog/records.js';
import type { CapturedSegment, CaptureHealth, LogSink, ResumePoint, StretchStart } from '../datastores/datastore.js';
import { Fault } from '../errors.js';
import { archiveHealth } from '../events/happenings.js';
import type { Outbox } from '../events/outbox.js';
import type { Clock, Instant } from '../instant.js';
import type { LogPosition } from '../model.js';
import type { ObjectPipeline } from '../storage/pipeline.js';
import { segmentKey } from './objectKeys.js';

export interface ArchiveSinkOptions {
  catalog: Catalog;
  pipeline: ObjectPipeline;
  clock: Clock;
  logger: Logger;
  outbox: Outbox;
  /** A new stretch of log begins: an instance that had a backup needs a new full one. */
  onInterrupted(instanceId: string): void;
}

export class ArchiveSink implements LogSink {
  /** How far the archive reaches, ahead of the catalog by at most a flush. */
  coveredTo: Instant | null = null;
  private stretch: StretchRecord | null = null;
  private risen = false;
  private reported: string | undefined;
  private readonly closing = new AbortController();
  /** The newest transaction, and so the last to end. */
  private recorded: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly instanceId: string,
    private readonly options: ArchiveSinkOptions,
  ) {}

  /**
   * From here on nothing is taken over, whatever a capture that was too slow to be waited for still hands over. Once this
   * has resolved the resume point stands still for whoever goes on there. Never rejects.
   */
  async close(): Promise<void> {
    this.closing.abort(new Fault('INSTANCE_NOT_READY', 'This capture of the log was let go'));
    await this.recorded.catch(() => {});
  }

  /** Where capture has to go on; null where nothing was captured yet. */
  async resumePoint(): Promise<ResumePoint | null> {
    const stretch = await this.options.catalog.read.newestStretch(this.instanceId);
    this.adopt(stretch);
    if (!stretch || stretch.endsBecause !== null) return null;
    return {
      position: { stretch: stretch.name, ordinal: stretch.lastOrdinal, text: stretch.lastText },
      coveredTo: stretch.coveredTo ?? stretch.startedAt,
      continuation: stretch.continuation,
    };
  }

  identified(identity: string): void {
    this.unwaited(this.adoptIdentity(identity), 'the identity was not recorded');
  }

  async stretchStarted(start: StretchStart): Promise<void> {
    const { logger } = this.options;
    const record = await this.record(async (writer) => {
      const known = await writer.stretchByName(this.instanceId, start.stretch);
      if (known) return known;
      const previous = await writer.newestStretch(this.instanceId);
      if (previous && previous.endsBecause === null) {
        const because = start.because === 'FIRST_BACKUP' ? 'LOG_GAP' : start.because;
        await writer.updateStretch(previous.id, { endsBecause: because });
      }
      const record: StretchRecord = {
        id: uuidv7(),
        instanceId: this.instanceId,
        name: start.stretch,
        number: (previous?.number ?? 0) + 1,
        startsBecause: start.because,
        reason: start.reason,
        startedAt: start.at,
        startOrdinal: start.position.ordinal,
        endsBecause: null,
        lastOrdinal: start.position.ordinal,
        lastText: start.position.text,
        coveredTo: null,
        segments: 0,
        bytes: 0,
        continuation: {},
      };
      await writer.insertStretch(record);
      return record;
    });
    this.adopt(record);
    logger.info(
      { instanceId: this.instanceId, stretch: start.stretch, reason: start.reason },
      'a stretch of log begins',
    );
    this.options.onInterrupted(this.instanceId);
  }

  async segment(segment: CapturedSegment): Promise<void> {
    const stretch = this.current(segment.last.stretch);
    if (segment.last.ordinal <= stretch.lastOrdinal) return; // Handed over again after a crash.
    const { pipeline } = this.options;
    const { signal } = this.closing;
    const key = segmentKey(this.instanceId, segment);
    const object = await (segment.packed
      ? pipeline.writeBlocks(key, segment.open(), signal)
      : pipeline.write(key, segment.open(), signal));
    await this.record(async (writer) => {
      await writer.insertSegment({
        stretchId: stretch.id,
        after: segment.after.ordinal,
        last: segment.last.ordinal,
        lastText: segment.last.text,
        transactions: segment.transactions,
        firstCommitAt: segment.firstCommitAt,
        lastCommitAt: segment.lastCommitAt,
        latestCommitAt: segment.lastCommitAt,
        coveredTo: segment.coveredTo,
        object,
      });
      await writer.updateStretch(stretch.id, { continuation: segment.continuation });
    });
    stretch.lastOrdinal = segment.last.ordinal;
    stretch.lastText = segment.last.text;
    if (this.coveredTo === null || segment.coveredTo > this.coveredTo) this.coveredTo = segment.coveredTo;
  }

  covered(position: LogPosition, coveredTo: Instant): void {
    // An observation counts only at the end of what is archived: one that is ahead of the log waits for its segment.
    if (position.stretch !== this.stretch?.name || position.ordinal !== this.stretch.lastOrdinal) return;
    if (this.coveredTo !== null && coveredTo <= this.coveredTo) return;
    this.coveredTo = coveredTo;
    this.risen = true;
  }

  async unobserved(stretchName: string, from: Instant, to: Instant): Promise<void> {
    const stretch = this.current(stretchName);
    await this.record(async (writer) => {
      const known = await writer.gaps([stretch.id]);
      if (known.some((gap) => gap.from === from && gap.to === to)) return; // Told again after a crash.
      await writer.insertGap({
        id: uuidv7(),
        stretchId: stretch.id,
        from,
        to,
        after: null,
        last: null,
        because: 'LOG_GAP',
      });
    });
  }

  health(health: CaptureHealth): void {
    if (this.closing.signal.aborted) return;
    const archiveMessage = health.message ?? (health.healthy ? null : 'Log capture is not healthy');
    const told = `${health.healthy} ${archiveMessage}`;
    if (told === this.reported) return;
    this.reported = told;
    const { logger, outbox, clock } = this.options;
    logger[archiveMessage === null ? 'info' : 'warn'](
      { instanceId: this.instanceId, archiveMessage },
      'health of the log archive',
    );
    const recorded = this.record(async (writer) => {
      const before = await writer.instance(this.instanceId);
      await writer.updateInstance(this.instanceId, { archiveHealthy: health.healthy, archiveMessage });
      if (before?.state !== 'ACTIVE' || before.archiveHealthy === health.healthy) return;
      await outbox.note(writer, archiveHealth(before, health.healthy, clock()));
    });
    this.unwaited(recorded, 'health was not recorded');
  }

  takeRisenCoverage(): { stretchId: string; coveredTo: Instant } | null {
    if (!this.risen || !this.stretch || this.coveredTo === null) return null;
    this.risen = false;
    return { stretchId: this.stretch.id, coveredTo: this.coveredTo };
  }

  private async adoptIdentity(identity: string): Promise<void> {
    const { catalog, logger } = this.options;
    if ((await catalog.read.instance(this.instanceId))?.identity === identity) return;
    const other = await this.record(async (writer) => {
      const instance = await writer.instance(this.instanceId);
      if (instance?.state !== 'ACTIVE') return null;
      const known = await writer.instanceByIdentity(instance.datastore, identity);
      if (!known) await writer.updateInstance(this.instanceId, { identity });
      return known;
    });
    if (other && other.id !== this.instanceId)
      logger.warn({ instanceId: this.instanceId, otherId: other.id }, 'the database is that of another instance, too');
  }

  /** That nothing is taken over after the close is no news. */
  private unwaited(work: Promise<void>, failure: string): void {
    work.catch((error: unknown) => {
      if (this.closing.signal.aborted) return;
      this.options.logger.warn({ instanceId: this.instanceId, err: error }, failure);
    });
  }

  private record<T>(work: (writer: CatalogWriter) => Promise<T>): Promise<T> {
    const recorded = this.options.catalog.write(async (writer) => {
      // Not before: the transaction has waited for its turn.
      this.closing.signal.throwIfAborted();
      return await work(writer);
    });
    this.recorded = recorded;
    return recorded;
  }

  private adopt(stretch: StretchRecord | null): void {
    this.stretch = stretch && { ...stretch };
    this.coveredTo = stretch?.coveredTo ?? null;
    this.risen = false;
  }

  private current(name: string): StretchRecord {
    if (this.stretch?.name === name) return this.stretch;
    throw new Fault('INTERNAL', `log of stretch ${name} arrived, but the current one is ${this.stretch?.name}`);
  }
}
