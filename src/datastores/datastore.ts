/**
 * What a datastore driver does: provision or adopt instances, capture their log without a break, take backups, find the
 * cut for an instant, and rebuild an instance up to a cut. A driver is handed byte streams and directories; it knows
 * neither the catalog nor the storage. Everything it throws is a Fault; everything that can take long obeys a signal.
 */
import type { JsonObject } from '../errors.js';
import type { Instant } from '../instant.js';
import type {
  BackupType,
  Cut,
  InstanceHandle,
  LogPosition,
  RecoveryStepName,
  ThreadSink,
  WindowBoundary,
} from '../model.js';

export interface Datastore {
  /** As in the API: `sqlite`, `postgresql`, `mariadb`. */
  readonly name: string;
  readonly backupTypes: readonly BackupType[];

  /**
   * Looks at a database that somebody else runs, changing nothing, for the tenant that wants it registered.
   * @throws Fault INVALID_ARGUMENT (connectionUri), DATASTORE_UNAVAILABLE, DATASTORE_NOT_SUPPORTED
   */
  inspect(connectionUri: string, tenantId: string, signal?: AbortSignal): Promise<InstanceFacts>;

  /**
   * Whether a database with identity `found` can be what the one with identity `known` has become, as a promoted standby
   * is; only an equal one where this is left out.
   */
  continues?(known: string, found: string): boolean;

  /** Does to an inspected source what capture needs and the driver announces (SQLite: journal mode WAL). */
  adopt(instance: InstanceHandle, signal?: AbortSignal): Promise<InstanceFacts>;

  /**
   * Makes a new, empty, running instance in `place.home`.
   * @throws Fault DATASTORE_NOT_SUPPORTED where the version asked for is not the one at hand
   */
  provision(place: NewInstance, signal?: AbortSignal): Promise<InstanceFacts>;

  /** Brings a managed instance up after the service started; nothing to do for a mere file or a registered one. */
  start(instance: InstanceHandle, signal?: AbortSignal): Promise<void>;

  /** Takes a managed instance down when the service stops; its data stays. */
  stop(instance: InstanceHandle): Promise<void>;

  /** Lets a REGISTERED instance go: removes every trace from the source and never touches its data. */
  release(instance: InstanceHandle, signal?: AbortSignal): Promise<void>;

  /** Stops a CREATED or RECOVERED instance and removes its data. Doing it twice is no error. */
  destroy(instance: InstanceHandle, signal?: AbortSignal): Promise<void>;

  /**
   * Starts following an instance's log, and keeps following it over faults of the source and of the driver's own
   * processes until stopped. `resume` is the end of what is archived; capture goes on exactly there or starts a new
   * stretch.
   */
  capture(instance: InstanceHandle, resume: ResumePoint | null, sink: LogSink): Promise<LogCapture>;

  /** Takes a backup of a captured instance; its bytes go to `sink`. */
  backup(request: BackupRequest, sink: BackupSink): Promise<BackupFacts>;

  /** How full backups are made of older ones and archived log; left out where the datastore has no way to. */
  readonly rollForward?: RollForwardDriver;

  /** A position as a user wrote it, or null where it is none of this datastore's. */
  parsePosition(text: string): LogPosition | null;

  /**
   * The exact cut for a target, from the one or two segments that surround it.
   * @throws Fault LOG_CORRUPT, INVALID_ARGUMENT (position) where it is not a transaction's end
   */
  locate(target: LocateTarget, around: SegmentsAround, signal?: AbortSignal): Promise<Cut>;

  readonly recovery: RecoveryDriver;

  /** Ends every process the driver started. */
  close(): Promise<void>;
}

export interface NewInstance {
  id: string;
  /** Absolute path of an existing, empty directory that belongs to the instance alone. */
  home: string;
  /** The version asked for; null for whatever is at hand. */
  datastoreVersion: string | null;
}

export interface InstanceFacts {
  /** As the engine says it: 3.52.0, 15.18 */
  datastoreVersion: string;
  /** Where clients connect, without credentials. */
  endpoint: string;
  /** The same with credentials, in one canonical spelling. */
  connectionUri: string;
  /** Equal for two connection URIs that lead to the same database; how a second registration is noticed. */
  identity: string;
  /** What the driver wants remembered; no secrets. */
  state: JsonObject;
  /** Whole sentences: what the service will do to the source. */
  notices: string[];
}

// ---------------------------------------------------------------- log capture

/** The end of what is archived of an instance's newest stretch. */
export interface ResumePoint {
  position: LogPosition;
  /** The newest instant that the archive covers. */
  coveredTo: Instant;
  /** As the driver gave it with the last segment. */
  continuation: JsonObject;
}

/** A finished piece of log, still on the driver's side. */
export interface CapturedSegment {
  /** The position just before the segment's first transaction. */
  after: LogPosition;
  /** The position just after its last one. */
  last: LogPosition;
  transactions: number;
  /** The smallest and the greatest commit time in it, on the source's clock; null where it holds no commit. */
  firstCommitAt: Instant | null;
  lastCommitAt: Instant | null;
  /** With this segment archived, every transaction that was provably committed by this instant is. */
  coveredTo: Instant;
  /** What capture needs to go on after this segment when its own working files are lost. */
  continuation: JsonObject;
  /** What open() gives: plain bytes, or blocks of them (blocks/blockFormat.ts), whole ones in each chunk. */
  packed: boolean;
  /** Its bytes, from the first; each chunk is valid until the next one is asked for. May be called again after a failure. */
  open(): AsyncIterable<Buffer>;
}

