/**
 * What the catalog remembers, as plain records, and the two ways to it: a CatalogReader and, inside a transaction, a
 * CatalogWriter. Nothing here knows TypeORM; catalog.ts implements both.
 *
 * Pages: `first` items after the item whose id is `after` (exclusive); an unknown `after` is refused with
 * INVALID_ARGUMENT, except in backupsOfTenant, which goes on where it would be.
 */
import type { FaultData, JsonObject } from '../errors.js';
import type { Instant } from '../instant.js';
import type {
  BackupState,
  BackupType,
  Cut,
  InstanceOrigin,
  InstanceState,
  RecoveryPlan,
  RecoveryState,
  RecoveryStepName,
  StepState,
  StoredObject,
  WindowBoundary,
} from '../model.js';
import type { Usage } from '../quotas.js';

export interface Page {
  first: number;
  after: string | null;
}

export interface InstanceRecord {
  id: string;
  tenantId: string;
  name: string;
  origin: InstanceOrigin;
  datastore: string;
  datastoreVersion: string;
  flavor: string | null;
  volumeSizeGiB: number | null;
  state: InstanceState;
  endpoint: string | null;
  /** Sealed in the database file, open here: never log a record. Null before provisioning and after deletion. */
  connectionUri: string | null;
  /** What tells two URIs of one database; unique among the instances that are not deleted. */
  identity: string | null;
  /** The driver's own. */
  driverState: JsonObject;
  /** Whole sentences: what the service does to the database, as its driver said it last. */
  notices: string[];
  recoveredFromId: string | null;
  createdByRecoveryId: string | null;
  archiveHealthy: boolean;
  archiveMessage: string | null;
  createdAt: Instant;
  deletedAt: Instant | null;
}

export interface BackupRecord {
  id: string;
  instanceId: string;
  type: BackupType;
  state: BackupState;
  percent: number;
  parentId: string | null;
  /** The older full backup that a full one was rolled forward from; it does not stand on it once it is COMPLETED. */
  madeFromId: string | null;
  /** The stretch of log that continues it; set when COMPLETED, as are the next five. */
  stretchId: string | null;
  consistentAt: Instant | null;
  consistentOrdinal: number | null;
  consistentText: string | null;
  replayAfterOrdinal: number | null;
  /** Lists the parts; its SHA-256 is the backup's. */
  manifest: StoredObject | null;
  sizeBytes: number | null;
  /** Of all its objects. */
  storedBytes: number | null;
  location: string | null;
  verifiedAt: Instant | null;
  error: FaultData | null;
  startedAt: Instant;
  completedAt: Instant | null;
}

export interface StretchRecord {
  id: string;
  instanceId: string;
  /** The driver's name for it; unique within the instance. */
  name: string;
  /** 1, 2, 3 … in the order in which the instance's stretches began. */
  number: number;
  startsBecause: WindowBoundary;
  /** One sentence: what was seen when it began. */
  reason: string;
  startedAt: Instant;
  startOrdinal: number;
  /** Null while it grows. */
  endsBecause: WindowBoundary | null;
  lastOrdinal: number;
  lastText: string;
  /** Null until the first segment or observation. */
  coveredTo: Instant | null;
  segments: number;
  /** Stored bytes of all segments. */
  bytes: number;
  /** Of the newest segment: what capture needs to go on. */
  continuation: JsonObject;
}

export interface SegmentRecord {
  stretchId: string;
  /** Ordinals: the segment's transactions are those in (after, last]. */
  after: number;
  last: number;
  lastText: string;
  transactions: number;
  firstCommitAt: Instant | null;
  lastCommitAt: Instant | null;
  /** The greatest commit time in the stretch up to and with this segment; never falls along the stretch. */
  latestCommitAt: Instant | null;
  coveredTo: Instant;
  object: StoredObject;
}

/** A hole in a stretch. Two kinds: bytes missing (ordinals given) or only times unknown (ordinals null). */
export interface GapRecord {
  id: string;
  stretchId: string;
  /** No instant strictly between the two can be recovered to. */
  from: Instant;
  to: Instant;
  /** Nothing can be replayed across (after, last]. */
  after: number | null;
  last: number | null;
  because: Extract<WindowBoundary, 'LOG_GAP' | 'CORRUPT_LOG'>;
}

export interface ProgressRecord {
  /** Rises with every change, also across restarts. */
  sequence: number;
  step: RecoveryStepName | null;
  percent: number;
  bytesDone: number;
  bytesTotal: number | null;
  replayedTo: Instant | null;
  etaSeconds: number | null;
  message: string | null;
  at: Instant;
}

export interface RecoveryRecord {
  id: string;
  tenantId: string;
  sourceId: string;
  targetId: string | null;
  /** The name that the new instance gets. */
  targetName: string;
  state: RecoveryState;
  plan: RecoveryPlan;
  recoveredTo: Cut | null;
  idempotencyKey: string | null;
  /** SHA-256 of the call's arguments in one canonical form: tells a repeated call from a different one. */
  argumentsHash: string;
  cancelRequested: boolean;
  error: FaultData | null;
  progress: ProgressRecord;
  createdAt: Instant;
  startedAt: Instant | null;
  finishedAt: Instant | null;
}

