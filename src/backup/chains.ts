/** Backups that recoveries can start from: a full one, or one whose whole chain down to a full one is there. Pure. */
import type { BackupPoint } from '../catalog/records.js';
import type { Instant } from '../instant.js';

export interface StartingPoint {
  /** The backup that the log goes on from. */
  backupId: string;
  stretchId: string;
  consistentAt: Instant;
  /** The earliest position a recovery from it can reach, and where its replay begins. */
  consistentOrdinal: number;
  replayAfter: number;
  /** What it stands on; null for a full one. */
  parent: StartingPoint | null;
  /** Of itself and all that it stands on. */
  storedBytes: number;
}

/** The ids of the full backup and of all that stands on it up to this one, in the order in which they are applied. */
export function chainOf(point: StartingPoint): [string, ...string[]] {
  const later: string[] = [];
  let at = point;
  for (; at.parent; at = at.parent) later.push(at.backupId);
  return [at.backupId, ...later.reverse()];
}

/** One for each backup whose chain is complete and lies in one stretch of log. */
export function startingPoints(backups: readonly BackupPoint[]): StartingPoint[] {
  const byId = new Map(backups.map((backup) => [backup.backupId, backup]));
  const known = new Map<string, StartingPoint | null>();

  const pointOf = (backup: BackupPoint): StartingPoint | null => {
    let parent: StartingPoint | null = null;
    if (backup.type !== 'FULL') {
      parent = known.get(backup.parentId ?? '') ?? null;
      if (parent?.stretchId !== backup.stretchId) return null;
    }
    // Field by field: this is done for every backup whenever anything is planned.
    return {
      backupId: backup.backupId,
      stretchId: backup.stretchId,
      consistentAt: backup.consistentAt,
      consistentOrdinal: backup.consistentOrdinal,
      replayAfter: backup.replayAfter,
      parent,
      storedBytes: (parent?.storedBytes ?? 0) + backup.storedBytes,
    };
  };

  for (const backup of backups) {
    // Parents first; a chain can be long, so this does not recurse. The catalog has no chain that bites its tail.
    const waiting: BackupPoint[] = [];
    for (let at: BackupPoint | undefined = backup; at && !known.has(at.backupId); at = byId.get(at.parentId ?? '')) {
      waiting.push(at);
    }
    for (const each of waiting.reverse()) known.set(each.backupId, pointOf(each));
  }
  return [...known.values()].filter((point) => point !== null);
}
