/** Unpacks a backup's tar archives: its parts side by side, each on a thread that proves, decodes and writes it. */
import { Fault } from '../../../errors.js';
import type { StoredPart } from '../../datastore.js';
import { inParallel } from '../../inParallel.js';
import { Turns } from '../../turns.js';
import type { PartStarts } from '../backup/partMarks.js';
import { BAD_TAR, TAR_BLOCK, type TarPlace } from '../formats/tarReader.js';
import type { RunAs } from '../server/processes.js';
import { type ArchivePlace, type UnpackArgument, unpackSinkModule } from './unpackSink.js';

const PARTS_AT_ONCE = 4;

export interface Unpacked {
  parts: StoredPart[];
  /** One after another the whole content. */
  archives: ArchivePlace[];
  /** Null where the backup does not tell: then each part waits for the one before it. */
  starts: PartStarts | null;
  owner: RunAs | null;
}

/**
 * Until this resolves nothing of the backup is proved.
 * @throws Fault BACKUP_CORRUPT, STORAGE_FULL, and what reading the parts throws
 */
export async function unpack({ parts, archives, starts, owner }: Unpacked, signal: AbortSignal): Promise<void> {
  proveContinuous(parts, archives);
  const known = startsOf(parts, starts);
  const turns = Turns.shared();
  /** Where the parts end, in order. */
  let reached: TarPlace = null;
  await inParallel(parts, known ? PARTS_AT_ONCE : 1, async (part, inTurn) => {
    signal.throwIfAborted();
    const place = known ? (known.get(part.offset) ?? null) : reached;
    const argument: UnpackArgument = { archives, offset: part.offset, place, owner, turns };
    const end = (await part.pour({ module: unpackSinkModule, argument }).catch((error: unknown) => {
      throw asFault(error);
    })) as TarPlace;
    await inTurn(() => {
      if (!same(place, reached)) throw corrupt(`its part at byte ${part.offset} does not go on from the one before`);
      reached = end;
    });
  });
  if (reached !== null) throw corrupt('it ends within a file');
}

function proveContinuous(parts: StoredPart[], archives: ArchivePlace[]): void {
  let offset = 0;
  for (const part of parts) {
    if (part.offset !== offset) throw corrupt(`it has a hole at byte ${offset}`);
    offset += part.plainBytes;
  }
  const wanted = archives.at(-1)?.to ?? 0;
  if (offset !== wanted) throw corrupt(`its parts hold ${offset} of its ${wanted} bytes`);
}

/** By offset; null where they do not tell it of every part. */
function startsOf(parts: StoredPart[], told: PartStarts | null): Map<number, TarPlace> | null {
  if (!told) return null;
  const known = new Map<number, TarPlace>([[0, null]]);
  for (const [i, start] of told.starts.entries()) known.set((i + 1) * told.partBytes, start);
  if (parts.some(({ offset }) => offset % TAR_BLOCK !== 0 || !known.has(offset))) return null;
  return known;
}

function same(one: TarPlace, other: TarPlace): boolean {
  return one?.path === other?.path && one?.at === other?.at && one?.left === other?.left;
}

function asFault(error: unknown): unknown {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === BAD_TAR) return corrupt(message);
  if (code !== 'ENOSPC' && code !== 'EDQUOT') return error;
  return new Fault('STORAGE_FULL', `There is no room for the backup: ${message}`, {
    hint: 'Make room where the service keeps its instances, and recover again.',
    cause: error,
  });
}

function corrupt(why: string): Fault {
  return new Fault('BACKUP_CORRUPT', `The backup cannot be unpacked: ${why}`, {
    hint: 'Recover from another backup.',
  });
}
