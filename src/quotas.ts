/** How much a tenant may have. Pure: the catalog counts, in the transaction that adds; this decides. */
import { Fault } from './errors.js';

/**
 * instances: that are not deleted, and those that waiting recoveries will make. volumeSizeGiB: of the same, as asked for.
 * backups: running or kept, of deleted instances too. recoveries: waiting or running.
 */
export const quotaNames = ['instances', 'volumeSizeGiB', 'backups', 'recoveries'] as const;
export type QuotaName = (typeof quotaNames)[number];

/** What a tenant has of each. */
export type Usage = Record<QuotaName, number>;
/** The most that each tenant may have; null for no limit. */
export type Quotas = Readonly<Record<QuotaName, number | null>>;

const freedBy: Record<QuotaName, string> = {
  instances: 'Delete an instance that is not needed',
  volumeSizeGiB: 'Delete an instance that is not needed',
  backups: 'Delete a backup that is not needed',
  recoveries: 'Wait for a recovery to end, or cancel one',
};

export function limitsAny(quotas: Quotas): boolean {
  return quotaNames.some((name) => quotas[name] !== null);
}

/**
 * @param wanted what is to be added
 * @throws Fault QUOTA_EXCEEDED with details { quota, limit, used } for the first that it does not fit into
 */
export function checkQuotas(quotas: Quotas, used: Usage, wanted: Partial<Usage>): void {
  for (const quota of quotaNames) {
    const limit = quotas[quota];
    const more = wanted[quota] ?? 0;
    // What is asked for without being counted against this quota must not fail on it, even where a limit was lowered.
    if (limit === null || more === 0 || used[quota] + more <= limit) continue;
    throw new Fault('QUOTA_EXCEEDED', `The tenant's quota of ${quota} is ${limit}, of which ${used[quota]} are used`, {
      hint: `${freedBy[quota]}, or have the quota raised.`,
      details: { quota, limit, used: used[quota] },
    });
  }
}
