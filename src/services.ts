/**
 * What the edge asks of the inside: one small interface per noun, implemented by instances/instanceService.ts,
 * backup/backupService.ts and recovery/recoveryService.ts and handed over by main. Every call says who is asking; what belongs to another tenant
 * is answered exactly as what does not exist. Refusals are thrown as Faults.
 */
import type {
  BackupRecord,
  InstanceRecord,
  Page,
  ProgressRecord,
  RecoveryRecord,
  StepRecord,
} from './catalog/records.js';
import type { FaultData } from './errors.js';
import type { Instant } from './instant.js';
import type { BackupState, BackupType, RecoveryPlan, RecoveryState, RecoveryTarget, RecoveryWindow } from './model.js';

/** Readers see everything but credentials; operators recover and back up; admins also create, register and delete. */
export const roles = ['reader', 'operator', 'admin'] as const;
export type Role = (typeof roles)[number];

export interface Caller {
  tenantId: string;
  role: Role;
  /** For the service log: a token's name, or the subject that the issuer gave. */
  name?: string;
}

export interface LogArchiveFacts {
  segments: number;
  bytes: number;
  lagSeconds: number | null;
  retainedBytes: number | null;
  healthy: boolean;
  message: string | null;
}

export interface NewInstanceInput {
  id: string | null;
  name: string;
  datastore: string;
  datastoreVersion: string | null;
  flavor: string | null;
  volumeSizeGiB: number | null;
}

export interface RegisterInput {
  id: string | null;
  name: string;
  datastore: string;
  connectionUri: string;
  flavor: string | null;
  volumeSizeGiB: number | null;
}

/** Only what is given changes. */
export interface InstanceChange {
  name?: string;
  connectionUri?: string;
  flavor?: string | null;
}

export interface InstanceOperations {
  byIds(caller: Caller, ids: readonly string[]): Promise<InstanceRecord[]>;
  list(caller: Caller, filter: { includeDeleted: boolean }, page: Page): Promise<InstanceRecord[]>;
  create(caller: Caller, input: NewInstanceInput): Promise<InstanceRecord>;
  register(caller: Caller, input: RegisterInput): Promise<InstanceRecord>;
  update(caller: Caller, id: string, change: InstanceChange): Promise<InstanceRecord>;
  remove(caller: Caller, id: string): Promise<InstanceRecord>;
  /** By instance id; an empty list where nothing can be recovered; nothing for what the caller has not. */
  recoveryWindows(caller: Caller, ids: readonly string[]): Promise<Map<string, RecoveryWindow[]>>;
  logArchives(caller: Caller, ids: readonly string[]): Promise<Map<string, LogArchiveFacts>>;
}

export interface BackupOperations {
  byIds(caller: Caller, ids: readonly string[]): Promise<BackupRecord[]>;
  /** Newest first. @throws Fault INSTANCE_NOT_FOUND */
  list(
    caller: Caller,
    instanceId: string,
    filter: { states: readonly BackupState[]; before: Instant | null },
    page: Page,
  ): Promise<BackupRecord[]>;
  /** Of all the caller's instances, deleted ones too; newest first. */
  listAll(caller: Caller, filter: { states: readonly BackupState[] }, page: Page): Promise<BackupRecord[]>;
  /** The query `backups`: COMPLETED ones, the closest to start from first. @throws Fault INSTANCE_NOT_FOUND */
  startingPoints(caller: Caller, instanceId: string, before: Instant | null, page: Page): Promise<BackupRecord[]>;
  take(caller: Caller, instanceId: string, type: BackupType): Promise<BackupRecord>;
  /** A full one of the newest full one and the archived log. @throws Fault as planning a recovery to the latest point */
  takeFromArchive(caller: Caller, instanceId: string): Promise<BackupRecord>;
  remove(caller: Caller, id: string): Promise<BackupRecord>;
}

export interface RecoverInput {
  instanceId: string;
  target: RecoveryTarget;
  name: string | null;
  idempotencyKey: string | null;
}

export type Assessment = { plan: RecoveryPlan; fault: null } | { plan: null; fault: FaultData };

export interface ProgressEvent {
  recoveryId: string;
  state: RecoveryState;
  progress: ProgressRecord;
}

export interface RecoveryOperations {
  byIds(caller: Caller, ids: readonly string[]): Promise<RecoveryRecord[]>;
  list(
    caller: Caller,
    filter: { sourceId: string | null; states: readonly RecoveryState[] | null },
    page: Page,
  ): Promise<RecoveryRecord[]>;
  /** By recovery id; nothing for what the caller has not. */
  steps(caller: Caller, recoveryIds: readonly string[]): Promise<Map<string, StepRecord[]>>;
  /** Only INSTANCE_NOT_FOUND and malformed arguments throw; every refusal of the target is data. */
  assess(caller: Caller, instanceId: string, target: RecoveryTarget): Promise<Assessment>;
  /** From the plan's estimate by the rates measured at the tenant's own recoveries; null until there are any. */
  estimateSeconds(caller: Caller, plan: RecoveryPlan): Promise<number | null>;
  recover(caller: Caller, input: RecoverInput): Promise<RecoveryRecord>;
  cancel(caller: Caller, id: string): Promise<RecoveryRecord>;
  /**
   * The present progress at once, then every change; ends after a final state. Slow readers get the newest and skip
   * what lay between. @throws Fault RECOVERY_NOT_FOUND
   */
  watch(caller: Caller, id: string, signal: AbortSignal): AsyncIterable<ProgressEvent>;
}

export interface Services {
  instances: InstanceOperations;
  backups: BackupOperations;
  recoveries: RecoveryOperations;
  /** Whether the catalog answers and every instance's capture has been started; for /readyz. */
  ready(): Promise<boolean>;
}
