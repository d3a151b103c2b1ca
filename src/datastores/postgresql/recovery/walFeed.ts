/**
 * Puts the archived log in front of a recovering server: whole WAL files in a directory, a few ahead of what it has
 * taken, fetched by a small shell command that waits for them. Nothing after the cut is ever put there, and nothing that
 * is not proved to be what was archived.
 */
import { renameSync, truncateSync, writeFileSync } from 'node:fs';
import { chmod, chown, mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { Fault } from '../../../errors.js';
import type { Instant } from '../../../instant.js';
import type { StoredSegment } from '../../datastore.js';
import { inParallel } from '../../inParallel.js';
import { Turns } from '../../turns.js';
import { formatLsn, historyFileName, walFileName } from '../formats/lsn.js';
import type { RunAs } from '../server/processes.js';
import { type FedLog, type FedSegment, type FeedArgument, feedSinkModule } from './feedSink.js';

/** Files put ready and not yet taken: enough that the server never waits while the next segment is read. */
const FILES_AHEAD = 8;
/** Each of them is read, proved and written on a thread; the server needs a core too. */
const SEGMENTS_AT_ONCE = 2;
const POLL_MS = 10;

/**
 * $1 the file's name, $2 where to put it. Exit 1 says "there is none", which ends the log: only where the log does end.
 * Anything above 125 stops the server, which is right for a fault. A file already given lies in pg_wal; the server looks
 * there next. What says that there is none comes after the file, so it is looked for before it. Without its caller
 * ($PPID) the script ends.
 */
const RESTORE_SCRIPT = `#!/bin/sh
here=\${0%/*}
while kill -0 $PPID 2>/dev/null; do
  if [ -e "$here/fault" ]; then exit 201; fi
  none=
  if [ -e "$here/end" ] || [ -e "$here/given/$1" ]; then none=1; fi
  case $1 in *.history) none=1 ;; esac
  if [ -e "$here/ready/$1" ]; then
    mv "$here/ready/$1" "$2" && exit 0
    exit 200
  fi
  if [ "$none" ]; then exit 1; fi
  sleep 0.02
done
exit 202
`;

export interface FeedPlan extends FedLog {
  /** Contents of the timeline's history file. */
  history: string | null;
}

export class WalFeed {
  /** Up to here everything is proved. */
  private written: number;
  /** Where the next file begins that is to be given. */
  private nextFile: number;
  private readonly latest = new Map<string, Instant>();

  constructor(
    private readonly directory: string,
    private readonly plan: FeedPlan,
    private readonly runAs: RunAs | null,
    private readonly signal: AbortSignal,
  ) {
    this.written = plan.after;
    this.nextFile = plan.after;
  }

  get restoreCommand(): string {
    // A percent sign in a path would be read as one of PostgreSQL’s placeholders.
    const here = this.directory.replaceAll('%', '%%');
    // Mostly the file is there, and mv is the only program that is started.
    return `[ -e "${here}/ready/%f" ] && exec mv "${here}/ready/%f" "%p"; exec /bin/sh "${here}/restore.sh" "%f" "%p"`;
  }

  /** Makes the directory anew. */
  async prepare(): Promise<void> {
    await rm(this.directory, { recursive: true, force: true });
    for (const part of ['', 'ready', 'given']) await this.own(await this.made(path.join(this.directory, part)));
    // Not the server's user's: what is built there is moved on by name.
    await this.made(path.join(this.directory, 'building'));
    await writeFile(path.join(this.directory, 'restore.sh'), RESTORE_SCRIPT, { mode: 0o755 });
    const { history, timeline } = this.plan;
    if (history === null) return;
    const file = path.join(this.directory, 'ready', historyFileName(timeline));
    await writeFile(file, history, { mode: 0o600 });
    await this.own(file);
  }

  /**
   * Feeds everything up to the cut. The server is stopped where this fails.
   * @throws Fault LOG_CORRUPT, RECOVERY_INCOMPLETE where the log given has a hole, and what reading throws
   */
  async run(segments: AsyncIterable<StoredSegment>): Promise<void> {
    try {
      await this.feedAll(segments);
      if (this.written !== this.plan.cut) throw incomplete(`the log ends at ${formatLsn(this.written)}`);
      if (this.nextFile < this.plan.cut) this.giveLast();
      await writeFile(path.join(this.directory, 'end'), '');
    } catch (error) {
      await writeFile(path.join(this.directory, 'fault'), '').catch(() => {});
      throw asFault(error);
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

  private async feedAll(segments: AsyncIterable<StoredSegment>): Promise<void> {
    const { after, cut } = this.plan;
    const turns = Turns.shared();
    let next: number | null = null;
    await inParallel(this.paced(segments), SEGMENTS_AT_ONCE, async (segment, inTurn) => {
      const fed = await this.pour(segment, turns);
      await inTurn(() => {
        if (next === null ? segment.after > after : segment.after !== next) {
          throw incomplete(`the log from ${formatLsn(next ?? after)} on is missing`);
        }
        next = segment.last;
        for (const { file, at } of fed) this.latest.set(file, at);
        this.written = Math.max(after, Math.min(segment.last, cut));
        while (this.nextFile + this.plan.segmentSize <= this.written) this.give();
      });
    });
  }

  /** Up to the one with the cut, no more of them than the server has use for. */
  private async *paced(segments: AsyncIterable<StoredSegment>): AsyncIterable<StoredSegment> {
    const ready = path.join(this.directory, 'ready');
    for await (const segment of segments) {
      // Ends with the server's own end, which aborts the signal.
      while ((await readdir(ready)).length >= FILES_AHEAD) {
        this.signal.throwIfAborted();
        await new Promise((resolve) => setTimeout(resolve, POLL_MS));
      }
      this.signal.throwIfAborted();
      yield segment;
      if (segment.last >= this.plan.cut) return;
    }
  }

  private async pour(segment: StoredSegment, turns: SharedArrayBuffer): Promise<FedSegment> {
    const { major, timeline, segmentSize, systemId, after, cut } = this.plan;
    const argument: FeedArgument = {
      segment: { after: segment.after, last: segment.last },
      ...{ major, timeline, segmentSize, systemId, after, cut, turns },
      directory: path.join(this.directory, 'building'),
      owner: this.runAs,
    };
    return (await segment.pour({ module: feedSinkModule, argument })) as FedSegment;
  }

  /** What is behind the last byte written reads as zeros, which is where a log ends. */
  private giveLast(): void {
    const name = walFileName(this.plan.timeline, this.nextFile, this.plan.segmentSize);
    truncateSync(path.join(this.directory, 'building', name), this.plan.segmentSize);
    this.give();
  }

  private give(): void {
    const name = walFileName(this.plan.timeline, this.nextFile, this.plan.segmentSize);
    renameSync(path.join(this.directory, 'building', name), path.join(this.directory, 'ready', name));
    // In this order: what is given and not ready has been taken.
    writeFileSync(path.join(this.directory, 'given', name), '');
    this.nextFile += this.plan.segmentSize;
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

function asFault(error: unknown): unknown {
  if (error instanceof Fault) return error;
  const { code, message } = error as NodeJS.ErrnoException;
  // As it comes from another thread.
  if (code === 'LOG_CORRUPT') {
    return new Fault('LOG_CORRUPT', message, { hint: 'Recover to an instant before it, or from a later backup.' });
  }
  if (code !== 'ENOSPC' && code !== 'EDQUOT') return error;
  return new Fault('STORAGE_FULL', 'There is no room for the log that is to be replayed', {
    hint: 'Make room where the service keeps its instances, and recover again.',
    cause: error,
  });
}

function incomplete(why: string): Fault {
  return new Fault('RECOVERY_INCOMPLETE', `The log up to the target is not whole: ${why}`);
}