export interface StepRecord {
  recoveryId: string;
  name: RecoveryStepName;
  state: StepState;
  attempts: number;
  startedAt: Instant | null;
  finishedAt: Instant | null;
  error: FaultData | null;
  /** What the step produced. */
  output: JsonObject | null;
}

/** The request that asked for a recovery. */
export interface RecoveryOriginRecord {
  recoveryId: string;
  requestId: string;
  /** Of the span that the recovery belongs under; null where there are no traces. */
  traceparent: string | null;
}

export const outboxStates = ['WAITING', 'DELIVERED', 'REFUSED', 'EXPIRED'] as const;
export type OutboxState = (typeof outboxStates)[number];

/** Something that happened, on its way to whoever wants to be told. */
export interface OutboxRecord {
  /** UUIDv7; the same at every attempt. */
  id: string;
  tenantId: string;
  type: string;
  /** Exactly the bytes that are sent, as text. */
  body: string;
  state: OutboxState;
  attempts: number;
  /** Not to be sent before. */
  dueAt: Instant;
  /** A few words on the last attempt, such as `HTTP 500`; null where there was none or it succeeded. */
  lastError: string | null;
  createdAt: Instant;
}

/** A COMPLETED backup, in terms of the log that continues it. */
export interface BackupPoint {
  backupId: string;
  instanceId: string;
  type: BackupType;
  parentId: string | null;
  stretchId: string;
  consistentAt: Instant;
  /** The earliest position a recovery from it can reach, and where its replay begins. */
  consistentOrdinal: number;
  replayAfter: number;
  storedBytes: number;
}

/** Sums over a range of a stretch's segments. */
export interface SegmentTotals {
  segments: number;
  plainBytes: number;
  storedBytes: number;
  /** `after` of the first and `last` of the last, and whether each continues the one before it. */
  after: number | null;
  last: number | null;
  contiguous: boolean;
}

export interface CatalogReader {
  instance(id: string): Promise<InstanceRecord | null>;
  instancesByIds(ids: readonly string[]): Promise<InstanceRecord[]>;
  /** Newest first. */
  instances(filter: { tenantId: string; includeDeleted: boolean }, page: Page): Promise<InstanceRecord[]>;
  /** Every instance in one of these states, of all tenants; for the service's own start. */
  instancesInStates(states: readonly InstanceState[]): Promise<InstanceRecord[]>;
  instanceByIdentity(datastore: string, identity: string): Promise<InstanceRecord | null>;
  instanceByEndpoint(datastore: string, endpoint: string): Promise<InstanceRecord | null>;

  backup(id: string): Promise<BackupRecord | null>;
  backupsByIds(ids: readonly string[]): Promise<BackupRecord[]>;
  /** Newest first by (startedAt, id). `before` is compared with consistentAt and leaves out what has none. */
  backups(
    filter: { instanceId: string; states: readonly BackupState[]; before: Instant | null },
    page: Page,
  ): Promise<BackupRecord[]>;
  /**
   * Of all instances of a tenant, deleted ones too; newest first by id, since those of backups are UUIDv7. An unknown
   * `after` stands where it would be.
   */
  backupsOfTenant(filter: { tenantId: string; states: readonly BackupState[] }, page: Page): Promise<BackupRecord[]>;
  /** COMPLETED, ordered by (consistentAt, id) descending; consistentAt <= before where that is given. */
  startingPoints(filter: { instanceId: string; before: Instant | null }, page: Page): Promise<BackupRecord[]>;
  /** Every COMPLETED backup of these instances, in no order: where recoveries can start. One statement. */
  backupPoints(instanceIds: readonly string[]): Promise<BackupPoint[]>;
  /** Ids of the backups that stand directly on this one: RUNNING and COMPLETED ones, the oldest first. */
  backupsOn(instanceId: string, parentId: string): Promise<string[]>;
  backupsInStates(states: readonly BackupState[]): Promise<BackupRecord[]>;
  /** Whether a backup of this instance was complete once and is FAILED: it was found damaged since. */
  hasLostBackup(instanceId: string): Promise<boolean>;
  /** The one that was begun last of those that were made of older ones, whatever became of it. */
  newestMadeOfAnother(instanceId: string): Promise<BackupRecord | null>;

  stretchByName(instanceId: string, name: string): Promise<StretchRecord | null>;
  /** Of several instances at once, by (instance, number). */
  stretches(instanceIds: readonly string[]): Promise<StretchRecord[]>;
  newestStretch(instanceId: string): Promise<StretchRecord | null>;
  /** Of any number of stretches, by (stretch, from, id). */
  gaps(stretchIds: readonly string[]): Promise<GapRecord[]>;
  /** Segments with transactions in (after, last], by ordinal; pages of `limit`, cost independent of the stretch's size. */
  segments(
    stretchId: string,
    range: { after: number; last: number },
    order: 'oldest-first' | 'newest-first',
    limit: number,
  ): Promise<SegmentRecord[]>;
  segmentTotals(stretchId: string, range: { after: number; last: number }): Promise<SegmentTotals>;
  /** The oldest segment of which latestCommitAt > at: the cut for `at` lies in it. Found through an index. */
  firstSegmentCommittedAfter(stretchId: string, at: Instant): Promise<SegmentRecord | null>;
  /** The newest segment with a commit of which last <= ordinal. */
  lastSegmentWithCommitUpTo(stretchId: string, ordinal: number): Promise<SegmentRecord | null>;
  /** The segment with after < ordinal <= last. */
  segmentHolding(stretchId: string, ordinal: number): Promise<SegmentRecord | null>;

