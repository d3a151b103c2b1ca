/** Who is asking, and what every resolver of one operation shares. */
import type { BackupRecord, InstanceRecord, RecoveryRecord, StepRecord } from '../catalog/records.js';
import type { RecoveryWindow } from '../model.js';
import type { Caller, LogArchiveFacts, Services } from '../services.js';
import { batched } from './batch.js';
import { Patience } from './limits/patience.js';

export interface GatewayContext {
  /** Also in the service log, and in the answer's x-request-id. */
  requestId: string;
  caller: Caller;
  /** Whom the limits count. */
  callerKey: string;
  /** How long the operation may still take. */
  patience: Patience;
  services: Services;
  load: Loads;
}

/** Look-ups by id; null for what is not there or belongs to another tenant. */
export interface Loads {
  instance(id: string): Promise<InstanceRecord | null>;
  backup(id: string): Promise<BackupRecord | null>;
  recovery(id: string): Promise<RecoveryRecord | null>;
  steps(recoveryId: string): Promise<StepRecord[] | null>;
  recoveryWindows(instanceId: string): Promise<RecoveryWindow[] | null>;
  logArchive(instanceId: string): Promise<LogArchiveFacts | null>;
}

export interface Operation {
  requestId: string;
  caller: Caller;
  callerKey: string;
  /** Milliseconds. */
  patienceMs: number;
}

export function createContext(services: Services, operation: Operation): GatewayContext {
  const { requestId, caller, callerKey, patienceMs } = operation;
  const { instances, backups, recoveries } = services;
  return {
    requestId,
    caller,
    callerKey,
    patience: new Patience(patienceMs),
    services,
    load: {
      instance: batched(async (ids) => byId(await instances.byIds(caller, ids))),
      backup: batched(async (ids) => byId(await backups.byIds(caller, ids))),
      recovery: batched(async (ids) => byId(await recoveries.byIds(caller, ids))),
      steps: batched((ids) => recoveries.steps(caller, ids)),
      recoveryWindows: batched((ids) => instances.recoveryWindows(caller, ids)),
      logArchive: batched((ids) => instances.logArchives(caller, ids)),
    },
  };
}

function byId<Row extends { id: string }>(rows: Row[]): Map<string, Row> {
  return new Map(rows.map((row) => [row.id, row]));
}
