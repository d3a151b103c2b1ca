/** Turns frames that were read into timed, numbered transactions in segments, and keeps the time axis of a generation. */
import { freeBytes } from '../../../diskSpace.js';
import type { Continuation } from '../formats/continuation.js';
import { frameBytes, frameDbPages, frameSum, type WalHeader, type WalSum } from '../formats/walFormat.js';
import { OpenSegment } from '../spool/openSegment.js';
import type { AttachRequest, SessionEvent } from './captureTerms.js';

/** A segment that fills too fast is that much larger than others, since each costs several milliseconds on its way … */
const fastFactor = 4;
/** … unless that is more than this share of what the disk has room for: one that fills the disk could not be finished. */
const fastShare = 1 / 4;

export class SegmentWriter {
  private open: OpenSegment | null = null;
  /** The salts of the log's life that the open segment's last frames are of. */
  private openEpoch: WalHeader | null = null;
  /** Frames of a transaction whose end was not read yet. */
  private unfinished = 0;
  /** The open segment may become larger than others. */
  private roomy = false;
  /** The open segment could not be sealed, so nothing more may come into it. */
  private finishing = false;
  /** How many frames of the last run are in the segment; all of them unless an error came in between. */
  taken = 0;
  /** Where the captured log ended before the open segment. */
  private beforeOpen: Pick<SegmentWriter, 'ordinal' | 'coveredTo' | 'end'> | null = null;

  constructor(
    private readonly request: AttachRequest,
    readonly generation: number,
    /** Number of the last captured transaction of the generation. */
    public ordinal: number,
    private readonly pageSize: number,
    /** Everything that became visible before this instant is captured; 0 where nobody watched yet. */
    public coveredTo: number,
    /** The greatest instant given to a transaction or told as covered; times along a generation never fall. */
    public axis: number,
    /** Where the captured log ends, always after a whole transaction; null while the log never had a frame. */
    public end: Continuation | null,
    private readonly emit: (event: SessionEvent) => void,
  ) {}

  /**
   * The times of what one look found. A transaction found later gets a greater tHi than any instant told before, so
   * that what an instant resolves to never changes, even when the clock is set back.
   */
  timesBetween(seenLo: number, hi: number): { tLo: number; tHi: number } {
    const tHi = Math.max(hi, this.axis + 1);
    return { tLo: Math.min(seenLo, tHi), tHi };
  }

  /** A look that began at `lo` left nothing unread. */
  covered(lo: number): void {
    this.coveredTo = Math.max(this.coveredTo, lo);
    this.axis = Math.max(this.axis, this.coveredTo);
  }

  get hasOpenSegment(): boolean {
    return this.open !== null;
  }

  get atCommit(): boolean {
    return this.unfinished === 0;
  }

  /**
   * Takes `count` proven frames that follow the first `walFrames` of the log's life `epoch`; `sum` is the checksum before them.
   * Segments end between transactions only, so one is as large as its last transaction makes it.
   */
  async take(
    epoch: WalHeader,
    walFrames: number,
    sum: WalSum,
    bytes: Buffer,
    count: number,
    times: { tLo: number; tHi: number },
  ): Promise<void> {
    const size = frameBytes(this.pageSize);
    this.taken = 0;
    while (this.taken < count) {
      const start = this.taken;
      const before = start === 0 ? sum : frameSum(bytes, (start - 1) * size);
      const segment = await this.segmentFor(epoch, walFrames + start, before);
      const to = this.endOfRun(segment, bytes, start, count);
      const run = bytes.subarray(start * size, to * size);
      // A write for each transaction would cost more than all else that is done with small ones.
      await segment.append(run);
      this.noteCommits(segment, epoch, walFrames + start, run, times);
      this.taken = to;
      if (this.isFull(segment)) await this.seal();
    }
  }

  private isFull(segment: OpenSegment): boolean {
    return segment.bytes >= this.fullAt(segment);
  }

  private fullAt({ openedAt }: OpenSegment): number {
    const { sealBytes, sealEveryMs } = this.request.tuning;
    return this.roomy && performance.now() - openedAt < sealEveryMs ? fastFactor * sealBytes : sealBytes;
  }

