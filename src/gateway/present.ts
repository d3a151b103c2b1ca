/** The one place where records become what the public sees. A field that is not copied here is not in any answer. */
import type { BackupRecord, InstanceRecord, RecoveryRecord, StepRecord } from '../catalog/records.js';
import type { FaultData } from '../errors.js';
import { type Instant, parseInstant } from '../instant.js';
import type { Cut, RecoveryPlan as PlanRecord } from '../model.js';
import type { Assessment, Caller, ProgressEvent } from '../services.js';
import type { DatabaseBackup } from './backupTypes.js';
import type { RecoveryFault } from './faultType.js';
import type { DatabaseInstance } from './instanceTypes.js';
import type { RecoveryAssessment, RecoveryCut, RecoveryPlan } from './planTypes.js';
import type { Recovery, RecoveryProgress, RecoveryStep } from './recoveryTypes.js';

/** Readers never see credentials. */
export function presentInstance(record: InstanceRecord, caller: Caller): DatabaseInstance {
  return {
    id: record.id,
    name: record.name,
    origin: record.origin,
    datastore: record.datastore,
    datastoreVersion: record.datastoreVersion,
    flavor: record.flavor,
    volumeSizeGiB: record.volumeSizeGiB,
    state: record.state,
    endpoint: record.endpoint,
    notices: record.notices,
    connectionUri: caller.role === 'reader' ? null : record.connectionUri,
    createdAt: record.createdAt,
    deletedAt: record.deletedAt,
    recoveredFromId: record.recoveredFromId,
    createdByRecoveryId: record.createdByRecoveryId,
  };
}

export function presentBackup(record: BackupRecord): DatabaseBackup {
  return {
    id: record.id,
    type: record.type,
    state: record.state,
    percent: record.percent,
    startedAt: record.startedAt,
    completedAt: record.completedAt,
    consistentAt: record.consistentAt,
    position: record.consistentText,
    sizeBytes: record.sizeBytes,
    storedBytes: record.storedBytes,
    sha256: record.manifest?.sha256 ?? null,
    location: record.location,
    verifiedAt: record.verifiedAt,
    error: record.error && presentFault(record.error),
    instanceId: record.instanceId,
    parentId: record.parentId,
    madeFromId: record.madeFromId,
  };
}

export function presentRecovery(record: RecoveryRecord): Recovery {
  const plan = presentPlan(record.plan);
  return {
    id: record.id,
    state: record.state,
    requestedPointInTime: plan.requestedPointInTime,
    requestedPosition: plan.requestedPosition,
    closestPointInTime: plan.closestPointInTime,
    recoveredTo: record.recoveredTo && presentCut(record.recoveredTo),
    plan,
    progress: presentProgress({ recoveryId: record.id, state: record.state, progress: record.progress }),
    error: record.error && presentFault(record.error),
    createdAt: record.createdAt,
    startedAt: record.startedAt,
    finishedAt: record.finishedAt,
    sourceId: record.sourceId,
    targetId: record.targetId,
  };
}

export function presentStep(record: StepRecord): RecoveryStep {
  return {
    name: record.name,
    state: record.state,
    attempts: record.attempts,
    startedAt: record.startedAt,
    finishedAt: record.finishedAt,
    error: record.error && presentFault(record.error),
  };
}

export function presentProgress({ recoveryId, state, progress }: ProgressEvent): RecoveryProgress {
  return {
    recoveryId,
    sequence: progress.sequence,
    state,
    step: progress.step,
    percent: progress.percent,
    bytesDone: progress.bytesDone,
    bytesTotal: progress.bytesTotal,
    replayedTo: progress.replayedTo,
    etaSeconds: progress.etaSeconds,
    message: progress.message,
    at: progress.at,
  };
}

export function presentPlan(record: PlanRecord): RecoveryPlan {
  return {
    requestedPointInTime: record.target.pointInTime,
    requestedPosition: record.target.position,
    cut: presentCut(record.cut),
    closestPointInTime: record.closestPointInTime,
    logSegments: record.logSegments,
    bytesToFetch: record.bytesToFetch,
    logBytes: record.logBytes,
    instanceId: record.instanceId,
    baseId: record.baseId,
    incrementalIds: record.incrementalIds,
    record,
  };
}

export function presentAssessment({ plan, fault }: Assessment): RecoveryAssessment {
  return { plan: plan && presentPlan(plan), fault: fault && presentFault(fault) };
}

export function presentFault(data: FaultData): RecoveryFault {
  const { code, message, hint, retryable, details } = data;
  return {
    code,
    message,
    hint,
    retryable,
    earliest: instantIn(details.earliest),
    latest: instantIn(details.latest),
    nearestBefore: instantIn(details.nearestBefore),
    nearestAfter: instantIn(details.nearestAfter),
    details,
  };
}

function presentCut(cut: Cut): RecoveryCut {
  return {
    position: cut.position.text,
    lastKeptNotBefore: cut.lastKeptNotBefore,
    lastKeptAt: cut.lastKeptAt,
    firstDroppedAt: cut.firstDroppedAt,
  };
}

/** Faults carry instants as text. One that can't be read must not hide the fault it came with; `details` still has it. */
function instantIn(value: unknown): Instant | null {
  try {
    return typeof value === 'string' ? parseInstant(value) : null;
  } catch {
    return null;
  }
}