/** Receives what a capture produces; implemented by backup/archiveSink.ts. */
export interface LogSink {
  /**
   * The database that is followed from now on has this identity (see InstanceFacts), maybe another than when its instance
   * was registered: its file was replaced, its server promoted. May be told again; is cheap.
   */
  identified(identity: string): void;
  /** A new stretch begins and does not connect to what came before it; comes before its first segment. */
  stretchStarted(stretch: StretchStart): Promise<void>;
  /**
   * Takes over a segment: when it resolves, the segment is durable and recorded, and the driver may delete its copy.
   * Segments of an instance come one at a time and in log order; the same one may come again after a crash.
   */
  segment(segment: CapturedSegment): Promise<void>;
  /** Nothing was committed after the archived `position` up to this instant. May be called often; is cheap. */
  covered(position: LogPosition, coveredTo: Instant): void;
  /**
   * Transactions were committed in (from, to) whose times nobody saw, though their log is complete: no instant strictly
   * between the two can be recovered to, every position can.
   */
  unobserved(stretch: string, from: Instant, to: Instant): Promise<void>;
  health(health: CaptureHealth): void;
}

export interface StretchStart {
  stretch: string;
  /** The position before its first transaction. */
  position: LogPosition;
  /** Why the stretch before it ended; FIRST_BACKUP where there was none. */
  because: Extract<WindowBoundary, 'FIRST_BACKUP' | 'LOG_GAP' | 'TIMELINE_CHANGE'>;
  /** One sentence for operators: what was seen. */
  reason: string;
  at: Instant;
}

export interface CaptureHealth {
  healthy: boolean;
  /** What is wrong and what to do; when healthy, null or what should be known all the same. */
  message: string | null;
  /** How far behind the source the archive is; null while the source is down. */
  lagSeconds: number | null;
  /** Bytes of log that the source keeps for the archive; null or left out where that is not known. */
  retainedBytes?: number | null;
}

export interface LogCapture {
  /**
   * Makes the archive catch up with the source: everything committed before this call is handed to the sink and taken
   * by it before this resolves. Answers with the instant up to which the archive is now complete.
   * @throws Fault DATASTORE_UNAVAILABLE where the source cannot be read, STORAGE_* where the sink refused
   */
  fence(signal?: AbortSignal): Promise<{ coveredTo: Instant; position: LogPosition }>;
  health(): CaptureHealth;
  /** Hands over what it has and lets go of the source. Resolves when no process of this capture is left. */
  stop(): Promise<void>;
}

// -------------------------------------------------------------------- backups

export interface BackupRequest {
  instance: InstanceHandle;
  /** The running capture of the instance. */
  capture: LogCapture;
  type: BackupType;
  /** The backup that an INCREMENTAL or DIFFERENTIAL one stands on, and the archived log after it; null for a FULL one. */
  parent: ParentBackup | null;
  /** An empty directory to work in, removed afterwards. */
  scratch: string;
  signal: AbortSignal;
  /** Plain bytes so far, and of how many where that is known. */
  progress(bytesDone: number, bytesTotal: number | null): void;
}

export interface ParentBackup {
  facts: BackupFacts;
  /** Segments with transactions after the parent's replayAfter, up to and with the one of ordinal `last`; newest first. */
  log(last: number): AsyncIterable<StoredSegment>;
}

/** Full backups that are made without the source: an older one, rolled forward along the archived log. */
export interface RollForwardDriver {
  /**
   * Stores a full backup of what `base` becomes by the cut, with as little of the processor as the system lets it have.
   * It stands on nothing afterwards.
   * @throws Fault INSTANCE_NOT_READY where a recovery from it would have no less log to replay than one from the base;
   *   what damage of the base or the log leads to in a recovery
   */
  make(request: RollForwardRequest, sink: BackupSink): Promise<BackupFacts>;
  /** Ends what an earlier life of the service left running in a scratch directory. May run at any time, twice. */
  discard(scratch: string): Promise<void>;
}

export interface RollForwardRequest {
  /** A full backup of the cut's stretch that is consistent before it. */
  base: StoredBackup;
  cut: Cut;
  /** An instant that leads to the cut, now and for ever. */
  at: Instant;
  /** The log from the base to the cut, complete and in the order asked for. */
  segments(order: 'oldest-first' | 'newest-first'): AsyncIterable<StoredSegment>;
  /** An empty directory to work in, removed afterwards. */
  scratch: string;
  signal: AbortSignal;
}

export interface BackupSink {
  /**
   * Stores the backup's content, once, as ordered parts of `partBytes` plain bytes each (the last may be shorter). A
   * chunk is used before the next one is asked for, and not kept.
   */
  write(content: AsyncIterable<Buffer>, partBytes?: number): Promise<void>;
}

