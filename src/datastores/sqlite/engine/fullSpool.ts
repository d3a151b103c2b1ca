/**
 * What is done when captured log cannot be written, because its disk has no room or as much waits for the archive as may:
 * the log waits where it is, up to a cap.
 */
import { freeBytes } from '../../../diskSpace.js';
import { Fault } from '../../../errors.js';
import type { AttachRequest } from '../follower/captureTerms.js';
import type { WalFollower } from '../follower/walFollower.js';

export function isFullDisk(error: unknown): boolean {
  return ['ENOSPC', 'EDQUOT'].includes((error as NodeJS.ErrnoException | null)?.code ?? '');
}

/** The log that is not read for want of room may grow as far as what waits in the spool may. */
export async function logPastCap(follower: WalFollower, { tuning }: AttachRequest): Promise<boolean> {
  return (await follower.unreadBytes()) > tuning.retainBytes;
}

/** Room for a segment: with less it is not worth starting. */
export async function spoolHasRoom({ spool, tuning }: AttachRequest): Promise<boolean> {
  return (await freeBytes(spool)) >= tuning.sealBytes;
}

export function fullSpoolTrouble({ spool }: AttachRequest): string {
  return `The disk is full, so captured log cannot be kept on its way to the archive. Free space under ${spool}.`;
}

export function pastCapReason({ tuning }: AttachRequest): string {
  return `The disk of the captured log is full, and ${letGoBecauseOf(tuning.retainBytes)}`;
}

/** Of an archive that takes log, but less than is written. */
export function outrunReason({ tuning }: AttachRequest): string {
  return `The archive takes less log than is written, and ${letGoBecauseOf(tuning.retainBytes)}`;
}

function letGoBecauseOf(retainBytes: number): string {
  return `the write-ahead log grew by ${Math.ceil(retainBytes / (1 << 20))} MiB meanwhile, so capture let go of the database.`;
}

export function fullSpoolFault({ spool }: AttachRequest): Fault {
  return new Fault('STORAGE_FULL', 'The disk that captured log is written to is full', {
    hint: `Free space under ${spool}; capture goes on by itself.`,
  });
}
