/** Clears away what a sudden end left in scratch of work that had ended already: nobody else would ever look for it. */
import { readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import type { Logger } from 'pino';
import type { CatalogReader } from '../catalog/records.js';
import type { Places } from './places.js';

export interface ScratchSweepOptions {
  catalog: { read: CatalogReader };
  places: Places;
  logger: Logger;
}

/** Work that is not finished keeps its scratch: it goes on with it, or clears it away itself. What resists is left. */
export async function sweepScratch({ catalog: { read }, places, logger }: ScratchSweepOptions): Promise<void> {
  // Before the rows: what is made from now on belongs to somebody.
  const left = (await readdir(places.scratch)).filter((name) => /^(backup|recovery)-/.test(name));
  if (left.length === 0) return;
  const backups = await read.backupsInStates(['RUNNING']);
  const recoveries = await read.recoveriesInStates(['QUEUED', 'RUNNING', 'UNWINDING', 'STUCK']);
  const needed = new Set([
    ...backups.map(({ id }) => places.backupScratch(id)),
    ...recoveries.map(({ id }) => places.recoveryScratch(id)),
  ]);
  for (const scratch of left.map((name) => path.join(places.scratch, name))) {
    if (needed.has(scratch)) continue;
    logger.info({ scratch }, 'scratch of work that has ended is cleared away');
    await rm(scratch, { recursive: true, force: true }).catch((error: unknown) =>
      logger.warn({ scratch, err: error }, 'scratch left behind'),
    );
  }
}
