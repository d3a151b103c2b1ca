/**
 * Notices when the database file itself is not the one whose log is captured. In WAL mode only checkpoints write to it, and
 * what they wrote shows in the count of copied frames; any other write means that somebody put other content there, and
 * the log captured from then on would continue something else. The note kept in the spool tells the same over an outage.
 */
import { type BigIntStats, statSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { readNote, writeNote } from '../../note.js';
import { BrokenLog } from './walFile.js';
import { DiskRefuses, type WalPins } from './walPins.js';

/** What identifies the content of a file as far as the filesystem tells; decimal text, to be kept as JSON. */
export interface FileMark {
  inode: string;
  size: string;
  modifiedNanos: string;
  /** The inode's change time: no program can set it, as it can the time of modification. */
  changedNanos: string;
}

/** Change times are as coarse as the kernel's timer; a mark younger than this could miss a write that follows at once. */
const coarsestTickNanos = 20_000_000n;
/** Some filesystems keep whole seconds only, one of them even ones only. */
const coarsestSecondNanos = 2_100_000_000n;
const nanosPerSecond = 1_000_000_000n;

/** Which file it is. The time of its birth tells it from a later one that is given the same number, where the filesystem keeps it. */
export function identityOf({ dev, ino, birthtimeNs }: BigIntStats): string {
  return `${dev}:${ino}:${birthtimeNs}`;
}

export function markOf(file: string): FileMark {
  return asMark(statSync(file, { bigint: true }));
}

export function markIfThere(file: string): FileMark | null {
  const found = statSync(file, { bigint: true, throwIfNoEntry: false });
  return found ? asMark(found) : null;
}

/** Whether a file is as it was marked; cheaper than marking it anew, for files that are looked at all the time. */
export function isStill(file: string, mark: FileMark): boolean {
  const found = markIfThere(file);
  return found !== null && sameContent(found, mark);
}

function asMark({ ino, size, mtimeNs, ctimeNs }: BigIntStats): FileMark {
  return { inode: `${ino}`, size: `${size}`, modifiedNanos: `${mtimeNs}`, changedNanos: `${ctimeNs}` };
}

/** Whether the file cannot have been written to after a first mark of it and before a second one. */
export function sameContent(a: Omit<FileMark, 'modifiedNanos'>, b: Omit<FileMark, 'modifiedNanos'>): boolean {
  return a.inode === b.inode && a.size === b.size && a.changedNanos === b.changedNanos;
}

/** Whether the last change is so long past that another one would show in the mark. */
export function isSettled(mark: FileMark): boolean {
  const changed = BigInt(mark.changedNanos);
  const tick = changed % nanosPerSecond === 0n ? coarsestSecondNanos : coarsestTickNanos;
  return BigInt(Date.now()) * 1_000_000n - changed >= tick;
}

/** How often, and how far apart, a checkpoint that wrote to the file is looked for before anything else is suspected. */
const checkpointLooks = 10;
const checkpointLookMs = 2;

export class MainFile {
  private noted: FileMark | null = null;

  constructor(
    private readonly file: string,
    private readonly spool: string,
    private readonly generation: number,
    /** The file as it was checked last. */
    private mark: FileMark,
    /** Frames of the log's present life that were copied before that mark was taken, at least. */
    private copied: number,
  ) {}

  /**
   * Proves that only checkpoints wrote since the last call; `copied` frames of the log were counted as copied before the call.
   * Under a soft pin nothing can be copied, so that nothing may have been written at all. Elsewhere a checkpoint that runs
   * just now is given time, and one that died with its program in the middle is finished.
   *
   * What this cannot tell is a foreign write between two calls with a checkpoint between them, too.
   * @throws BrokenLog
   */
  async check(copied: number, pins: WalPins): Promise<void> {
    const now = markOf(this.file);
    if (now.inode !== this.mark.inode) throw new BrokenLog('the database file was replaced by another one');
    const written = now.modifiedNanos !== this.mark.modifiedNanos || now.size !== this.mark.size;
    if (written && copied <= this.copied) {
      const explained = await this.explained(pins);
      // The next call decides when a checkpoint is in the middle of its work.
      if (explained === null) return;
      if (!explained) throw new BrokenLog('the database file was written to by something that is not SQLite');
    }
    if (!sameContent(now, this.mark)) this.mark = now;
    this.copied = copied;
  }

  /** Whether a checkpoint is what wrote to the file; null while one may be running. */
  private async explained(pins: WalPins): Promise<boolean | null> {
    const counted = async () => ((await pins.state())?.copied ?? 0) > this.copied;
    if (await counted()) return true;
    if (pins.soft) return false;
    // A checkpoint is counted when all of it is written and synchronised, so one that runs is likely to be seen to end here.
    for (let i = 0; i < checkpointLooks; i++) {
      await delay(checkpointLookMs);
      if (await counted()) return true;
    }
    // From here on the count proves nothing, since this copies too. Where another program does, it cannot.
    const begun = pins.copyBegunBeyond(this.copied);
    try {
      return (await pins.checkpoint()) ? begun : null;
    } catch (error) {
      if (error instanceof DiskRefuses) return null;
      throw error;
    }
  }

  /** The log has a new life, of which nothing is copied. */
  newLife(): void {
    this.copied = 0;
  }

  /** The mark checked last, or null while the last change is too recent for a mark to tell. */
  settledMark(): FileMark | null {
    return isSettled(this.mark) ? this.mark : null;
  }

  /** Keeps the mark checked last for the next attachment. */
  async note(): Promise<void> {
    const { mark } = this;
    if (mark === this.noted) return;
    await writeNote(noteIn(this.spool), { version: 1, generation: this.generation, file: mark });
    this.noted = mark;
  }
}

/** Whether the file is still as the capture of this generation last saw it. */
export async function isAsNoted(spool: string, generation: number, mark: FileMark): Promise<boolean> {
  const note = await readNote<{ version: number; generation: number; file: FileMark }>(noteIn(spool));
  return note?.version === 1 && note.generation === generation && sameContent(note.file, mark);
}

function noteIn(spool: string): string {
  return path.join(spool, 'main-file.json');
}
