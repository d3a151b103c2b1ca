/**
 * Remembers what a recovery found damaged, so that nothing is advertised that can't be recovered: a lost segment splits
 * its window, a lost backup is one no more, and a new full backup opens the next window. What is written here is not
 * taken back, so the object is read once more first: one bad read, or a storage that is not mounted, proves nothing. A
 * disk that cannot read it has lost it only if it can read others.
 */
import type { Logger } from 'pino';
import { uuidv7 } from 'uuidv7';
import type { BackupRecord, Catalog, CatalogReader, SegmentRecord, StretchRecord } from '../catalog/records.js';
import { Fault } from '../errors.js';
import { type Instant, instant } from '../instant.js';
import type { StoredObject } from '../model.js';
import type { DamageCode } from '../storage/objectReader.js';
import type { ObjectPipeline } from '../storage/pipeline.js';
import type { Storage } from '../storage/storage.js';
import { readManifest } from './manifest.js';
import { parseKey } from './objectKeys.js';

/** Other objects that are tried before the whole disk is taken for unreadable. */
const OTHERS_TRIED = 8;

export interface DamageBookOptions {
  catalog: Catalog;
  storage: Storage;
  pipeline: ObjectPipeline;
  logger: Logger;
  /** A piece of an instance's archive is lost: it may need a new full backup. */
  onLost(instanceId: string): void;
}

export class DamageBook {
  constructor(private readonly options: DamageBookOptions) {}

  /** Takes any fault and writes down those that name a damaged object of an archive. Never rejects. */
  async remember(fault: Fault): Promise<void> {
    const { object } = fault.details;
    if (typeof object !== 'string') return;
    try {
      const owner = parseKey(object);
      if (!owner) return;
      const written =
        'backupId' in owner
          ? tellsOf(fault, 'BACKUP_CORRUPT') && (await this.rememberBackup(owner.backupId, object))
          : tellsOf(fault, 'LOG_CORRUPT') && (await this.rememberSegment(owner, object));
      if (!written) return;
      this.options.logger.error({ instanceId: owner.instanceId, object }, 'a stored object is lost for recoveries');
      this.options.onLost(owner.instanceId);
    } catch (error) {
      this.options.logger.warn({ object, err: error }, 'damage was not remembered; the next reader meets it again');
    }
  }

  private async rememberSegment(owner: { instanceId: string; stretch: string; last: number }, key: string) {
    const { catalog } = this.options;
    const stretch = await catalog.read.stretchByName(owner.instanceId, owner.stretch);
    const segment = stretch && (await catalog.read.segmentHolding(stretch.id, owner.last));
    if (!stretch || segment?.object.key !== key) return false;
    if (!(await this.isLost(segment.object, 'LOG_CORRUPT'))) return false;
    const { from, to } = await unreachable(catalog.read, stretch, segment);
    const { after, last } = segment;
    return catalog.write(async (writer) => {
      const known = await writer.gaps([stretch.id]);
      if (known.some((gap) => gap.after === after && gap.last === last)) return false;
      await writer.insertGap({ id: uuidv7(), stretchId: stretch.id, from, to, after, last, because: 'CORRUPT_LOG' });
      return true;
    });
  }

  private async rememberBackup(backupId: string, key: string): Promise<boolean> {
    const { catalog } = this.options;
    const backup = await catalog.read.backup(backupId);
    if (backup?.state !== 'COMPLETED') return false;
    const lost = await this.lostPart(backup, key);
    if (!lost) return false;
    return catalog.write(async (writer) => {
      if ((await writer.backup(backupId))?.state !== 'COMPLETED') return false;
      await writer.updateBackup(backupId, { state: 'FAILED', error: lost.toData() });
      return true;
    });
  }

  private async lostPart({ manifest }: BackupRecord, key: string): Promise<Fault | null> {
    if (!manifest) return null;
    const lost = await this.isLost(manifest, 'BACKUP_CORRUPT');
    if (lost || manifest.key === key) return lost;
    const { parts } = await readManifest(this.options.pipeline, manifest);
    const part = parts.find((each) => each.key === key);
    return part ? this.isLost(part, 'BACKUP_CORRUPT') : null;
  }

  /** What a second reading says, or null where it finds nothing wrong. @throws Fault STORAGE_UNAVAILABLE */
  private async isLost(object: StoredObject, code: DamageCode): Promise<Fault | null> {
    const { pipeline, storage } = this.options;
    try {
      for await (const _bytes of pipeline.read(object, code));
      return null;
    } catch (error) {
      if (!(error instanceof Fault) || !tellsOf(error, code)) throw error;
      if (error.code !== code) {
        if (!(await this.othersAreReadable(object))) throw error;
        return new Fault(code, `The disk cannot read the stored object ${object.key} any more`, {
          hint: 'Take a new backup now, and have a look at the disk.',
          details: error.details,
          cause: error,
        });
      }
      if (error.details.problem !== 'missing') return error;
      for await (const _any of storage.list('instances')) return error;
      throw new Fault('STORAGE_UNAVAILABLE', 'The storage is empty', { hint: 'Check that it is mounted.' });
    }
  }

  /** Bad sectors lie together, so one more that cannot be read is not yet the disk. */
  private async othersAreReadable(object: StoredObject): Promise<boolean> {
    const { storage } = this.options;
    let tried = 0;
    for await (const { key } of storage.list('instances')) {
      if (key === object.key) continue;
      if (await canBeRead(storage, key)) return true;
      tried += 1;
      if (tried === OTHERS_TRIED) return false;
    }
    return false;
  }
}

/** The fault says of an object that it is damaged, or that the disk cannot read it. */
function tellsOf({ code, details }: Fault, damage: DamageCode): boolean {
  return code === damage || (code === 'STORAGE_UNAVAILABLE' && details.problem === 'unreadable');
}

async function canBeRead(storage: Storage, key: string): Promise<boolean> {
  try {
    const stream = await storage.get(key);
    if (!stream) return false; // Removed meanwhile.
    for await (const _bytes of stream);
    return true;
  } catch {
    return false;
  }
}

/**
 * Between which instants nothing can be recovered without this segment. Before its first commit the catalog's own times
 * decide, as long as there is an earlier segment to end with; of a segment without commits, or the first one, nothing
 * is advertised any more.
 */
async function unreachable(
  read: CatalogReader,
  stretch: StretchRecord,
  segment: SegmentRecord,
): Promise<{ from: Instant; to: Instant }> {
  const earlier = await read.lastSegmentWithCommitUpTo(stretch.id, segment.after);
  const first = earlier ? (segment.firstCommitAt ?? earlier.latestCommitAt ?? 0) : 0;
  const to = segment.lastCommitAt ?? segment.coveredTo;
  const lastGood = instant(Math.max(0, first - 1));
  return { from: lastGood, to: instant(Math.max(lastGood, to)) };
}
