/** What is done when the disk that captured log is written to has no room: the log waits where it is, up to a cap. */
import { stat, statfs } from 'node:fs/promises';
import { Fault } from '../../errors.js';
import type { AttachRequest } from './engineProtocol.js';

export function isFullDisk(error: unknown): boolean {
  return ['ENOSPC', 'EDQUOT'].includes((error as NodeJS.ErrnoException | null)?.code ?? '');
}

/** The log that is kept for want of room may grow as far as what waits in the spool may. */
export async function logPastCap({ file, tuning }: AttachRequest): Promise<boolean> {
  const { size } = await stat(`${file}-wal`).catch(() => ({ size: 0 }));
  return size > tuning.retainBytes;
}

/** Room for a segment: with less it is not worth starting. */
export async function spoolHasRoom({ spool, tuning }: AttachRequest): Promise<boolean> {
  const { bavail, bsize } = await statfs(spool);
  return bavail * bsize >= tuning.sealBytes;
}

export function fullSpoolTrouble({ spool }: AttachRequest): string {
  return `The disk is full, so captured log cannot be kept on its way to the archive. Free space under ${spool}.`;
}

export function pastCapReason({ tuning }: AttachRequest): string {
  return (
    'The disk of the captured log is full, and the write-ahead log grew past ' +
    `${Math.ceil(tuning.retainBytes / (1 << 20))} MiB meanwhile, so capture let go of the database.`
  );
}

export function fullSpoolFault({ spool }: AttachRequest): Fault {
  return new Fault('STORAGE_FULL', 'The disk that captured log is written to is full', {
    hint: `Free space under ${spool}; capture goes on by itself.`,
  });
}
