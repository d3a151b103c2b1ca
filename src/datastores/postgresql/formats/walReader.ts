/**
 * Reads PostgreSQL's write-ahead log as it flows: finds where each record ends, proves that each follows the one before
 * it, and reports every commit with its time.
 *
 * The format (access/xlog_internal.h, xlogrecord.h and xact.h of PostgreSQL, alike in all supported majors in what is
 * read here): pages of 8192 bytes begin with a header of 24 bytes, 40 on the first page of a file; records lie between the
 * headers, start at multiples of 8 and may run over several pages. Every page's magic number says of which major it is,
 * and of a machine of which byte order: one that is not known is refused.
 */
import { crc32c } from './crc32c.js';
import { formatLsn } from './lsn.js';
import { majorOfLog } from './majors.js';
import {
  align,
  commitTime,
  dataAt,
  LONG_HEADER,
  lsnAt,
  RECORD_HEADER,
  type RecordMark,
  SHORT_HEADER,
  WAL_PAGE,
  type WalCheckpoint,
  type WalCommit,
  WalFormatError,
  type WalRecord,
} from './walRecord.js';

/** PostgreSQL itself refuses longer records. */
const LONGEST_RECORD = 2 ** 30;
const RMGR_XLOG = 0;
const RMGR_TRANSACTION = 1;
const RMGR_TABLESPACE = 5;
const XLOG_CHECKPOINT_SHUTDOWN = 0x00;
const XLOG_CHECKPOINT_ONLINE = 0x10;
const XLOG_SWITCH = 0x40;
const CONTINUES_RECORD = 0x0001;

export class WalReader {
  /** The LSN of the next byte. */
  position: number;
  /** The LSN just after the newest complete record; where reading began, before the first. */
  recordEnd: number;
  /** Of the newest complete record; -1 before the first. */
  private lastStart = -1;
  private lastCrc = 0;
  /** Of the server that wrote this log; null before the first page's header. */
  major: number | null = null;

  private readonly pageHeader = Buffer.alloc(LONG_HEADER);
  /** Bytes of the page header still to come; 0 inside a page's body. */
  private headerMissing = 0;
  private headerSize = 0;
  /** Bytes to pass over before the next record; the tail of one that began before reading did. */
  private skip = 0;
  /** Everything before this LSN is what a log switch left unused, page headers included. */
  private unusedUntil = 0;

  private readonly header = Buffer.alloc(RECORD_HEADER);
  private inRecord = false;
  private recordStart = 0;
  private recordRead = 0;
  private recordLength = 0;
  private body: Buffer | null = null;

  /**
   * @param start an LSN at which a record begins, or the start of a WAL file
   * @param onRecord called for every complete record, with where it begins and ends
   * @param onTablespace called for every record of tablespaces made and dropped
   * @param onCheckpoint called for every checkpoint
   */
  constructor(
    start: number,
    private readonly segmentSize: number,
    private readonly onCommit: (commit: WalCommit) => void,
    private readonly onRecord: ((start: number, end: number) => void) | null = null,
    private readonly onTablespace: (record: WalRecord) => void = () => {},
    private readonly onCheckpoint: (checkpoint: WalCheckpoint) => void = () => {},
  ) {
    this.position = start;
    this.recordEnd = start;
  }

  get last(): RecordMark | null {
    return this.lastStart < 0 ? null : { start: this.lastStart, crc: this.lastCrc };
  }

  /** @throws WalFormatError */
  push(bytes: Buffer): void {
    let at = 0;
    while (at < bytes.length) {
      const inPage = this.position % WAL_PAGE;
      const left = Math.min(bytes.length - at, WAL_PAGE - inPage);
      if (this.position < this.unusedUntil) {
        at += this.advance(left);
        if (this.position === this.unusedUntil) this.complete();
        continue;
      }
      if (inPage === 0) {
        this.headerSize = this.position % this.segmentSize === 0 ? LONG_HEADER : SHORT_HEADER;
        this.headerMissing = this.headerSize;
      }
      if (this.headerMissing > 0) {
        const taken = Math.min(left, this.headerMissing);
        copyFew(bytes, at, taken, this.pageHeader, this.headerSize - this.headerMissing);
        this.headerMissing -= taken;
        at += this.advance(taken);
        if (this.headerMissing === 0) this.beginPage();
      } else if (this.skip > 0) {
        const taken = Math.min(left, this.skip);
        this.skip -= taken;
        at += this.advance(taken);
        if (this.skip === 0) this.recordEnd = this.position;
      } else {
        const passed = this.inRecord ? 0 : this.passRecords(bytes, at, at + left);
        if (passed > 0) {
          at += this.advance(passed);
          continue;
        }
        at += this.advance(this.readRecord(bytes, at, left));
        if (this.inRecord && this.recordRead >= RECORD_HEADER && this.recordRead === align(this.recordLength)) {
          this.endRecord();
        }
      }
    }
  }

  private advance(count: number): number {
    this.position += count;
    return count;
  }

  private beginPage(): void {
    const page = this.position - this.headerSize;
    this.checkMagic(page);
    if (lsnAt(this.pageHeader, 8) !== page) throw this.wrong('a page of another place', page);
    const continued = (this.pageHeader.readUInt16LE(2) & CONTINUES_RECORD) !== 0;
    const remaining = continued ? this.pageHeader.readUInt32LE(16) : 0;
    if (this.inRecord) {
      if (remaining === 0) {
        // The server crashed before it had written the whole record, and overwrote it when it came back.
        this.inRecord = false;
        this.body = null;
      } else if (remaining !== this.recordLength - this.recordRead) {
        throw this.wrong('a record that does not go on', page);
      }
    } else if (remaining > 0) {
      if (this.lastStart >= 0) throw this.wrong('the rest of a record that never began', page);
      // Whole pages of it carry a header each, so it is measured anew on every page.
      this.skip = Math.min(align(remaining), WAL_PAGE - this.headerSize);
    }
  }

