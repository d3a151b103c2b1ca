/**
 * Follows a server's log over everything that happens to either side: connects, proves that the log goes on where the
 * archive ends or begins a new stretch, cuts off segments, and makes the present moment recoverable on demand.
 *
 * The server is told that log is safe only when the archive has it, so whatever a crash of this service loses is sent
 * again: the replication slot is the only spool.
 */
import { Fault } from '../../../errors.js';
import type { Instant } from '../../../instant.js';
import type { CaptureHealth, LogCapture, LogSink, ResumePoint } from '../../datastore.js';
import { abortable } from '../../sharedCalls.js';
import { positionAt, segmentFloor, stretchName } from '../formats/lsn.js';
import type { ServerAddress } from '../source/address.js';
import { ReplicationStream, type SystemIdentity } from '../source/replicationStream.js';
import { connectionFault } from '../source/session.js';
import { ensureSlot, identityBehind, requireKnownMajor } from '../source/source.js';
import { type SlotState, SourceSession } from '../source/sourceSession.js';
import { Breaks } from './breaks.js';
import { Handover } from './handover.js';
import { News, pause, within } from './news.js';
import { SlotWatch } from './slotWatch.js';
import { coverage, type Progress, readProgress, WalBuffer, type WatchedCut } from './walBuffer.js';

/** Neither a source that shuts down nor stop() waits longer for what is still to be handed over. */
const FAREWELL_MS = 10_000;
const FENCE_TIMEOUT_MS = 30_000;
const RETRY_MS = [100, 250, 500, 1_000, 2_000, 5_000];

export interface CaptureOptions {
  address: ServerAddress;
  slot: string;
  /** Of the cluster that was registered; null where that is not known. */
  systemId: string | null;
  resume: ResumePoint | null;
  sink: LogSink;
  /** Log that the source may have to keep while the archive takes none; past it capture lets go of its slot. */
  retainBytes: number;
  /** Milliseconds for which the stream is ended whenever everything is received and nobody waits; 0 to stay in it. */
  streamRestMs: number;
}

interface Fenced {
  coveredTo: Instant;
  position: ReturnType<typeof positionAt>;
}

export class WalCapture implements LogCapture {
  readonly address: ServerAddress;
  private readonly slot: string;
  private readonly systemId: string | null;
  private readonly sink: LogSink;
  private readonly streamRestMs: number;
  /** The source's commits do not wait for the archive, and nothing says that they might. */
  private unawaited = false;
  private fences = 0;
  /** What the archive has; null before the first stretch. */
  private archived: Progress | null;
  private readonly breaks: Breaks;
  /** The connection for the log, from its first word on. */
  private connection: ReplicationStream | null = null;
  /** The same while the log flows. */
  private stream: ReplicationStream | null = null;
  private readonly handover: Handover;
  private answering = false;
  private readonly watch: SlotWatch;
  /** The archive did not take the beginning of a stretch. */
  private stretchRefused = false;
  private readonly session: SourceSession;
  private state: CaptureHealth = { healthy: false, message: 'Capture is starting', lagSeconds: null };
  private sourceTime: Instant | null = null;
  private readonly stopping = new AbortController();
  /** The archive is left alone, whatever is missing there. */
  private readonly abandoned = new AbortController();
  private readonly news = new News();
  private readonly running: Promise<void>;

  constructor(options: CaptureOptions) {
    this.address = options.address;
    this.slot = options.slot;
    this.systemId = options.systemId;
    this.sink = options.sink;
    this.streamRestMs = options.streamRestMs;
    this.session = new SourceSession(options.address, options.slot);
    this.archived = options.resume && readProgress(options.resume.continuation);
    this.breaks = new Breaks(options.resume, this.archived);
    const events = {
      taken: (progress: Progress) => this.taken(progress),
      failed: (error: unknown) => this.noteFailure(error),
    };
    this.handover = new Handover(options.sink, events, this.abandoned.signal);
    this.watch = new SlotWatch({
      ...options,
      session: this.session,
      stuck: () => this.handover.stuck || this.stretchRefused,
      seen: (state) => this.heed(state),
      disconnect: () => this.stream?.close(),
      released: (message) => this.setHealth({ healthy: false, message }),
    });
    this.running = this.run();
  }

  /** The stretch that is being captured, up to where it is archived; null before the first. */
  get progress(): Progress | null {
    return this.archived;
  }

