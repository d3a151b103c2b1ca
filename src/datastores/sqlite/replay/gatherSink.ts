/**
 * Runs beside the codec: proves a segment and keeps the last version in it of every page that it writes within the
 * replayed range. Which of them are the newest of all is decided where all segments come together (gatherLog.ts).
 */
import { closeSync, openSync } from 'node:fs';
import type { OpenSink } from '../../../model.js';
import { BadSegment, bytesOfHead, fixedBytes, parseHead, type SegmentHead } from '../formats/segmentFormat.js';
import { FrameProof } from '../formats/segmentFrames.js';
import { frameBytes, frameHeaderBytes } from '../formats/walFormat.js';
import { PageAppender, type PlacedPages, type SharedPages } from './pageAppender.js';
import { greatest, PageSet } from './pageSet.js';
import { framesInScope, lastVersions, pagesAt } from './replayScope.js';

export const gatherSinkModule = import.meta.url;

export interface GatherArgument {
  /** What the catalog says of the segment. */
  stretch: string;
  after: number;
  last: number;
  /** The replayed range. */
  replayAfter: number;
  cut: number;
  pageSize: number;
  pages: SharedPages;
}

/** What a segment gave. */
export interface GatheredSegment extends PlacedPages {
  pageSize: number;
  /** Size of the database at the cut, where the segment holds it. */
  dbPages: number | null;
  /** When its last transaction had been seen; null where it has none. Microseconds. */
  lastAt: number | null;
}

export const open: OpenSink = (argument) => {
  const wanted = argument as GatherArgument;
  const file = openSync(wanted.pages.file, 'r+');
  const kept = new PageAppender(file, wanted.pages);
  const segment = new IncomingSegment(wanted, kept);
  return {
    take: (bytes) => segment.push(bytes),
    end: () => segment.end(),
    close() {
      kept.close();
      closeSync(file);
    },
  };
};

/** Takes a segment's bytes in whatever pieces they come. */
class IncomingSegment {
  /** Of the head, or of the frame that the last piece ended in. */
  private carried: Buffer = Buffer.alloc(0);
  /** Of the pages that are kept of a piece. */
  private numbers = new Uint32Array(0);
  private parsed: { head: SegmentHead; proof: FrameProof; wanted: Uint8Array } | null = null;

  constructor(
    private readonly scope: GatherArgument,
    private readonly kept: PageAppender,
  ) {}

  push(bytes: Buffer): void {
    const rest = this.parsed ? bytes : this.pushHead(bytes);
    if (rest.length > 0) this.pushFrames(rest);
  }

  end(): GatheredSegment {
    const { parsed, scope } = this;
    if (!parsed) throw new BadSegment('its bytes end within its index');
    const { head, proof } = parsed;
    if (this.carried.length > 0 || proof.proved < head.pages.length) {
      throw new BadSegment(`its bytes end within frame ${proof.proved + 1} of ${head.pages.length}`);
    }
    const holdsCut = head.after < scope.cut && scope.cut <= scope.last;
    return {
      pageSize: head.pageSize,
      dbPages: holdsCut ? pagesAt(head, scope.cut) : null,
      lastAt: head.transactions.last?.tHi ?? null,
      ...this.kept.end(),
    };
  }

  /** Answers with what comes after the head. */
  private pushHead(bytes: Buffer): Buffer {
    const all = this.carried.length === 0 ? bytes : Buffer.concat([this.carried, bytes]);
    const needed = all.length < fixedBytes ? fixedBytes : bytesOfHead(all.subarray(0, fixedBytes));
    if (all.length < needed || all.length < fixedBytes) {
      this.carried = Buffer.from(all);
      return all.subarray(all.length);
    }
    this.carried = Buffer.alloc(0);
    const head = parseHead(all.subarray(0, fixedBytes), all.subarray(fixedBytes, needed));
    const { stretch, after, last, replayAfter, cut } = this.scope;
    if (String(head.generation) !== stretch || head.after !== after || head.after + head.transactions.length !== last) {
      throw new BadSegment('it holds other transactions than the catalog says');
    }
    // With another page size the whole recovery is refused; nothing of it is kept.
    const scope = head.pageSize === this.scope.pageSize ? framesInScope(head, replayAfter, cut) : { from: 0, to: 0 };
    const seen = new PageSet(greatest(head.pages.subarray(scope.from, scope.to)));
    const claim = (page: number) => seen.add(page);
    this.parsed = { head, proof: new FrameProof(head), wanted: lastVersions(head, scope, { claim }) };
    return all.subarray(needed);
  }

  private pushFrames(bytes: Buffer): void {
    if (!this.parsed) return;
    const size = frameBytes(this.parsed.head.pageSize);
    let from = 0;
    if (this.carried.length > 0) {
      from = Math.min(size - this.carried.length, bytes.length);
      const frame = Buffer.concat([this.carried, bytes.subarray(0, from)]);
      this.carried = frame.length === size ? Buffer.alloc(0) : frame;
      if (frame.length === size) this.keep(frame, 0, 1);
    }
    const whole = Math.floor((bytes.length - from) / size);
    this.keep(bytes, from, whole);
    from += whole * size;
    if (from < bytes.length) this.carried = Buffer.from(bytes.subarray(from));
  }

  private keep(bytes: Buffer, at: number, count: number): void {
    if (!this.parsed) return;
    const { head, proof, wanted } = this.parsed;
    const size = frameBytes(head.pageSize);
    const first = proof.proved;
    if (first + count > head.pages.length) throw new BadSegment('there is more than its index says');
    proof.next(bytes, at, count);
    if (this.numbers.length < count) this.numbers = new Uint32Array(count);
    let kept = 0;
    // Moved together where they are: to copy each one away would be an object for the collector every time.
    for (let i = 0; i < count; i++) {
      if (!wanted[first + i]) continue;
      const page = at + i * size + frameHeaderBytes;
      bytes.copyWithin(at + kept * head.pageSize, page, page + head.pageSize);
      this.numbers[kept] = head.pages[first + i] ?? 0;
      kept += 1;
    }
    this.kept.append(this.numbers.subarray(0, kept), bytes.subarray(at, at + kept * head.pageSize));
  }
}
