/** The threads' side of newerPages: puts the content of pages into the one file that all of them share. */
import { writeWholeSync } from '../../durable.js';
import { PatientWriter } from '../../patientWriter.js';
import { SpareBuffers } from '../../spareBuffers.js';
import { Turns } from '../../turns.js';
import { NumberList } from './numberList.js';

/** Fewer wait for more: a log that writes the same pages again and again would have them put down one by one. */
const writtenAtLeast = 64 << 10;
/** While another thread writes, so much waits. */
const waitingAtMost = 256 << 10;

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
const waitingSpaces = new SpareBuffers(waitingAtMost, 8);

/** Appends pages to the file that all share, and remembers where. To be closed. */
export class PageAppender {
  private readonly waiting = waitingSpaces.take();
  private readonly writer: PatientWriter;
  private readonly places: Int32Array;
  private readonly numbers = new NumberList();
  private readonly at = new NumberList();

  constructor(
    private readonly file: number,
    private readonly shared: SharedPages,
  ) {
    this.places = new Int32Array(shared.places);
    const put = (waited: Uint8Array, came: Uint8Array) => this.put(waited, came);
    this.writer = new PatientWriter(new Turns(shared.turns), this.waiting, put, writtenAtLeast);
  }

  /** `contents` are those of the pages, one after another; they may be used again. */
  append(pages: ArrayLike<number>, contents: Uint8Array): void {
    for (let i = 0; i < pages.length; i++) this.numbers.push(pages[i] ?? 0);
    this.writer.write(contents);
  }

  /** Everything that was appended since the last end(). */
  end(): PlacedPages {
    this.writer.flush();
    return { numbers: this.numbers.take(), places: this.at.take() };
  }

  close(): void {
    waitingSpaces.give(this.waiting);
  }

  private put(waited: Uint8Array, came: Uint8Array): void {
    const { pageSize } = this.shared;
    const count = (waited.length + came.length) / pageSize;
    const start = Atomics.add(this.places, 0, count);
    writeWholeSync(this.file, waited, start * pageSize);
    writeWholeSync(this.file, came, start * pageSize + waited.length);
    for (let i = 1; i <= count; i++) this.at.push(start + i);
  }
}
