/** The threads' side of newerPages: puts the content of pages into the one file that all of them share. */
import { writeWholeSync } from '../../durable.js';
import { SpareBuffers } from '../../spareBuffers.js';
import { Turns } from '../../turns.js';
import { NumberList } from './numberList.js';

/** Pages are written in batches that stay in the processor's cache on the way; none is longer than half of one. */
const batchBytes = 128 << 10;
/** While another thread writes, a batch grows up to this: to wait for the other would cost more than the writing. */
const batchAtMost = 2 * batchBytes;
/** What threads need that put pages into the same file. */
export interface SharedPages {
  file: string;
  pageSize: number;
  /** How many places were given away. */
  places: SharedArrayBuffer;
  turns: SharedArrayBuffer;
}

/** Page numbers, and where each one's content was put. */
export interface PlacedPages {
  numbers: Uint32Array;
  places: Uint32Array;
}

/** On each thread, which gathers a few segments at the most. */
const batches = new SpareBuffers(batchAtMost, 8);

/** Appends pages to the file that all share, and remembers where. To be closed. */
export class PageAppender {
  private readonly batch = batches.take();
  private readonly places: Int32Array;
  private readonly turns: Turns;
  private batched = 0;
  private readonly writing = () => this.write();
  private readonly numbers = new NumberList();
  private readonly at = new NumberList();

  constructor(
    private readonly file: number,
    private readonly shared: SharedPages,
  ) {
    this.places = new Int32Array(shared.places);
    this.turns = new Turns(shared.turns);
  }

  /** The content of `page` lies in `bytes` from `from` on. */
  append(page: number, bytes: Buffer, from: number): void {
    const { pageSize } = this.shared;
    const needed = this.batched + pageSize;
    if (needed > batchBytes && !this.turns.tryToTake(this.writing) && needed > batchAtMost) this.flush();
    bytes.copy(this.batch, this.batched, from, from + pageSize);
    this.batched += pageSize;
    this.numbers.push(page);
  }

  /** Everything that was appended since the last end(). */
  end(): PlacedPages {
    this.flush();
    return { numbers: this.numbers.take(), places: this.at.take() };
  }

  close(): void {
    batches.give(this.batch);
  }

  private flush(): void {
    this.turns.take(this.writing);
  }

  private write(): void {
    const { pageSize } = this.shared;
    const count = this.batched / pageSize;
    const start = Atomics.add(this.places, 0, count);
    writeWholeSync(this.file, this.batch.subarray(0, this.batched), start * pageSize);
    for (let i = 1; i <= count; i++) this.at.push(start + i);
    this.batched = 0;
  }
}
