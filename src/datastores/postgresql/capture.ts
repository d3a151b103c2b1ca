/**
 * Follows a server's log over everything that happens to either side: connects, proves that the log goes on where the
 * archive ends or begins a new stretch, cuts off segments, and makes the present moment recoverable on demand.
 *
 * The server is told that log is safe only when the archive has it, so whatever a crash of this service loses is sent
 * again: the replication slot is the only spool.
 */
import { Fault } from '../../errors.js';
import type { Instant } from '../../instant.js';
import type { CapturedSegment, CaptureHealth, LogCapture, LogSink, ResumePoint } from '../datastore.js';
import type { ServerAddress } from './address.js';
import { formatLsn, positionAt, segmentFloor, stretchName } from './lsn.js';
import { News, pause } from './news.js';
import { ReplicationStream, type SystemIdentity } from './replicationStream.js';
import { connectionFault, sqlState } from './session.js';
import { ensureSlot } from './source.js';
import { SourceSession } from './sourceSession.js';
import { coverage, DivergedError, type Progress, readProgress, WalBuffer, type WatchedCut } from './walBuffer.js';
import { WalFormatError } from './walReader.js';

/** Half of a WAL file: large enough to compress well, small enough to be held in memory twice for each instance. */
const SEGMENT_BYTES = 8 * 1024 * 1024;
/** How long a commit may wait for its segment to fill. */
const SEGMENT_AGE_MS = 10_000;
/** The same where the source's commits wait for the archive: at most ten segments a second. */
const SYNCHRONOUS_AGE_MS = 100;
const SYNCHRONOUS_CHECK_MS = 5_000;
/** A source that shuts down waits no longer for what it still has to hand over. */
const FAREWELL_MS = 10_000;
const FENCE_TIMEOUT_MS = 30_000;
const RETRY_MS = [100, 250, 500, 1_000, 2_000, 5_000];
/** After as many failures at the same damage, capture goes on behind it. */
const DAMAGE_ATTEMPTS = 3;

export interface CaptureOptions {
  address: ServerAddress;
  slot: string;
  resume: ResumePoint | null;
  sink: LogSink;
}

interface Handover {
  segment: CapturedSegment;
  progress: Progress;
}

export class WalCapture implements LogCapture {
  readonly address: ServerAddress;
  private readonly slot: string;
  private readonly sink: LogSink;
  /** What the archive has; null before the first stretch. */
  private archived: Progress | null;
  /** Why the next connection begins a new stretch. */
  private broken: string | null = null;
  private damage = { said: '', times: 0 };
  private buffer: WalBuffer | null = null;
  private stream: ReplicationStream | null = null;
  /** Cut off, and not yet taken by the sink. */
  private leaving: Handover | null = null;
  private handingOver: Promise<void> = Promise.resolve();
  private ageTimer: NodeJS.Timeout | null = null;
  /** The source's synchronous_standby_names names this capture. */
  private synchronous = false;
  private handedOverAt = 0;
  private answering = false;
  private readonly session: SourceSession;
  private state: CaptureHealth = { healthy: false, message: 'Capture is starting', lagSeconds: null };
  private sourceTime: Instant | null = null;
  private readonly stopping = new AbortController();
  private readonly news = new News();
  private readonly running: Promise<void>;

  constructor(options: CaptureOptions) {
    this.address = options.address;
    this.slot = options.slot;
    this.sink = options.sink;
    this.session = new SourceSession(options.address, options.slot);
    this.archived = options.resume && readProgress(options.resume.continuation);
    if (options.resume && !this.archived) this.broken = 'The archive does not say where its log ends';
    this.running = this.run();
  }

  /** The stretch that is being captured, up to where it is archived; null before the first. */
  get progress(): Progress | null {
    return this.archived;
  }

  health(): CaptureHealth {
    return { ...this.state, lagSeconds: this.stream ? this.lag() : null };
  }

  async fence(signal?: AbortSignal): Promise<{ coveredTo: Instant; position: ReturnType<typeof positionAt> }> {
    const deadline = AbortSignal.timeout(FENCE_TIMEOUT_MS);
    const ends = AbortSignal.any([deadline, this.stopping.signal, ...(signal ? [signal] : [])]);
    const commit = await this.session.markCommit();
    const arrived = await this.news.until(
      () => (this.stream && this.buffer ? this.buffer.received >= commit : false),
      ends,
    );
    signal?.throwIfAborted();
    if (!arrived) throw unavailable(this.state.message ?? 'The log of the fence did not arrive in time');
    await this.handOver();
    const archived = this.archived;
    if (!archived) throw unavailable('The capture lost its connection during the fence');
    return { coveredTo: coverage(archived.latestCommitAt), position: positionAt(archived.stretch, archived.end) };
  }

