/** How the service names its objects in storage, and what such a name says. */
import type { CapturedSegment } from '../datastores/datastore.js';

/** Ordinals go to 2^53 - 1: sixteen digits keep keys in log order. */
const ORDINAL_DIGITS = 16;

export function segmentKey(instanceId: string, { after, last }: Pick<CapturedSegment, 'after' | 'last'>): string {
  const padded = (ordinal: number) => String(ordinal).padStart(ORDINAL_DIGITS, '0');
  return `${instancePrefix(instanceId)}/log/${last.stretch}/${padded(after.ordinal)}-${padded(last.ordinal)}`;
}

export function backupPrefix(instanceId: string, backupId: string): string {
  return `${instancePrefix(instanceId)}/backups/${backupId}`;
}

/** The instance that an object belongs to and what the object is; null for a name that is none of ours. */
export function parseKey(
  key: string,
): ({ instanceId: string } & ({ stretch: string; last: number } | { backupId: string })) | null {
  const [root, name, kind, part, rest] = key.split('/');
  if (root !== 'instances' || !name || !part || !rest) return null;
  const instanceId = name.replaceAll('_c', ':').replaceAll('_u', '_');
  if (kind === 'backups') return { instanceId, backupId: part };
  return kind === 'log' ? { instanceId, stretch: part, last: Number(rest.split('-')[1]) } : null;
}

/** Ids may hold a colon and names in storage may not. Two ids never have the same name. */
function instancePrefix(instanceId: string): string {
  return `instances/${instanceId.replaceAll('_', '_u').replaceAll(':', '_c')}`;
}
