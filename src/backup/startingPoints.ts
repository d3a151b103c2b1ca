/** Whether recoveries have a full backup to start from. */
import type { CatalogReader } from '../catalog/records.js';

/** Backups looked at, newest first, for one that was ever complete. */
const LOOKED_AT = 100;

/**
 * True where an instance that had a full backup has none from which its growing log can be replayed to its end: no
 * window reaches the present then. False for an instance of which nobody ever took a backup.
 */
export async function openStretchLacksBase(read: CatalogReader, instanceId: string): Promise<boolean> {
  const stretch = await read.newestStretch(instanceId);
  if (!stretch || stretch.endsBecause !== null) return false;
  const points = await read.fullBackupPoints([instanceId]);
  if (points.length === 0) {
    // One that was found damaged is FAILED and still has its manifest.
    const ended = { instanceId, states: ['FAILED'] as const, before: null };
    return (await read.backups(ended, { first: LOOKED_AT, after: null })).some(({ manifest }) => manifest !== null);
  }
  const missing = (await read.gaps([stretch.id])).reduce((end, gap) => Math.max(end, gap.last ?? 0), 0);
  return !points.some((point) => point.stretchId === stretch.id && point.replayAfter >= missing);
}
