/**
 * Keeps log capture alive: one capture per running instance, its segments moved into storage and the catalog, its
 * coverage and health remembered. What is recorded here is durable in storage first and in the catalog second.
 */
import type { InstanceRecord } from '../catalog/records.js';
import type { CaptureHealth, LogCapture } from '../datastores/datastore.js';
import type { DatastoreRegistry } from '../datastores/registry.js';
import { Fault } from '../errors.js';
import type { Instant } from '../instant.js';
import type { InstanceHandle } from '../model.js';
import { ArchiveSink, type ArchiveSinkOptions } from './archiveSink.js';

export interface ArchiverOptions extends ArchiveSinkOptions {
  datastores: DatastoreRegistry;
  handleOf(instance: InstanceRecord): InstanceHandle;
}

/** How often, at most, one instance's source is made to answer for a fence; and how long a fence may take. */
const FENCE_EVERY_MS = 1_000;
const FENCE_LIMIT_MS = 5_000;
/** Coverage of idle instances reaches the catalog at this pace, all in one statement. */
const COVERAGE_FLUSH_MS = 1_000;
const FOLLOWED_SOON_MS = 2_000;
const RETRY_FIRST_MS = 500;
const RETRY_LAST_MS = 30_000;

const NOT_FOLLOWED = 'The log is not being captured. If this lasts, restart the service and look into its log.';

interface Followed {
  sink: ArchiveSink;
  capture: LogCapture | null;
  starting: Promise<void>;
  stopped: boolean;
  cancelRetry: () => void;
  fence: Promise<void> | null;
  fencedAt: number;
  fencesBegun: number;
  /** The number of the newest fence that succeeded. */
  newestFence: number;
}

export class Archiver {
  private readonly followed = new Map<string, Followed>();
  private readonly flushTimer: NodeJS.Timeout;
  private closed = false;
  /** Coverage that a call has taken along is known to those beside it only when this has ended. */
  private flushed: Promise<void> = Promise.resolve();

  constructor(private readonly options: ArchiverOptions) {
    this.flushTimer = setInterval(() => {
      this.flushCoverage().catch((error: unknown) => this.coverageLost(error));
    }, COVERAGE_FLUSH_MS);
    this.flushTimer.unref();
  }

  /** Starts following an instance; resolves when the first attempt has succeeded or failed. It is repeated until released. */
  async follow(instance: InstanceRecord): Promise<void> {
    if (this.closed || this.followed.has(instance.id)) return;
    const followed: Followed = {
      sink: new ArchiveSink(instance.id, this.options),
      capture: null,
      starting: Promise.resolve(),
      stopped: false,
      cancelRetry: () => {},
      fence: null,
      fencedAt: Number.NEGATIVE_INFINITY,
      fencesBegun: 0,
      newestFence: 0,
    };
    this.followed.set(instance.id, followed);
    await this.tryStart(instance, followed, RETRY_FIRST_MS);
  }

  isCapturing(instanceId: string): boolean {
    return Boolean(this.followed.get(instanceId)?.capture);
  }

  /** The running capture. @throws Fault INSTANCE_NOT_READY */
  captureOf(instanceId: string): LogCapture {
    const capture = this.followed.get(instanceId)?.capture;
    if (capture) return capture;
    throw new Fault('INSTANCE_NOT_READY', 'The log of this instance is not being captured', {
      hint: 'logArchive.message of the instance says why; try again when it is healthy.',
    });
  }

  /**
   * Makes the archive cover `at`, or as late as possible where that is null. At most one fence a second per instance is
   * asked of a source, and none where the archive reaches far enough already. Answers false where the archive could not
   * be made to; the caller then plans with what there is.
   */
  async cover(instanceId: string, at: Instant | null): Promise<boolean> {
    const followed = this.followed.get(instanceId);
    if (!followed?.capture) return false;
    const deadline = performance.now() + FENCE_LIMIT_MS;
    const begunBefore = followed.fencesBegun;
    const enough = () => {
      // Only a fence that began after the call tells of the latest point: the source's clock may be ahead or have been.
      if (at === null) return followed.newestFence > begunBefore;
      return followed.sink.coveredTo !== null && followed.sink.coveredTo >= at;
    };
    while (!enough()) {
      if (followed.stopped || performance.now() >= deadline) return false;
      const wait = followed.fencedAt + FENCE_EVERY_MS - performance.now();
      if (!followed.fence && wait > 0) {
        await new Promise((resolve) => setTimeout(resolve, wait));
        continue;
      }
      try {
        await this.fence(followed);
      } catch (error) {
        this.options.logger.warn({ instanceId, err: error }, 'fence failed');
        return false;
      }
    }
    await this.flushCoverage();
    return true;
  }

