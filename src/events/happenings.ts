/** What the service tells others of: how recoveries ended, and archives that can't or can follow their source. Pure. */
import type { FaultData, JsonObject } from '../errors.js';
import type { Instant } from '../instant.js';
import type { RecoveryState } from '../model.js';

export interface Happening {
  /** Hierarchical, of letters, digits and underscores between full stops; never means anything else later. */
  type: string;
  tenantId: string;
  /** The id of what it is about. */
  subject: string;
  at: Instant;
  /** Ids and codes only: names, addresses and sentences are for those who may ask for them. */
  data: JsonObject;
}

/** SUCCEEDED, FAILED, CANCELLED or STUCK; the last one may be followed by another. */
export function recoveryEnded(
  recovery: { id: string; tenantId: string; sourceId: string; targetId: string | null },
  state: RecoveryState,
  error: FaultData | null,
  at: Instant,
): Happening {
  const { id, tenantId, sourceId, targetId } = recovery;
  return {
    type: `pitr.recovery.${state.toLowerCase()}`,
    tenantId,
    subject: id,
    at,
    data: {
      tenantId,
      recoveryId: id,
      sourceInstanceId: sourceId,
      newInstanceId: state === 'SUCCEEDED' ? targetId : null,
      errorCode: state === 'CANCELLED' ? null : (error?.code ?? null),
    },
  };
}

export function archiveHealth(instance: { id: string; tenantId: string }, healthy: boolean, at: Instant): Happening {
  const { id, tenantId } = instance;
  return {
    type: `pitr.archive.${healthy ? 'healthy' : 'unhealthy'}`,
    tenantId,
    subject: id,
    at,
    data: { tenantId, instanceId: id },
  };
}