  /** From here on, watches for the cut of the greatest commit time so far. Call right after a fence. */
  watchCut(): WatchedCut {
    if (!this.buffer) throw unavailable('The capture is not connected');
    return this.buffer.watch();
  }

  /** The history of a timeline, as the server tells it. */
  async history(timeline: number): Promise<string> {
    const stream = await ReplicationStream.open(this.address, this.slot);
    return await stream.history(timeline).finally(() => stream.close());
  }

  async stop(): Promise<void> {
    this.stopping.abort();
    this.stream?.close();
    await this.running;
    if (this.ageTimer) clearTimeout(this.ageTimer);
    await this.session.close();
  }

  private async run(): Promise<void> {
    for (let failures = 0; !this.stopping.signal.aborted; failures++) {
      try {
        await this.follow();
      } catch (error) {
        this.noteFailure(error);
      }
      this.stream = null;
      // What was received whole is kept before the rest is asked for again.
      const kept = await this.handOver().then(
        () => true,
        (error: unknown) => this.noteFailure(error),
      );
      if (kept && this.buffer && this.buffer.received > this.buffer.from) failures = 0;
      if (kept) this.buffer = null;
      await pause(RETRY_MS[Math.min(failures, RETRY_MS.length - 1)] ?? 5_000, this.stopping.signal);
    }
  }

  /** One connection, from beginning to end. */
  private async follow(): Promise<void> {
    if (this.buffer || this.leaving) return;
    const stream = await ReplicationStream.open(this.address, this.slot);
    try {
      const server = await stream.identify();
      await this.session.run((client) => ensureSlot(client, this.slot));
      const archived = await this.connectTo(server);
      this.synchronous = false;
      // From here to the stream nothing waits, so stop() either comes before and is seen, or finds the stream.
      if (this.stopping.signal.aborted) return;
      const buffer = new WalBuffer(archived);
      this.archived = archived;
      this.buffer = buffer;
      this.stream = stream;
      this.setHealth({ healthy: true, message: null });
      const checking = setInterval(() => void this.checkSynchronous(), SYNCHRONOUS_CHECK_MS);
      await stream
        .follow(this.slot, buffer.from, archived.timeline, {
          data: (start, bytes) => this.received(start, bytes),
          heartbeat: (time) => {
            this.sourceTime = time;
          },
          asked: () => void this.answer(stream),
        })
        .finally(() => clearInterval(checking));
    } finally {
      stream.close();
    }
  }

  private async checkSynchronous(): Promise<void> {
    this.synchronous = await this.session.isSynchronous(this.slot).catch(() => false);
    if (this.synchronous) this.sealSoon();
  }

  /**
   * A server that shuts down ends only when everything is kept, so everything is handed over now. Where the archive takes
   * nothing the connection is given up: the slot keeps the log, and nobody's restart hangs on the service's storage.
   */
  private async answer(stream: ReplicationStream): Promise<void> {
    if (this.answering) return;
    this.answering = true;
    const limit = setTimeout(() => stream.close(), FAREWELL_MS);
    try {
      await this.handOver();
      if (this.archived) stream.acknowledge(this.archived.end);
    } catch {
      stream.close();
    } finally {
      clearTimeout(limit);
      this.answering = false;
    }
  }

  /** Where to go on: the archive's end where the server can continue there, else a new stretch. */
  private async connectTo(server: SystemIdentity): Promise<Progress> {
    const { archived } = this;
    let because: 'FIRST_BACKUP' | 'LOG_GAP' | 'TIMELINE_CHANGE' = 'LOG_GAP';
    let reason = this.broken;
    if (!archived && !reason) {
      because = 'FIRST_BACKUP';
      reason = 'Capture began';
    } else if (archived && archived.systemId !== server.systemId) {
      reason = 'Another database cluster answers at this address';
    } else if (archived && archived.timeline !== server.timeline) {
      because = 'TIMELINE_CHANGE';
      reason = `The server went from timeline ${archived.timeline} to ${server.timeline}`;
    } else if (archived && server.flushed < archived.end) {
      reason = `The server’s log ends at ${formatLsn(server.flushed)}, before the archive does`;
    }
    if (archived && !reason) return archived;
    return await this.beginStretch(server, because, reason ?? 'Capture began');
  }

  private async beginStretch(
    server: SystemIdentity,
    because: 'FIRST_BACKUP' | 'LOG_GAP' | 'TIMELINE_CHANGE',
    reason: string,
  ): Promise<Progress> {
    const { segmentSize, now } = await this.session.describe();
    // From the beginning of the file: a server replays whole files only, and every later backup starts behind it.
    const start = segmentFloor(server.flushed, segmentSize);
    const stretch = stretchName(server.timeline, now);
    await this.sink.stretchStarted({ stretch, position: positionAt(stretch, start), because, reason, at: now });
    this.broken = null;
    const { systemId, timeline } = server;
    return { stretch, timeline, systemId, segmentSize, end: start, mark: null, latestCommitAt: null };
  }

