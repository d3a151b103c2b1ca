/** What a recovery needs to know of a backup besides its bytes; stored with it, in versions of its own. */
import { z } from 'zod';
import { Fault } from '../../../errors.js';
import type { BackupFacts } from '../../datastore.js';

const fullSchema = z.object({
  version: z.literal(1),
  pageSize: z.number().int().positive(),
  /** Size of the database at the backup's consistent position, in pages. */
  dbPages: z.number().int().nonnegative(),
  /** Bytes of the file that were copied. */
  bytes: z.number().int().nonnegative(),
});
export type FullBackupState = z.infer<typeof fullSchema>;

const pagesSchema = z.object({
  version: z.literal(1),
  kind: z.literal('pages'),
  pageSize: z.number().int().positive(),
  dbPages: z.number().int().nonnegative(),
  /** The transaction after which the parent leaves off: its replayAfter. */
  after: z.number().int().nonnegative(),
  /** Pages that it holds. */
  pages: z.number().int().nonnegative(),
});
export type PageBackupState = z.infer<typeof pagesSchema>;

/** @throws Fault VERSION_MISMATCH for what this version of the driver cannot restore */
export function fullBackupState(facts: BackupFacts): FullBackupState {
  return known(fullSchema.safeParse(facts.state));
}

/** Of an INCREMENTAL or DIFFERENTIAL backup. @throws Fault VERSION_MISMATCH */
export function pageBackupState(facts: BackupFacts): PageBackupState {
  return known(pagesSchema.safeParse(facts.state));
}

function known<T>(parsed: { success: true; data: T } | { success: false }): T {
  if (parsed.success) return parsed.data;
  throw new Fault('VERSION_MISMATCH', 'The backup was made by another version of the SQLite driver', {
    hint: 'Recover from another backup, or with the version of this service that made it.',
  });
}