  health(): CaptureHealth {
    return { ...this.state, ...this.measures() };
  }

  async fence(signal?: AbortSignal): Promise<Fenced> {
    // To its end: who watches for a cut right afterwards has to find the same connection.
    this.fences++;
    this.restAsFits();
    try {
      return await this.fenceInStream(signal);
    } finally {
      this.fences--;
      this.restAsFits();
    }
  }

  private async fenceInStream(signal?: AbortSignal): Promise<Fenced> {
    const deadline = AbortSignal.timeout(FENCE_TIMEOUT_MS);
    const ends = AbortSignal.any([deadline, this.stopping.signal, ...(signal ? [signal] : [])]);
    const arrived = await this.promptly(async () => {
      const commit = await within(this.session.markCommit(), ends);
      if (commit === null) return false;
      return await this.news.until(() => this.stream !== null && (this.handover.buffer?.received ?? 0) >= commit, ends);
    });
    signal?.throwIfAborted();
    if (!arrived) throw unavailable(this.state.message ?? 'The log of the fence did not arrive in time');
    await this.handover.now(ends).catch((error: unknown) => {
      signal?.throwIfAborted();
      if (!ends.aborted) throw error;
      if (this.stopping.signal.aborted) throw unavailable('The capture was stopped during the fence');
      throw unavailable('The archive did not take the log of the fence in time', 'Check the storage, and try again.');
    });
    const archived = this.archived;
    if (!archived) throw unavailable('The capture lost its connection during the fence');
    return { coveredTo: coverage(archived.latestCommitAt), position: positionAt(archived.stretch, archived.end) };
  }

  /** From here on, watches for the cut of the greatest commit time so far. Call right after a fence. */
  watchCut(): WatchedCut {
    if (!this.handover.buffer) throw unavailable('The capture is not connected');
    return this.handover.buffer.watch();
  }

  /** The history of a timeline, as the server tells it. */
  async history(timeline: number): Promise<string> {
    const stream = await ReplicationStream.open(this.address, this.slot);
    return await stream.history(timeline).finally(() => stream.close());
  }

  /** What was received whole is handed over once more; after this the archive is not called, however slow it is. */
  async stop(): Promise<void> {
    const limit = setTimeout(() => this.abandoned.abort(), FAREWELL_MS);
    this.stopping.abort();
    this.handover.close();
    const watched = this.watch.stop();
    this.connection?.close();
    const closed = this.session.close();
    await this.running;
    await within(this.handover.settled(), this.abandoned.signal);
    clearTimeout(limit);
    this.abandoned.abort();
    await watched;
    await closed;
  }

