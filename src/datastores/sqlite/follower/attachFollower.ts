/** Opens a database and its log for following, at the place where the captured log ends or at a new generation's begin. */
import { statSync } from 'node:fs';
import path from 'node:path';
import { refuseLinks } from '../source/databasePaths.js';
import { identityOf, MainFile } from '../source/mainFile.js';
import { WalFile } from '../source/walFile.js';
import { WalPins } from '../source/walPins.js';
import { type AttachFrom, type AttachPoint, attachPoint } from './attachPoint.js';
import { BracketClock } from './bracketClock.js';
import { proveBeside } from './capturedPrefix.js';
import type { AttachRequest, CaptureHost } from './captureTerms.js';
import { SegmentWriter } from './segmentWriter.js';
import { WalFollower } from './walFollower.js';
import { WalReading } from './walReading.js';

const attachPatienceMs = 5000;

/**
 * Attaches to a database and starts a new generation unless the log goes on where `from.known` ends.
 * @throws Error where the database cannot be opened, is not in WAL mode or others keep the write lock
 */
export async function attachFollower(
  request: AttachRequest,
  from: AttachFrom,
  host: CaptureHost,
  clock = new BracketClock(),
): Promise<WalFollower> {
  await refuseLinks(request.file, path.dirname(request.spool));
  const pins = await WalPins.open(request.file);
  const wal = new WalFile(`${request.file}-wal`);
  try {
    const proved = await proveBeside(request, from, pins, wal);
    if (!(await pins.lockWrites(attachPatienceMs, async () => false))) {
      throw new Error('another program has held the write lock of the database for seconds; capture waits for it');
    }
    let point: AttachPoint;
    try {
      point = await attachPoint(request, from, pins, wal, proved);
    } finally {
      await pins.unlockWrites();
    }
    const { generation, ordinal, pageSize, axis, epoch, frames, sum } = point;
    const end = epoch && { version: 1 as const, pageSize, salt1: epoch.salt1, salt2: epoch.salt2, frames, sum, axis };
    const writer = new SegmentWriter(request, generation, ordinal, pageSize, point.seenLo, axis, end, host.emit);
    const main = new MainFile(request.file, request.spool, generation, point.file, point.copied);
    await main.note();
    // Nothing fails from here on: of a stretch that is told of the session knows.
    host.emit({ type: 'identified', identity: identityOf(statSync(request.file, { bigint: true })) });
    if (point.newStretch) host.emit({ type: 'stretch', ...point.newStretch });
    const reading = new WalReading(wal, writer, point);
    return new WalFollower({ request, host, main, pins, wal, writer, reading }, point, clock);
  } catch (error) {
    await Promise.allSettled([pins.close(), wal.close()]);
    throw error;
  }
}