export interface BackupFacts {
  /** The log from here on makes the backup consistent. */
  replayAfter: LogPosition;
  /** The earliest position a recovery from this backup can reach; same stretch as replayAfter. */
  consistent: LogPosition;
  /** The earliest instant: every transaction up to `consistent`, and none after it that this instant would keep. */
  consistentAt: Instant;
  /** Size of the database. */
  sizeBytes: number;
  /** What the driver needs to restore it; versioned by the driver. */
  state: JsonObject;
}

// ------------------------------------------------------------------- recovery

export interface ReadOptions {
  /** A chunk is valid only until the next one is asked for; for drivers that are done with it by then. */
  reuse?: boolean;
}

/** An archived segment as a recovery reads it. */
export interface StoredSegment {
  after: number;
  last: number;
  transactions: number;
  plainBytes: number;
  /**
   * The plain bytes. They are proved whole only when the iteration ends without an error; stopping early is allowed
   * where the bytes read carry their own proof.
   * @throws Fault LOG_CORRUPT naming the object, STORAGE_UNAVAILABLE
   */
  read(options?: ReadOptions): AsyncIterable<Buffer>;
  /**
   * The same bytes to code that runs beside the decoding; proved whole when this resolves, with what the sink answered to
   * its end.
   * @throws as read() does; what the sink throws, as an Error with its `code`
   */
  pour(sink: ThreadSink): Promise<unknown>;
}

export type LocateTarget = { at: Instant } | { position: LogPosition };

/** The segments on either side of a target; the same one twice where it lies inside. At least one is given. */
export interface SegmentsAround {
  /** The newest segment with a transaction that may be the last kept one. */
  before: StoredSegment | null;
  /** The oldest segment with a transaction that is left out. */
  boundary: StoredSegment | null;
  /** Where a position was asked for: the newest segment with a transaction that comes before all of `before`. */
  earlier?: StoredSegment | null;
  stretch: string;
}

export interface StoredPart {
  /** Where the part starts in the backup's content. */
  offset: number;
  plainBytes: number;
  /** As StoredSegment.read, with BACKUP_CORRUPT. */
  read(options?: ReadOptions): AsyncIterable<Buffer>;
  /**
   * The same bytes to code that runs beside the decoding; proved whole when this resolves.
   * @param passed told of plain bytes that the sink has taken
   * @throws as read() does; what the sink throws, as an Error with its `code`
   */
  pour(sink: ThreadSink, passed?: (plainBytes: number) => void): Promise<unknown>;
}

export interface StoredBackup {
  facts: BackupFacts;
  parts: StoredPart[];
}

export interface RecoveryContext {
  /**
   * The instance recovered from; it is never touched. Its connection URI, where still known, is a secret that a user of
   * the copy may need too.
   */
  source: { id: string; state: JsonObject; datastoreVersion: string; connectionUri?: string | null };
  target: { id: string; home: string };
  /** A directory on the same filesystem as target.home that the recovery owns; survives between steps and restarts. */
  scratch: string;
  base: StoredBackup;
  incrementals: StoredBackup[];
  cut: Cut;
  /** The log to replay, complete and in the order asked for. */
  segments(order: 'oldest-first' | 'newest-first'): AsyncIterable<StoredSegment>;
  progress: RecoveryMeter;
  signal: AbortSignal;
}

export interface RecoveryMeter {
  /** Stored bytes are counted by whoever reads; this tells how far into the database's own time the replay is. */
  replayedTo(at: Instant): void;
  message(text: string): void;
}

/** The steps of a recovery that put data into scratch. */
export type DataStep = Extract<RecoveryStepName, 'RESTORE_BASE' | 'APPLY_INCREMENTALS' | 'REPLAY_LOG'>;

/**
 * The engine's part in each step of a recovery. Every one may run twice: it first discards what an earlier
 * attempt at the same step left in scratch. What it returns is stored with the step and handed to later ones.
 */
export interface RecoveryDriver {
  /** In which order the three steps that move data run. */
  readonly order: readonly DataStep[];
  /**
   * Whether the programs that restore such a base are here; asked when a recovery is planned. Left out where none are needed.
   * @throws Fault VERSION_MISMATCH with what to install
   */
  requireFor?(base: BackupFacts): Promise<void>;
  restoreBase(context: RecoveryContext): Promise<void>;
  applyIncrementals(context: RecoveryContext): Promise<void>;
  /** Answers with the position that was really reached. @throws Fault RECOVERY_INCOMPLETE short of the cut */
  replayLog(context: RecoveryContext): Promise<LogPosition>;
  /** Proves that the copy in scratch is the cut's; answers with what it found. @throws Fault RECOVERY_INCOMPLETE */
  verify(context: RecoveryContext): Promise<Cut>;
  /** Puts the copy into target.home and brings it up. Atomic: a second call finds the first one's work and is content. */
  activate(context: RecoveryContext): Promise<InstanceFacts>;
  /** Takes back whatever any step did outside scratch and home, and stops what runs there. May run at any time, twice. */
  discard(target: { id: string; home: string; scratch: string }): Promise<void>;
}