  /** Somebody waits for what the server sends meanwhile. */
  private async promptly<T>(work: () => Promise<T>): Promise<T> {
    const { stream } = this;
    stream?.setPrompt(true);
    try {
      return await work();
    } finally {
      stream?.setPrompt(this.handover.synchronous);
    }
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
      const { handover } = this;
      const kept = await handover.now(this.abandoned.signal).then(
        () => true,
        () => false,
      );
      if (kept && handover.buffer && handover.buffer.received > handover.buffer.from) failures = 0;
      if (kept) handover.buffer = null;
      await pause(RETRY_MS[Math.min(failures, RETRY_MS.length - 1)] ?? 5_000, this.stopping.signal);
    }
  }

  /** One connection, from beginning to end. */
  private async follow(): Promise<void> {
    if (!this.handover.idle) return;
    const stream = await ReplicationStream.open(this.address, this.slot);
    this.connection = stream;
    try {
      this.stopping.signal.throwIfAborted();
      const server = await stream.identify();
      await this.session.run(requireKnownMajor);
      await this.session.run((client) => ensureSlot(client, this.slot));
      const identity = await this.session.run((client) => identityBehind(client, server));
      const archived = await this.connectTo(server);
      // Of another cluster at this address the log is kept, but the instance is not taken for it: the address may be corrected.
      if ((this.systemId ?? server.systemId) === server.systemId) this.sink.identified(identity);
      this.handover.synchronous = false;
      this.unawaited = false;
      // From here to the stream nothing waits, so stop() either comes before and is seen, or finds the stream.
      if (this.stopping.signal.aborted) return;
      const buffer = new WalBuffer(archived);
      this.archived = archived;
      this.handover.buffer = buffer;
      this.stream = stream;
      this.watch.released = null;
      this.setHealth({ healthy: true, message: null });
      this.watch.soon();
      await stream.follow(this.slot, buffer.from, archived.timeline, {
        data: (start, bytes) => this.received(start, bytes),
        heartbeat: (time) => {
          this.sourceTime = time;
        },
        asked: () => void this.answer(stream),
        usedUp: () => this.handover.now(),
      });
    } finally {
      this.connection = null;
      stream.close();
    }
  }

  /** The source's commits wait for the archive, or do so no more. */
  private heed(slot: SlotState | null): void {
    const synchronous = this.stream !== null && slot?.synchronous === true;
    this.handover.synchronous = synchronous;
    this.stream?.setPrompt(synchronous);
    if (synchronous) this.handover.soon();
    this.unawaited = slot !== null && !slot.named;
    this.restAsFits();
  }

  /** Not where anybody waits, nor where the archive takes nothing: then what comes of this connection has to last. */
  private restAsFits(): void {
    const rests = this.unawaited && this.fences === 0 && !this.handover.stuck;
    this.stream?.setStreamRest(rests ? this.streamRestMs : 0);
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
      await this.handover.now();
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
    const why = this.breaks.between(archived, server);
    if (archived && !why) return archived;
    const { segmentSize, now } = await this.session.describe();
    // From the beginning of the file: a server replays whole files only, and every later backup starts behind it.
    const start = segmentFloor(server.flushed, segmentSize);
    const stretch = stretchName(server.timeline, now);
    const begun = { because: 'LOG_GAP', reason: 'Capture began', ...why } as const;
    this.stopping.signal.throwIfAborted();
    this.stretchRefused = true;
    const started = { stretch, position: positionAt(stretch, start), ...begun, at: now };
    await abortable(this.sink.stretchStarted(started), this.abandoned.signal);
    this.stretchRefused = false;
    this.breaks.mended();
    const { systemId, timeline } = server;
    return { stretch, timeline, systemId, segmentSize, end: start, mark: null, latestCommitAt: null };
  }

  private received(start: number, bytes: Buffer): void {
    const { handover } = this;
    if (!handover.buffer) return;
    handover.buffer.push(start, bytes);
    if (handover.full) this.stream?.pause();
    handover.arrived();
    if (handover.synchronous) this.stream?.tellReceived();
    this.news.tell();
  }

  private taken(progress: Progress): void {
    this.archived = progress;
    if (!this.stream) return;
    this.acknowledge(progress);
    if (!this.handover.full) this.stream.resume();
    this.restAsFits();
    this.setHealth({ healthy: true, message: null });
  }

  /**
   * The last archived record is asked for again at every connection, so the server has to keep the file in which it
   * begins. Where it runs over into the next file, a commit that waits for its end waits for one more record.
   */
  private acknowledge({ mark, end, segmentSize }: Progress): void {
    if (!mark || !this.stream) return;
    const sameFile = segmentFloor(mark.start, segmentSize) === segmentFloor(end, segmentSize);
    this.stream.acknowledge(sameFile ? end : mark.start);
    if (!sameFile && this.handover.synchronous) void this.session.markCommit().catch(() => {});
  }

  private noteFailure(error: unknown): void {
    this.breaks.note(error);
    this.restAsFits();
    if (!this.stopping.signal.aborted) {
      this.setHealth({ healthy: false, message: this.watch.released ?? connectionFault(error, this.address).message });
    }
  }

  private setHealth(change: { healthy: boolean; message: string | null }): void {
    const news = change.healthy !== this.state.healthy || change.message !== this.state.message;
    this.state = { ...change, ...this.measures() };
    if (news) this.sink.health(this.state);
    this.news.tell();
  }

  private measures(): Pick<CaptureHealth, 'lagSeconds' | 'retainedBytes'> {
    return { lagSeconds: this.stream ? this.lag() : null, retainedBytes: this.watch.retainedBytes };
  }

  private lag(): number {
    const oldest = this.handover.oldestPending;
    return oldest === null || this.sourceTime === null ? 0 : Math.max(0, this.sourceTime - oldest) / 1_000_000;
  }
}

function unavailable(message: string, hint = 'Check that the source runs, and try again.'): Fault {
  return new Fault('DATASTORE_UNAVAILABLE', message, { hint });
}
