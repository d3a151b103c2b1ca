/**
 * A database at rest: while neither its log nor its file changes nothing can be committed, and a glance at two inodes is
 * enough. And the note of where all was at rest, by which a later capture proves that nothing was lost.
 */
import { type FileMark, isSettled, isStill, markIfThere } from '../source/mainFile.js';
import type { FollowedDatabase } from './logWatch.js';
import { saveRest } from './restMark.js';

export class RestWatch {
  /** The log and the file as they were when everything written to the log was read. */
  private quiet: { wal: FileMark; main: FileMark } | null = null;
  /** For which place there is a note already. */
  private noted = '';

  constructor(private readonly followed: FollowedDatabase) {}

  get isQuiet(): boolean {
    return this.quiet !== null;
  }

  /** False also where it was not quiet before. */
  isStill(): boolean {
    const { request, wal } = this.followed;
    if (!this.quiet) return false;
    if (!isStill(wal.path, this.quiet.wal) || !isStill(request.file, this.quiet.main)) this.quiet = null;
    return this.quiet !== null;
  }

  /** Notes that nothing unread was written to the log. The order matters: what is written after the mark changes it. */
  async quieten(): Promise<void> {
    const { pins, reading } = this.followed;
    const main = this.followed.main.settledMark();
    const wal = markIfThere(this.followed.wal.path);
    if (!main || !wal || !isSettled(wal)) return;
    if (wal.size !== '0') {
      const header = await this.followed.wal.header();
      if (!header || !reading.isOf(header)) return;
      if (await this.followed.wal.hasFrameAfter(header, reading.frames)) return;
    }
    const state = await pins.state();
    if (state?.frames !== reading.frames && !(state?.frames === 0 && pins.soft)) return;
    this.quiet = { wal, main };
    await pins.closeSpares();
  }

  /** Whether there is a note of the place up to which the log was read. */
  get isNoted(): boolean {
    return this.noted.startsWith(`${this.followed.writer.ordinal} `);
  }

  /** False while the file's time of change cannot tell yet. */
  async note(): Promise<boolean> {
    const { main, request, writer } = this.followed;
    const file = main.settledMark();
    if (!file) return false;
    const { generation, ordinal, end } = writer;
    const place = `${ordinal} ${file.changedNanos}`;
    if (place === this.noted) return true;
    await saveRest(request.spool, { generation, ordinal, continuation: end, file });
    this.noted = place;
    return true;
  }
}
