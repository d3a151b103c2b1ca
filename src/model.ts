/**
 * The nouns that every layer shares: states, positions, cuts, plans. Types and constant lists only; what may happen to
 * them is decided elsewhere (recovery/runState.ts for runs, recovery/planner.ts for plans). Enumerations are spelled as
 * in the public API.
 */
import type { JsonObject } from './errors.js';
import type { Instant } from './instant.js';

export const instanceStates = ['PROVISIONING', 'ACTIVE', 'STOPPED', 'FAILED', 'DELETED'] as const;
export type InstanceState = (typeof instanceStates)[number];

export const instanceOrigins = ['CREATED', 'REGISTERED', 'RECOVERED'] as const;
export type InstanceOrigin = (typeof instanceOrigins)[number];

export const backupTypes = ['FULL', 'DIFFERENTIAL', 'INCREMENTAL'] as const;
export type BackupType = (typeof backupTypes)[number];

export const backupStates = ['RUNNING', 'COMPLETED', 'FAILED', 'DELETING', 'DELETED'] as const;
export type BackupState = (typeof backupStates)[number];

export const recoveryStates = ['QUEUED', 'RUNNING', 'UNWINDING', 'SUCCEEDED', 'FAILED', 'CANCELLED', 'STUCK'] as const;
export type RecoveryState = (typeof recoveryStates)[number];

/** In the order in which they run where a driver has no other. */
export const recoverySteps = [
  'RESERVE',
  'RESTORE_BASE',
  'APPLY_INCREMENTALS',
  'REPLAY_LOG',
  'VERIFY',
  'ACTIVATE',
] as const;
export type RecoveryStepName = (typeof recoverySteps)[number];

export const stepStates = ['PENDING', 'RUNNING', 'SUCCEEDED', 'FAILED', 'UNDONE', 'UNDO_FAILED', 'SKIPPED'] as const;
export type StepState = (typeof stepStates)[number];

/** Why a recovery window starts or ends where it does. */
export const windowBoundaries = [
  'FIRST_BACKUP',
  'LOG_GAP',
  'CORRUPT_LOG',
  'TIMELINE_CHANGE',
  'RETENTION',
  'LATEST_ARCHIVED',
  'SOURCE_DELETED',
] as const;
export type WindowBoundary = (typeof windowBoundaries)[number];

/**
 * A place in a datastore's log, always just after a whole transaction. A *stretch* is an unbroken piece of one
 * instance's log: a generation of SQLite, a timeline of PostgreSQL between two gaps. Positions of one stretch are
 * ordered by `ordinal`; those of different stretches are not comparable.
 */
export interface LogPosition {
  /** The datastore's name for the stretch, unique within the instance. */
  stretch: string;
  /** Whole number, 0 to 2^53 - 1; rises with the log. */
  ordinal: number;
  /** As the engine and its users write it: an LSN, a GTID position, `generation/transaction` for SQLite. */
  text: string;
}

/**
 * Where a recovery stops: every transaction up to `position` is kept and none after it. The times bracket the two
 * transactions on either side as closely as the engine can tell.
 */
export interface Cut {
  position: LogPosition;
  /** The last kept transaction committed between these two; null where none was committed after the base. */
  lastKeptNotBefore: Instant | null;
  lastKeptAt: Instant | null;
  /** When the first transaction left out committed; null where there is none yet. */
  firstDroppedAt: Instant | null;
}

/** An object in storage, with what proves it whole. */
export interface StoredObject {
  key: string;
  /** Bytes before compression. */
  plainBytes: number;
  /** Bytes in storage. */
  storedBytes: number;
  /** SHA-256 of the stored bytes, lower-case hex. */
  sha256: string;
  /** BLAKE3 of them, 256 bits in lower-case hex; absent or null where only the SHA-256 is known. */
  blake3?: string | null;
}

/** What a caller asks for: exactly one of the two, or neither for the latest recoverable point. */
export interface RecoveryTarget {
  pointInTime: Instant | null;
  position: string | null;
}

/** How one recovery will be done. Decided once, stored with the recovery, never changed. */
export interface RecoveryPlan {
  version: 1;
  /** In the order in which they run; plans from before there was more than one order lack it. */
  steps?: readonly RecoveryStepName[];
  instanceId: string;
  target: RecoveryTarget;
  cut: Cut;
  /** The cut's lastKeptAt, or the base's consistentAt where nothing was committed after it. */
  closestPointInTime: Instant;
  /** The catalog's id of the stretch of log that is replayed. */
  stretchId: string;
  baseId: string;
  /** In the order in which they are applied. */
  incrementalIds: string[];
  /** The log to replay: every segment with transactions in (replayAfter, cut.position.ordinal]. */
  replayAfter: number;
  logSegments: number;
  /** Plain bytes of those segments. */
  logBytes: number;
  /** Stored bytes of everything that will be read. */
  bytesToFetch: number;
}

/** A stretch of time, ends included, any instant of which can be recovered to. */
export interface RecoveryWindow {
  from: Instant;
  to: Instant;
  startsBecause: WindowBoundary;
  endsBecause: WindowBoundary;
}

/**
 * Code that takes bytes on the thread that decodes them, so that none of them has to change threads again. `module` is
 * the URL of a module that exports `open: OpenSink`; `argument` is handed to it and must survive a structured clone.
 */
export interface ThreadSink {
  module: string;
  argument: unknown;
}

export type OpenSink = (argument: unknown) => SinkInThread;

/** All of it is synchronous. What it throws ends the reading; a system error's `code` is kept. */
export interface SinkInThread {
  /** The next bytes, valid during the call and free to be overwritten by it. */
  take(bytes: Buffer): void;
  /** Once, after the last bytes, when they are proved. What it answers goes to whoever poured. */
  end(): unknown;
  /** Always, last; lets go of what is open. */
  close(): void;
}

/** An instance as a datastore driver sees it. The connection URI may carry credentials: never log a handle. */
export interface InstanceHandle {
  id: string;
  /** Whose rights its connection URI has to keep to. */
  tenantId: string;
  origin: InstanceOrigin;
  connectionUri: string;
  /** Absolute path of a directory that belongs to this instance alone; it exists. */
  home: string;
  /** What the driver wanted remembered when it provisioned or adopted the instance. */
  state: JsonObject;
}