  /**
   * Most records lie whole on a page and are nothing to look into: they are checked where they lie. Answers with how many
   * bytes of them there were from `from` on; `to` is the end of the page or of the bytes.
   */
  private passRecords(bytes: Buffer, from: number, to: number): number {
    let at = from;
    while (at + RECORD_HEADER <= to) {
      const manager = bytes[at + 17];
      if (manager === RMGR_TRANSACTION || manager === RMGR_TABLESPACE || manager === RMGR_XLOG) break;
      const length = bytes.readUInt32LE(at);
      const end = at + length + (-length & 7);
      if (length < RECORD_HEADER || end > to) break;
      const start = this.position + at - from;
      if (this.lastStart >= 0 && lsnAt(bytes, at + 8) !== this.lastStart) {
        throw this.wrong('a record that does not follow the one before it', start);
      }
      this.lastStart = start;
      this.lastCrc = bytes.readUInt32LE(at + 20);
      at = end;
      this.recordEnd = this.position + at - from;
      this.onRecord?.(start, this.recordEnd);
    }
    return at - from;
  }

  private checkMagic(page: number): void {
    const magic = this.pageHeader.readUInt16LE(0);
    const major = majorOfLog(magic);
    // All majors' have this one, and none of theirs means anything on a machine of the other byte order.
    if (magic >> 8 !== 0xd1) throw this.wrong('no page header', page);
    if (major === null) throw this.wrong(`a page of an unknown version 0x${magic.toString(16)}`, page);
    if (this.major !== null && major !== this.major) {
      throw this.wrong(`a page of PostgreSQL ${major} in the log of ${this.major}`, page);
    }
    this.major = major;
  }

  /** Takes what belongs to the present record out of `left` bytes of one page; answers with how many. */
  private readRecord(bytes: Buffer, at: number, left: number): number {
    if (!this.inRecord) {
      this.inRecord = true;
      this.recordStart = this.position;
      this.recordRead = 0;
      this.recordLength = 0;
    }
    if (this.recordRead < RECORD_HEADER) {
      const taken = Math.min(left, RECORD_HEADER - this.recordRead);
      copyFew(bytes, at, taken, this.header, this.recordRead);
      this.recordRead += taken;
      // The length stands in the first four bytes, which always lie on the record's first page.
      if (this.recordRead >= 4) this.recordLength = this.header.readUInt32LE(0);
      if (this.recordRead === RECORD_HEADER) this.checkHeader();
      return taken;
    }
    const taken = Math.min(left, align(this.recordLength) - this.recordRead);
    this.body?.set(bytes.subarray(at, at + taken), this.recordRead - RECORD_HEADER);
    this.recordRead += taken;
    return taken;
  }

  private checkHeader(): void {
    const { recordLength: length, recordStart: start } = this;
    if (length < RECORD_HEADER || length > LONGEST_RECORD) throw this.wrong(`a record of ${length} bytes`, start);
    if (this.lastStart >= 0 && lsnAt(this.header, 8) !== this.lastStart) {
      throw this.wrong('a record that does not follow the one before it', start);
    }
    const manager = this.header[17];
    const kept = manager === RMGR_TRANSACTION || manager === RMGR_TABLESPACE || this.isCheckpoint();
    this.body = kept ? Buffer.alloc(align(length) - RECORD_HEADER) : null;
  }

  private isCheckpoint(): boolean {
    const kind = (this.header[16] ?? 0) & 0xf0;
    return this.header[17] === RMGR_XLOG && (kind === XLOG_CHECKPOINT_ONLINE || kind === XLOG_CHECKPOINT_SHUTDOWN);
  }

  private endRecord(): void {
    const isSwitch = this.header[17] === RMGR_XLOG && ((this.header[16] ?? 0) & 0xf0) === XLOG_SWITCH;
    const intoFile = this.position % this.segmentSize;
    if (isSwitch && intoFile > 0) this.unusedUntil = this.position + this.segmentSize - intoFile;
    else this.complete();
  }

  private complete(): void {
    const { recordStart: start, position: end } = this;
    const crc = this.header.readUInt32LE(20);
    const body = this.body?.subarray(0, this.recordLength - RECORD_HEADER);
    // Before it counts as received: a segment that ended with a damaged record could not be read at all.
    if (body && crc32c(body, this.header.subarray(0, 20)) !== crc) throw this.wrong('a damaged record', start);
    this.inRecord = false;
    this.body = null;
    this.recordEnd = end;
    this.lastStart = start;
    this.lastCrc = crc;
    this.onRecord?.(start, end);
    if (!body) return;
    if (this.header[17] === RMGR_TABLESPACE) {
      this.onTablespace({ start, header: Buffer.from(this.header), body });
      return;
    }
    if (this.header[17] === RMGR_XLOG) {
      this.onCheckpoint({ end, redo: lsnAt(body, dataAt(body)) });
      return;
    }
    const kind = (this.header[16] ?? 0) & 0x70;
    // COMMIT and COMMIT PREPARED; everything else of this resource manager leaves nothing behind for others to see.
    if (kind === 0x00 || kind === 0x30) this.onCommit({ start, end, at: commitTime(body) });
  }

  private wrong(what: string, lsn: number): WalFormatError {
    return new WalFormatError(`${what} at ${formatLsn(lsn)}`);
  }
}

/** For a few bytes this is much quicker than Buffer.copy. */
function copyFew(from: Buffer, at: number, count: number, to: Buffer, toAt: number): void {
  for (let i = 0; i < count; i++) to[toAt + i] = from[at + i] ?? 0;
}
