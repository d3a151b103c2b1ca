/**
 * A stand-in for the archive behind a driver: segments and backups as plain files in a directory, and the least of a
 * planner that the contract describes.
 */
import { createReadStream } from 'node:fs';
import { mkdir, open, stat } from 'node:fs/promises';
import path from 'node:path';
import type {
  BackupFacts,
  BackupSink,
  CapturedSegment,
  CaptureHealth,
  LogSink,
  ResumePoint,
  SegmentsAround,
  StoredBackup,
  StoredPart,
  StoredSegment,
  StretchStart,
} from '../../../src/datastores/datastore.js';
import type { JsonObject } from '../../../src/errors.js';
import type { Instant } from '../../../src/instant.js';
import type { LogPosition } from '../../../src/model.js';
import { poured } from '../poured.js';
import { plainOf } from '../unpacked.js';

export interface KeptSegment extends StoredSegment {
  stretch: string;
  file: string;
  lastPosition: LogPosition;
  coveredTo: Instant;
  /** The greatest commit time of the stretch up to and with this segment. */
  latestCommitAt: Instant | null;
  continuation: JsonObject;
}

export class PlainArchive implements LogSink {
  readonly stretches: StretchStart[] = [];
  readonly segments: KeptSegment[] = [];
  readonly healths: CaptureHealth[] = [];
  /** Set to make the archive refuse segments. */
  refuse: Error | null = null;
  /** Of the database that is followed. */
  identity: string | null = null;
  private readonly observers = new Set<() => void>();

  constructor(readonly directory: string) {}

  identified(identity: string): void {
    this.identity = identity;
  }

  async stretchStarted(stretch: StretchStart): Promise<void> {
    if (this.stretches.some((known) => known.stretch === stretch.stretch)) throw new Error('a stretch began twice');
    this.stretches.push(stretch);
    this.notify();
  }

  async segment(segment: CapturedSegment): Promise<void> {
    if (this.refuse) throw this.refuse;
    const stretch = segment.last.stretch;
    const before = this.segments.filter((kept) => kept.stretch === stretch).at(-1);
    const start = this.stretches.find((known) => known.stretch === stretch);
    if (!start) throw new Error('a segment of a stretch that never began');
    if (segment.after.ordinal !== (before?.last ?? start.position.ordinal)) throw new Error('segments do not connect');
    const file = path.join(this.directory, `${this.segments.length}.log`);
    const plainBytes = await store(file, plainOf(segment));
    const latest = [before?.latestCommitAt ?? null, segment.lastCommitAt].filter((at) => at !== null);
    this.segments.push({
      stretch,
      file,
      after: segment.after.ordinal,
      last: segment.last.ordinal,
      lastPosition: segment.last,
      transactions: segment.transactions,
      coveredTo: segment.coveredTo,
      latestCommitAt: latest.length > 0 ? (Math.max(...latest) as Instant) : null,
      // As it comes back from a catalog.
      continuation: JSON.parse(JSON.stringify(segment.continuation)),
      plainBytes,
      read: () => createReadStream(file) as AsyncIterable<Buffer>,
      pour: (to) => poured(createReadStream(file) as AsyncIterable<Buffer>, to),
    });
    this.notify();
  }

  covered(): void {}

  async unobserved(): Promise<void> {
    throw new Error('PostgreSQL has a time for every commit');
  }

  health(health: CaptureHealth): void {
    this.healths.push(health);
    this.notify();
  }

  /** Waits until `condition` holds; looked at whenever something arrives. */
  async until(what: string, condition: () => boolean, timeoutMs = 60_000): Promise<void> {
    const end = Date.now() + timeoutMs;
    while (!condition()) {
      const left = end - Date.now();
      if (left <= 0) throw new Error(`waited in vain: ${what}`);
      await new Promise<void>((resolve) => {
        const done = () => {
          this.observers.delete(done);
          clearTimeout(timer);
          resolve();
        };
        const timer = setTimeout(done, left);
        this.observers.add(done);
      });
    }
  }

  resumePoint(): ResumePoint | null {
    const last = this.segments.at(-1);
    return last ? { position: last.lastPosition, coveredTo: last.coveredTo, continuation: last.continuation } : null;
  }

  /** The segments on either side of an instant's cut. */
  around(at: Instant, stretch: string): SegmentsAround {
    const own = this.segments.filter((kept) => kept.stretch === stretch);
    const boundary = own.find((kept) => kept.latestCommitAt !== null && kept.latestCommitAt > at) ?? null;
    const until = boundary?.after ?? Number.MAX_SAFE_INTEGER;
    return {
      stretch,
      boundary,
      before: own.filter((kept) => kept.last <= until && kept.transactions > 0).at(-1) ?? null,
    };
  }

  /** The segments on either side of a position. */
  aroundPosition(ordinal: number, stretch: string): SegmentsAround {
    const own = this.segments.filter((kept) => kept.stretch === stretch);
    const holding = own.find((kept) => kept.after < ordinal && ordinal <= kept.last) ?? null;
    const before = own.filter((kept) => kept.last < ordinal && kept.transactions > 0).at(-1) ?? null;
    return { stretch, before, boundary: holding };
  }

  /** Everything with transactions in (after, last]. */
  between(stretch: string, after: number, last: number): KeptSegment[] {
    return this.segments.filter((kept) => kept.stretch === stretch && kept.last > after && kept.after < last);
  }

  private notify(): void {
    for (const observer of [...this.observers]) observer();
  }
}

export class PlainBackup implements BackupSink {
  readonly parts: StoredPart[] = [];

  constructor(readonly directory: string) {}

  async write(content: AsyncIterable<Buffer>, partBytes = 16 * 1024 * 1024): Promise<void> {
    await mkdir(this.directory, { recursive: true });
    let offset = 0;
    let part: Buffer[] = [];
    let held = 0;
    const seal = async () => {
      const file = path.join(this.directory, `part-${this.parts.length}`);
      const plainBytes = await store(file, part);
      const read = () => createReadStream(file) as AsyncIterable<Buffer>;
      this.parts.push({ offset, plainBytes, read, pour: (to, passed) => poured(read(), to, passed) });
      offset += plainBytes;
      part = [];
      held = 0;
    };
    for await (const chunk of content) {
      for (let at = 0; at < chunk.length; ) {
        const piece = chunk.subarray(at, at + partBytes - held);
        part.push(piece);
        held += piece.length;
        at += piece.length;
        if (held === partBytes) await seal();
      }
    }
    if (held > 0) await seal();
  }

  stored(facts: BackupFacts): StoredBackup {
    return { facts: JSON.parse(JSON.stringify(facts)), parts: this.parts };
  }
}

async function store(file: string, content: AsyncIterable<Buffer> | Iterable<Buffer>): Promise<number> {
  const handle = await open(file, 'w');
  for await (const chunk of content) await handle.write(chunk);
  await handle.close();
  return (await stat(file)).size;
}