  recovery(id: string): Promise<RecoveryRecord | null>;
  recoveriesByIds(ids: readonly string[]): Promise<RecoveryRecord[]>;
  recoveryByIdempotencyKey(tenantId: string, key: string): Promise<RecoveryRecord | null>;
  /** Newest first. */
  recoveries(
    filter: { tenantId: string; sourceId: string | null; states: readonly RecoveryState[] | null },
    page: Page,
  ): Promise<RecoveryRecord[]>;
  /** Of all tenants, oldest first, and no more than `limit` where one is given; for the task manager. */
  recoveriesInStates(states: readonly RecoveryState[], limit?: number): Promise<RecoveryRecord[]>;
  /** In the order in which they run. */
  steps(recoveryIds: readonly string[]): Promise<StepRecord[]>;

  recoveryOrigin(recoveryId: string): Promise<RecoveryOriginRecord | null>;
  /** Of all tenants and times; states that none is in are left out. */
  recoveryCounts(): Promise<Map<RecoveryState, number>>;

  /** WAITING and due by then, oldest first. */
  dueOutbox(by: Instant, limit: number): Promise<OutboxRecord[]>;
  /** How many are WAITING, when the next one is due and since when the oldest waits; null where there is none. */
  outboxBacklog(): Promise<{ waiting: number; nextDueAt: Instant | null; oldestAt: Instant | null }>;

  /** What a tenant has of everything that is limited. Three statements. */
  usage(tenantId: string): Promise<Usage>;
}

/** Changes are by id; one that finds no row throws. What is undefined in a change stays as it is. */
export interface CatalogWriter extends CatalogReader {
  insertInstance(record: InstanceRecord): Promise<void>;
  updateInstance(id: string, change: Partial<Omit<InstanceRecord, 'id'>>): Promise<void>;
  /** Forgets an instance that never came to be. */
  deleteInstance(id: string): Promise<void>;

  insertBackup(record: BackupRecord): Promise<void>;
  updateBackup(id: string, change: Partial<Omit<BackupRecord, 'id' | 'instanceId'>>): Promise<void>;

  /** A stretch begins empty: lastOrdinal = startOrdinal, no segments, no bytes. */
  insertStretch(record: StretchRecord): Promise<void>;
  /** A lastOrdinal other than the present one throws: insertSegment alone moves it. */
  updateStretch(id: string, change: Partial<Omit<StretchRecord, 'id' | 'instanceId'>>): Promise<void>;
  /** Raises coveredTo of many stretches at once; never lowers one. */
  raiseCoverage(coverage: ReadonlyMap<string, Instant>): Promise<void>;
  /**
   * Appends to a stretch: `after` must be the stretch's lastOrdinal, else it throws. Moves the stretch's lastOrdinal,
   * lastText, coveredTo, segments and bytes along; latestCommitAt is worked out here, the one given is ignored.
   */
  insertSegment(record: SegmentRecord): Promise<void>;
  insertGap(record: GapRecord): Promise<void>;

  insertRecovery(record: RecoveryRecord, steps: readonly StepRecord[]): Promise<void>;
  insertRecoveryOrigin(record: RecoveryOriginRecord): Promise<void>;
  /** Moves a recovery on if it still is in `from`; false where it no longer is. */
  moveRecovery(
    id: string,
    from: RecoveryState,
    change: Partial<Omit<RecoveryRecord, 'id' | 'sourceId' | 'plan'>>,
  ): Promise<boolean>;
  updateRecovery(
    id: string,
    change: Partial<Omit<RecoveryRecord, 'id' | 'state' | 'sourceId' | 'plan'>>,
  ): Promise<void>;
  updateStep(
    recoveryId: string,
    name: RecoveryStepName,
    change: Partial<Omit<StepRecord, 'recoveryId' | 'name'>>,
  ): Promise<void>;

  insertOutbox(record: OutboxRecord): Promise<void>;
  updateOutbox(id: string, change: Pick<OutboxRecord, 'state' | 'attempts' | 'dueAt' | 'lastError'>): Promise<void>;
  /** Forgets what was created before, delivered or not. */
  pruneOutbox(createdBefore: Instant): Promise<void>;
}

export interface Catalog {
  readonly read: CatalogReader;
  /**
   * Runs `work` in one transaction, one writer after another in the order of the calls. No I/O but the catalog's own
   * inside. When it resolves the changes are durable; when `work` throws, none of them was made.
   */
  write<T>(work: (writer: CatalogWriter) => Promise<T>): Promise<T>;
  close(): Promise<void>;
}
