/**
 * An archive for driver tests: keeps what a capture and its backups hand over as plain files, remembers what it was
 * told, and plans recoveries in the plainest way. Stands in for catalog, storage and planner.
 */
import { createReadStream } from 'node:fs';
import { mkdir, open, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import type { StartingPoint } from '../../src/backup/chains.js';
import type { GapRecord, StretchRecord } from '../../src/catalog/records.js';
import type {
  BackupFacts,
  BackupSink,
  CapturedSegment,
  CaptureHealth,
  Datastore,
  LocateTarget,
  LogSink,
  ParentBackup,
  RecoveryContext,
  ResumePoint,
  StoredBackup,
  StoredPart,
  StoredSegment,
  StretchStart,
} from '../../src/datastores/datastore.js';
import type { JsonObject } from '../../src/errors.js';
import { type Instant, instant } from '../../src/instant.js';
import type { Cut, LogPosition } from '../../src/model.js';
import { computeWindows, type StretchWindow } from '../../src/recovery/windows.js';
import { poured } from './poured.js';
import { plainOf } from './unpacked.js';

export interface ArchivedSegment {
  stretch: string;
  after: number;
  last: number;
  transactions: number;
  firstCommitAt: Instant | null;
  lastCommitAt: Instant | null;
  coveredTo: Instant;
  continuation: JsonObject;
  file: string;
  plainBytes: number;
}

export class DirectoryArchive implements LogSink {
  readonly stretches: StretchStart[] = [];
  readonly segments: ArchivedSegment[] = [];
  readonly holes: { stretch: string; from: Instant; to: Instant }[] = [];
  readonly backups: StoredBackup[] = [];
  healths: CaptureHealth[] = [];
  coverage = new Map<string, Instant>();
  /** While set, every segment is refused with it. */
  refuseWith: Error | null = null;
  /** While set, no segment is answered before it resolves; then it is refused. */
  refuseAfter: Promise<void> | null = null;
  /** While set, no segment is taken before it resolves. */
  takeAfter: Promise<void> | null = null;

  constructor(private readonly dir: string) {}

  identified(): void {}

  async stretchStarted(stretch: StretchStart): Promise<void> {
    if (this.stretches.at(-1)?.stretch !== stretch.stretch) this.stretches.push(stretch);
  }

  async segment(segment: CapturedSegment): Promise<void> {
    if (this.refuseWith) throw this.refuseWith;
    if (this.refuseAfter) {
      await this.refuseAfter;
      throw new Error('the archive had hung');
    }
    await this.takeAfter;
    const stretch = segment.after.stretch;
    const { after, last, transactions, firstCommitAt, lastCommitAt, coveredTo, continuation } = segment;
    const file = path.join(this.dir, `${stretch}-${last.ordinal}`);
    const plainBytes = await writeFileFrom(file, plainOf(segment));
    if (this.segments.some((each) => each.stretch === stretch && each.last === last.ordinal)) return;
    const before = this.ofStretch(stretch).at(-1)?.last ?? 0;
    if (before !== after.ordinal) throw new Error(`segment after ${after.text} does not continue ${stretch}/${before}`);
    this.segments.push({
      stretch,
      after: after.ordinal,
      last: last.ordinal,
      transactions,
      firstCommitAt,
      lastCommitAt,
      coveredTo,
      // As it would come back from a catalog.
      continuation: JSON.parse(JSON.stringify(continuation)),
      file,
      plainBytes,
    });
    this.cover(stretch, coveredTo);
  }

  covered(position: LogPosition, coveredTo: Instant): void {
    const archived = this.ofStretch(position.stretch).at(-1)?.last ?? 0;
    if (archived !== position.ordinal) throw new Error(`${position.text} is covered but only ${archived} is archived`);
    this.cover(position.stretch, coveredTo);
  }

  async unobserved(stretch: string, from: Instant, to: Instant): Promise<void> {
    if (this.holes.some((hole) => hole.stretch === stretch && hole.from === from)) return;
    this.holes.push({ stretch, from, to });
  }

  health(health: CaptureHealth): void {
    this.healths.push(health);
  }

  /** A sink for one backup's content, cut into parts as the interface says. */
  backupSink(
    name: string,
    standsOn: StoredBackup | null = null,
  ): { sink: BackupSink; done(facts: BackupFacts): StoredBackup } {
    const parts: StoredBackup['parts'] = [];
    const write = async (content: AsyncIterable<Buffer>, partBytes = 1 << 20) => {
      let offset = 0;
      for await (const bytes of piecesOf(content, partBytes)) {
        const file = path.join(this.dir, `${name}-${parts.length}`);
        await writeFileFrom(file, [bytes]);
        const read = () => createReadStream(file) as AsyncIterable<Buffer>;
        const pour: StoredPart['pour'] = (to, passed) => poured(read(), to, passed);
        parts.push({ offset, plainBytes: bytes.length, read, pour });
        offset += bytes.length;
      }
    };
    return {
      sink: { write },
      done: (facts) => {
        // As it would come back from a catalog.
        const backup = { facts: JSON.parse(JSON.stringify(facts)) as BackupFacts, parts };
        if (!standsOn) this.backups.push(backup);
        return backup;
      },
    };
  }

  resumePoint(): ResumePoint | null {
    const stretch = this.stretches.at(-1);
    if (!stretch) return null;
    const last = this.ofStretch(stretch.stretch).at(-1);
    const ordinal = last?.last ?? 0;
    return {
      position: { stretch: stretch.stretch, ordinal, text: `${stretch.stretch}/${ordinal}` },
      coveredTo: this.coverage.get(stretch.stretch) ?? instant(0),
      continuation: last?.continuation ?? {},
    };
  }

  ofStretch(stretch: string): ArchivedSegment[] {
    return this.segments.filter((each) => each.stretch === stretch);
  }

  /** What the service offers of such an archive; a window's stretchId is the driver's name for it. */
  windows(): StretchWindow[] {
    const stretches = this.stretches.map(({ stretch, because }, number) => {
      const coveredTo = this.coverage.get(stretch) ?? null;
      return { id: stretch, number, startsBecause: because, endsBecause: null, coveredTo } as StretchRecord;
    });
    const gaps = this.holes.map(({ stretch, from, to }): GapRecord => {
      return { id: '', stretchId: stretch, from, to, after: null, last: null, because: 'LOG_GAP' };
    });
    const points = this.backups.map(({ facts: { consistent, consistentAt, replayAfter } }) => {
      return { stretchId: consistent.stretch, consistentAt, replayAfter: replayAfter.ordinal } as StartingPoint;
    });
    return computeWindows(stretches, gaps, points);
  }

  async locate(datastore: Datastore, target: LocateTarget, stretch: string): Promise<Cut> {
    const log = this.ofStretch(stretch);
    const index =
      'at' in target
        ? log.findIndex((each) => (each.lastCommitAt ?? 0) > target.at)
        : log.findIndex((each) => each.last > target.position.ordinal);
    const boundary = index < 0 ? null : stored(log[index] as ArchivedSegment);
    const beforeIndex = index < 0 ? log.length - 1 : index - 1;
    if (log.length === 0) {
      // Nothing was committed since the stretch began.
      const position = 'at' in target ? { stretch, ordinal: 0, text: `${stretch}/0` } : target.position;
      return { position, lastKeptNotBefore: null, lastKeptAt: null, firstDroppedAt: null };
    }
    const before = beforeIndex < 0 ? null : stored(log[beforeIndex] as ArchivedSegment);
    return datastore.locate(target, { before, boundary, stretch });
  }

  /** What an INCREMENTAL or DIFFERENTIAL backup is made of. */
  parent({ facts }: StoredBackup): ParentBackup {
    const { stretch, ordinal } = facts.replayAfter;
    const archive = this;
    return {
      facts,
      log: async function* (last) {
        const log = archive.ofStretch(stretch).filter((each) => each.last > ordinal && each.after < last);
        yield* log.reverse().map(stored);
      },
    };
  }

  /** The newest full backup from which the cut can be reached. */
  baseFor(cut: Cut): StoredBackup | null {
    const fits = this.backups.filter(
      ({ facts }) =>
        facts.consistent.stretch === cut.position.stretch && facts.consistent.ordinal <= cut.position.ordinal,
    );
    return fits.at(-1) ?? null;
  }

  /** Runs every step of a recovery; answers with the new instance's home. */
  async recover(
    datastore: Datastore,
    cut: Cut,
    base: StoredBackup,
    name: string,
    incrementals: StoredBackup[] = [],
  ): Promise<string> {
    const context = await this.recoveryContext(cut, base, name, incrementals);
    const { recovery } = datastore;
    for (const step of recovery.order) {
      if (step === 'RESTORE_BASE') await recovery.restoreBase(context);
      else if (step === 'APPLY_INCREMENTALS') await recovery.applyIncrementals(context);
      else {
        const reached = await recovery.replayLog(context);
        if (reached.text !== cut.position.text) throw new Error(`reached ${reached.text}, not ${cut.position.text}`);
      }
    }
    const found = await recovery.verify(context);
    if (found.position.text !== cut.position.text) throw new Error('verify found another position');
    await recovery.activate(context);
    await rm(context.scratch, { recursive: true });
    return context.target.home;
  }

  async recoveryContext(
    cut: Cut,
    base: StoredBackup,
    name: string,
    incrementals: StoredBackup[] = [],
  ): Promise<RecoveryContext> {
    const home = path.join(this.dir, name, 'home');
    const scratch = path.join(this.dir, name, 'scratch');
    await mkdir(home, { recursive: true });
    await mkdir(scratch, { recursive: true });
    const { replayAfter } = (incrementals.at(-1) ?? base).facts;
    const log = this.ofStretch(cut.position.stretch)
      .filter((each) => each.last > replayAfter.ordinal && each.after < cut.position.ordinal)
      .map(stored);
    return {
      source: { id: 'source', state: {}, datastoreVersion: '' },
      target: { id: name, home },
      scratch,
      base,
      incrementals,
      cut,
      segments: async function* (order) {
        yield* order === 'oldest-first' ? log : [...log].reverse();
      },
      progress: { replayedTo: () => {}, message: () => {} },
      signal: new AbortController().signal,
    };
  }

  private cover(stretch: string, coveredTo: Instant): void {
    if (coveredTo > (this.coverage.get(stretch) ?? 0)) this.coverage.set(stretch, coveredTo);
  }
}

export function stored(segment: ArchivedSegment): StoredSegment {
  const { after, last, transactions, plainBytes, file } = segment;
  const read = () => createReadStream(file) as AsyncIterable<Buffer>;
  return { after, last, transactions, plainBytes, read, pour: (to) => poured(read(), to) };
}

async function writeFileFrom(file: string, content: AsyncIterable<Buffer> | Iterable<Buffer>): Promise<number> {
  const handle = await open(`${file}.part`, 'w');
  let bytes = 0;
  try {
    for await (const chunk of content) {
      await handle.write(chunk, 0, chunk.length, bytes);
      bytes += chunk.length;
    }
  } finally {
    await handle.close();
  }
  await rename(`${file}.part`, file);
  return bytes;
}

async function* piecesOf(content: AsyncIterable<Buffer>, size: number): AsyncGenerator<Buffer> {
  let held = Buffer.alloc(0);
  for await (const chunk of content) {
    held = Buffer.concat([held, chunk]);
    for (; held.length >= size; held = held.subarray(size)) yield Buffer.from(held.subarray(0, size));
  }
  if (held.length > 0) yield held;
}
