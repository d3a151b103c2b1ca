/**
 * Puts the archived log in front of a recovering server: whole WAL files in a directory, a few ahead of what it has
 * taken, fetched by a small shell script that waits for them. Nothing after the cut is ever put there.
 */
import { chmod, chown, type FileHandle, mkdir, open, readdir, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { Fault } from '../../errors.js';
import type { Instant } from '../../instant.js';
import type { StoredSegment } from '../datastore.js';
import { formatLsn, historyFileName, walFileName } from './lsn.js';
import type { RunAs } from './processes.js';
import { readSegment } from './segmentFormat.js';
import { withoutLocation } from './tablespaces.js';
import { putRecord, WalFormatError, WalReader } from './walReader.js';

/** Files put ready and not yet taken: enough that the server never waits while the next segment is read. */
const FILES_AHEAD = 8;
const POLL_MS = 10;

/**
 * $1 the file's name, $2 where to put it. Exit 1 says "there is none", which ends the log: only where the log does end.
 * Anything above 125 stops the server, which is right for a fault. A file already taken lies in pg_wal; the server looks
 * there next. Without its caller ($PPID) the script ends.
 */
const RESTORE_SCRIPT = `#!/bin/sh
here=\${0%/*}
while kill -0 $PPID 2>/dev/null; do
  if [ -e "$here/ready/$1" ]; then
    : > "$here/taken/$1" && mv "$here/ready/$1" "$2" && exit 0
    exit 200
  fi
  if [ -e "$here/taken/$1" ]; then exit 1; fi
  case $1 in *.history) exit 1 ;; esac
  if [ -e "$here/fault" ]; then exit 201; fi
  if [ -e "$here/end" ]; then exit 1; fi
  sleep 0.02
done
exit 202
`;

export interface FeedPlan {
  major: number;
  timeline: number;
  segmentSize: number;
  systemId: string;
  /** A multiple of the segment size. */
  after: number;
  cut: number;
  /** Contents of the timeline's history file. */
  history: string | null;
}

export class WalFeed {
  private file: FileHandle | null = null;
  private fileStart = 0;
  private written: number;
  private readonly latest = new Map<string, Instant>();

  constructor(
    private readonly directory: string,
    private readonly plan: FeedPlan,
    private readonly runAs: RunAs | null,
    private readonly signal: AbortSignal,
  ) {
    this.written = plan.after;
  }

  get restoreCommand(): string {
    // A percent sign in a path would be read as one of PostgreSQL’s placeholders.
    return `/bin/sh "${path.join(this.directory, 'restore.sh').replaceAll('%', '%%')}" "%f" "%p"`;
  }

  /** Makes the directory anew. */
  async prepare(): Promise<void> {
    await rm(this.directory, { recursive: true, force: true });
    for (const part of ['', 'ready', 'taken']) await this.own(await this.made(path.join(this.directory, part)));
    await writeFile(path.join(this.directory, 'restore.sh'), RESTORE_SCRIPT, { mode: 0o755 });
    const { history, timeline } = this.plan;
    if (history === null) return;
    const file = path.join(this.directory, 'ready', historyFileName(timeline));
    await writeFile(file, history, { mode: 0o600 });
    await this.own(file);
  }

  /**
   * Feeds everything up to the cut, then proves the rest of the last segment. The server is stopped where this fails.
   * @throws Fault LOG_CORRUPT, RECOVERY_INCOMPLETE where the log given has a hole, and what reading throws
   */
  async run(segments: AsyncIterable<StoredSegment>): Promise<void> {
    try {
      let next: number | null = null;
      for await (const segment of segments) {
        if (next === null ? segment.after > this.plan.after : segment.after !== next) {
          throw incomplete(`the log from ${formatLsn(next ?? this.plan.after)} on is missing`);
        }
        next = segment.last;
        await this.feed(segment);
        if (segment.last >= this.plan.cut) break;
      }
      if (this.written !== this.plan.cut) throw incomplete(`the log ends at ${formatLsn(this.written)}`);
      await this.finishFile();
      await writeFile(path.join(this.directory, 'end'), '');
    } catch (error) {
      await this.file?.close();
      this.file = null;
      await writeFile(path.join(this.directory, 'fault'), '').catch(() => {});
      if (error instanceof Error && 'code' in error && error.code === 'ENOSPC') {
        throw new Fault('STORAGE_FULL', 'There is no room for the log that is to be replayed', {
          hint: 'Make room where the service keeps its instances, and recover again.',
          cause: error,
        });
      }
      throw error;
    }
  }

  /** The server has taken this file: the greatest commit time of the log before it, to show how far the replay is. */
  reached(fileName: string): Instant | null {
    let reached: Instant | null = null;
    for (const [name, at] of this.latest) {
      if (name >= fileName) break;
      reached = at;
      this.latest.delete(name);
    }
    return reached;
  }

  private async feed(segment: StoredSegment): Promise<void> {
    let records: WalReader | null = null;
    const changed: { start: number; record: Buffer }[] = [];
    // What may still be changed when more of it has arrived.
    let held: Buffer = Buffer.alloc(0);
    await readSegment(segment, {
      header: (header) => {
        const { timeline, segmentSize, systemId } = this.plan;
        if (header.timeline !== timeline || header.segmentSize !== segmentSize || header.systemId !== systemId) {
          throw new Fault('LOG_CORRUPT', 'The archived log is not that of the backup’s server and timeline');
        }
        records = new WalReader(
          header.start,
          segmentSize,
          ({ start, at }) => this.latest.set(walFileName(timeline, start, segmentSize), at),
          () => {},
          (found) => {
            const record = withoutLocation(found);
            if (record) changed.push({ start: found.start, record });
          },
        );
      },
      bytes: async (lsn, bytes) => {
        try {
          records?.push(bytes);
        } catch (error) {
          if (!(error instanceof WalFormatError)) throw error;
          throw new Fault('LOG_CORRUPT', `The archived log is damaged: ${error.message}`);
        }
        const written = records?.major ?? this.plan.major;
        if (written !== this.plan.major) {
          throw new Fault(
            'LOG_CORRUPT',
            `The archived log is of PostgreSQL ${written}, the backup of ${this.plan.major}`,
          );
        }
        const from = lsn - held.length;
        // Copied only where something is changed: the chunk is not this reader's.
        const log = held.length > 0 || changed.length > 0 ? Buffer.concat([held, bytes]) : bytes;
        for (const { start, record } of changed.splice(0)) {
          putRecord(log, from, start, record, this.plan.segmentSize);
        }
        const settled = (records?.settled ?? lsn) - from;
        await this.writeWithin(from, log.subarray(0, settled));
        held = Buffer.from(log.subarray(settled));
      },
    });
    await this.writeWithin(segment.last - held.length, held);
  }

  /** Writes what of these bytes lies between the plan's beginning and its cut. */
  private async writeWithin(lsn: number, bytes: Buffer): Promise<void> {
    const from = Math.max(0, this.plan.after - lsn);
    const to = Math.min(bytes.length, this.plan.cut - lsn);
    if (to > from) await this.write(lsn + from, bytes.subarray(from, to));
  }

  private async write(lsn: number, bytes: Buffer): Promise<void> {
    const { segmentSize } = this.plan;
    for (let at = 0; at < bytes.length; ) {
      const position = lsn + at;
      const left = segmentSize - (position % segmentSize);
      if (!this.file) await this.beginFile(position);
      const piece = bytes.subarray(at, at + left);
      await this.file?.write(piece, 0, piece.length, position - this.fileStart);
      at += piece.length;
      this.written = position + piece.length;
      if (piece.length === left) await this.finishFile();
    }
  }

  private async beginFile(lsn: number): Promise<void> {
    const ready = path.join(this.directory, 'ready');
    // Ends with the server's own end, which aborts the signal.
    while ((await readdir(ready)).length >= FILES_AHEAD) {
      this.signal.throwIfAborted();
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
    this.signal.throwIfAborted();
    this.fileStart = lsn - (lsn % this.plan.segmentSize);
    this.file = await open(path.join(this.directory, 'building'), 'w', 0o600);
  }

  /** What is behind the last byte written reads as zeros, which is where a log ends. */
  private async finishFile(): Promise<void> {
    if (!this.file) return;
    await this.file.truncate(this.plan.segmentSize);
    await this.file.close();
    this.file = null;
    const built = path.join(this.directory, 'building');
    await this.own(built);
    const name = walFileName(this.plan.timeline, this.fileStart, this.plan.segmentSize);
    await rename(built, path.join(this.directory, 'ready', name));
  }

  private async made(directory: string): Promise<string> {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    await chmod(directory, 0o700);
    return directory;
  }

  private async own(file: string): Promise<void> {
    if (this.runAs) await chown(file, this.runAs.uid, this.runAs.gid);
  }
}

function incomplete(why: string): Fault {
  return new Fault('RECOVERY_INCOMPLETE', `The log up to the target is not whole: ${why}`);
}