  private received(start: number, bytes: Buffer): void {
    const { buffer } = this;
    if (!buffer) return;
    buffer.push(start, bytes);
    if (buffer.pendingBytes >= SEGMENT_BYTES) {
      if (buffer.pendingBytes >= 2 * SEGMENT_BYTES) this.stream?.pause();
      void this.handOver().catch((error: unknown) => this.retryLater(error));
    } else if (this.synchronous || buffer.oldestPending !== null) {
      this.sealSoon();
    }
    if (this.synchronous) this.stream?.tellReceived();
    this.news.tell();
  }

  private sealSoon(): void {
    // What waits for its ordinary age when commits begin to wait for it must not.
    if (this.synchronous && this.ageTimer) clearTimeout(this.ageTimer);
    if (this.synchronous) this.ageTimer = null;
    const wait = this.synchronous
      ? Math.max(0, this.handedOverAt + SYNCHRONOUS_AGE_MS - performance.now())
      : SEGMENT_AGE_MS;
    this.ageTimer ??= setTimeout(() => {
      this.ageTimer = null;
      void this.handOver().catch((error: unknown) => this.retryLater(error));
    }, wait);
  }

  /** Hands everything received whole to the sink, one call after another. @throws what the sink throws */
  private handOver(): Promise<void> {
    const work = this.handingOver.catch(() => {}).then(() => this.drain());
    this.handingOver = work;
    // Callers see the failure; the chain itself must not count as unhandled.
    work.catch(() => {});
    return work;
  }

  private async drain(): Promise<void> {
    // First what an earlier call cut off and could not hand over, then what came since; a fence must not chase a busy
    // server any further.
    for (let round = 0; round < 2; round++) {
      this.leaving ??= this.buffer?.cut() ?? null;
      if (!this.leaving) break;
      await this.sink.segment(this.leaving.segment);
      this.archived = this.leaving.progress;
      this.leaving = null;
      this.handedOverAt = performance.now();
      this.acknowledge(this.archived);
    }
    if (this.stream) {
      if ((this.buffer?.pendingBytes ?? 0) < 2 * SEGMENT_BYTES) this.stream.resume();
      this.setHealth({ healthy: true, message: null });
    }
  }

  /**
   * The last archived record is asked for again at every connection, so the server has to keep the file in which it
   * begins. Where it runs over into the next file, a commit that waits for its end waits for one more record.
   */
  private acknowledge({ mark, end, segmentSize }: Progress): void {
    if (!mark || !this.stream) return;
    const sameFile = segmentFloor(mark.start, segmentSize) === segmentFloor(end, segmentSize);
    this.stream.acknowledge(sameFile ? end : mark.start);
    if (!sameFile && this.synchronous) void this.session.markCommit().catch(() => {});
  }

  private retryLater(error: unknown): void {
    this.noteFailure(error);
    this.ageTimer ??= setTimeout(() => {
      this.ageTimer = null;
      void this.handOver().catch((again: unknown) => this.retryLater(again));
    }, 1_000);
  }

  private noteFailure(error: unknown): false {
    const said = error instanceof Error ? error.message : String(error);
    if (error instanceof DivergedError) {
      this.broken = `The server’s log is not the archived one: ${said}`;
    } else if (error instanceof WalFormatError) {
      this.damage = { said, times: said === this.damage.said ? this.damage.times + 1 : 1 };
      if (this.damage.times >= DAMAGE_ATTEMPTS) this.broken = `The server’s log is damaged: ${said}`;
    } else if (sqlState(error) === '58P01' || said.includes('has already been removed')) {
      this.broken = 'The server removed log that was not archived yet';
    }
    if (!this.stopping.signal.aborted) {
      this.setHealth({ healthy: false, message: connectionFault(error, this.address).message });
    }
    return false;
  }

  private setHealth(change: { healthy: boolean; message: string | null }): void {
    const news = change.healthy !== this.state.healthy || change.message !== this.state.message;
    this.state = { ...change, lagSeconds: this.stream ? this.lag() : null };
    if (news) this.sink.health(this.state);
    this.news.tell();
  }

  private lag(): number {
    const oldest = this.leaving?.segment.firstCommitAt ?? this.buffer?.oldestPending ?? null;
    return oldest === null || this.sourceTime === null ? 0 : Math.max(0, this.sourceTime - oldest) / 1_000_000;
  }
}

function unavailable(message: string): Fault {
  return new Fault('DATASTORE_UNAVAILABLE', message, { hint: 'Check that the source runs, and try again.' });
}