  /**
   * As it is at this moment, which a full disk may have kept out of the catalog; and what the catalog says last where
   * nothing is captured, except that a log which nobody even tries to capture is never well.
   */
  healthOf({ id, state, archiveHealthy, archiveMessage }: InstanceRecord): CaptureHealth {
    const followed = this.followed.get(id);
    if (followed?.capture) return followed.capture.health();
    if (!followed && state === 'ACTIVE') return { healthy: false, message: NOT_FOLLOWED, lagSeconds: null };
    return { healthy: archiveHealthy, message: archiveMessage, lagSeconds: null };
  }

  /** An instance is seen ACTIVE a moment before it is followed: waits for that, and for the first attempt to end. */
  async settled(instanceId: string): Promise<void> {
    const deadline = performance.now() + FOLLOWED_SOON_MS;
    while (!this.followed.has(instanceId) && performance.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    await this.followed.get(instanceId)?.starting.catch(() => {});
  }

  /**
   * Hands over what is captured and lets the source go. It is followed no more then, also where the source throws, and
   * what an archive that was too slow has not taken by now is left to the next capture.
   */
  async release(instanceId: string): Promise<void> {
    const followed = this.followed.get(instanceId);
    if (!followed) return;
    followed.stopped = true;
    followed.cancelRetry();
    await followed.starting.catch(() => {});
    try {
      await followed.capture?.stop();
      // Without it the archive is said to reach less far than it does, which is no reason to keep the source.
      await this.flushCoverage().catch((error: unknown) => this.coverageLost(error));
    } finally {
      await followed.sink.close();
      if (this.followed.get(instanceId) === followed) this.followed.delete(instanceId);
    }
  }

  async close(): Promise<void> {
    this.closed = true;
    clearInterval(this.flushTimer);
    // One source that does not let go properly must not keep the others.
    await Promise.all(
      [...this.followed.keys()].map((id) =>
        this.release(id).catch((error: unknown) =>
          this.options.logger.warn({ instanceId: id, err: error }, 'capture did not stop cleanly'),
        ),
      ),
    );
  }

  private fence(followed: Followed): Promise<void> {
    followed.fence ??= (async () => {
      followed.fencedAt = performance.now();
      followed.fencesBegun += 1;
      const number = followed.fencesBegun;
      try {
        const limit = AbortSignal.timeout(FENCE_LIMIT_MS);
        const { coveredTo, position } = await (followed.capture as LogCapture).fence(limit);
        followed.sink.covered(position, coveredTo);
        followed.newestFence = number;
      } finally {
        followed.fence = null;
      }
    })();
    return followed.fence;
  }

  private async tryStart(instance: InstanceRecord, followed: Followed, retryAfter: number): Promise<void> {
    followed.starting = this.start(instance, followed);
    try {
      await followed.starting;
    } catch (error) {
      const fault = Fault.from(error);
      this.options.logger.warn({ instanceId: instance.id, err: error, retryAfter }, 'capture did not start');
      followed.sink.health({
        healthy: false,
        message: [fault.message, fault.hint].filter(Boolean).join('. '),
        lagSeconds: null,
      });
      if (followed.stopped) return;
      const timer = setTimeout(
        () => void this.tryStart(instance, followed, Math.min(retryAfter * 2, RETRY_LAST_MS)),
        retryAfter,
      );
      followed.cancelRetry = () => clearTimeout(timer);
    }
  }

  private async start(instance: InstanceRecord, followed: Followed): Promise<void> {
    const { datastores, handleOf } = this.options;
    const resume = await followed.sink.resumePoint();
    followed.capture = await datastores.get(instance.datastore).capture(handleOf(instance), resume, followed.sink);
    // Also what an earlier attempt, or an earlier life, left in the catalog.
    followed.sink.health(followed.capture.health());
  }

  private coverageLost(error: unknown): void {
    this.options.logger.warn({ err: error }, 'coverage was not recorded');
  }

  /** One statement for all instances whose coverage rose; nothing at all where none did. */
  private async flushCoverage(): Promise<void> {
    const risen = new Map<string, Instant>();
    for (const { sink } of this.followed.values()) {
      const coverage = sink.takeRisenCoverage();
      if (coverage) risen.set(coverage.stretchId, coverage.coveredTo);
    }
    if (risen.size === 0) return this.flushed;
    const written = this.options.catalog.write((writer) => writer.raiseCoverage(risen));
    this.flushed = written.catch(() => undefined);
    return written;
  }
}