  /** After the transaction that fills the segment, or else after the last frame. */
  private endOfRun(segment: OpenSegment, bytes: Buffer, start: number, count: number): number {
    const size = frameBytes(this.pageSize);
    const fits = Math.ceil((this.fullAt(segment) - segment.bytes) / size);
    for (let i = Math.max(start, start + fits - 1); i < count; i++) if (frameDbPages(bytes, i * size) > 0) return i + 1;
    return count;
  }

  /** Frames that are in the segment now, and that follow the first `walFrames` of the log's life. */
  private noteCommits(
    segment: OpenSegment,
    { salt1, salt2 }: WalHeader,
    walFrames: number,
    run: Buffer,
    times: { tLo: number; tHi: number },
  ): void {
    const { pageSize } = this;
    const size = frameBytes(pageSize);
    let end = 0;
    for (let at = 0; at < run.length; at += size) {
      this.unfinished++;
      const dbPages = frameDbPages(run, at);
      if (dbPages === 0) continue;
      segment.commit(times, dbPages, this.unfinished);
      this.unfinished = 0;
      this.ordinal++;
      end = at + size;
    }
    if (end === 0) return;
    this.axis = Math.max(this.axis, times.tHi);
    const place = { frames: walFrames + end / size, sum: frameSum(run, end - size) };
    this.end = { version: 1, pageSize, salt1, salt2, ...place, axis: this.axis };
  }

  async flush(): Promise<void> {
    await this.open?.flush();
  }

  async sealIfDue(): Promise<void> {
    if (!this.open) return;
    const age = performance.now() - this.open.openedAt;
    if (age >= this.request.tuning.sealAgeMs || this.isFull(this.open)) await this.seal();
  }

  /** Finishes the open segment and hands it over, unless it ends in the middle of a transaction or holds none. */
  async seal(): Promise<void> {
    if (this.unfinished === 0) await this.finish();
  }

  /** Finishes the open segment or, where that cannot be, forgets it: what it holds has to be read from the log again. */
  async sealOrForget(): Promise<void> {
    await this.finish().catch(() => {});
    if (!this.open || !this.beforeOpen) return;
    Object.assign(this, this.beforeOpen);
    await this.open.discard().catch(() => {});
    this.open = null;
  }

  /** Says how far time is covered while nothing waits to be archived. */
  tellCoverage(): void {
    if (this.open) return;
    const { generation, ordinal, coveredTo } = this;
    this.emit({ type: 'covered', generation, ordinal, coveredTo });
  }

  async close(): Promise<void> {
    await this.open?.close();
    this.open = null;
  }

  private async finish(): Promise<void> {
    if (!this.open || !this.end) return;
    this.finishing = true;
    const sealed = await this.open.seal(this.coveredTo, this.end);
    this.finishing = false;
    this.open = null;
    this.openEpoch = null;
    this.beforeOpen = null;
    if (sealed) this.emit({ type: 'sealed', sealed });
  }

  private async segmentFor(epoch: WalHeader, walFrames: number, sum: WalSum): Promise<OpenSegment> {
    // One that is full by its age now must not wait for more: the disk may have no room for that while it is there.
    if (this.finishing || (this.open && this.isFull(this.open) && this.unfinished === 0)) await this.finish();
    if (!this.open) {
      const { ordinal, coveredTo, end } = this;
      this.beforeOpen = { ordinal, coveredTo, end };
      const { spool, tuning } = this.request;
      this.open = await OpenSegment.create(spool, this.generation, this.ordinal, this.pageSize);
      this.roomy = fastFactor * tuning.sealBytes <= fastShare * (await freeBytes(spool));
    }
    if (this.openEpoch !== epoch) {
      const { bigEndian, salt1, salt2, checkpoints } = epoch;
      this.open.startEpoch({ bigEndian, salt1, salt2, sum, walFrames, checkpoints });
      this.openEpoch = epoch;
    }
    return this.open;
  }
}
