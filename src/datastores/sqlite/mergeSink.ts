/** Runs beside the codec: writes a part of a base into the new database file, with newer pages in the place of its own. */
import { closeSync, openSync } from 'node:fs';
import type { OpenSink } from '../../model.js';
import { type PageFiles, PagePatch, writeAll } from './newerPages.js';

export const mergeSinkModule = import.meta.url;

/** Pieces that stay in the processor's cache between being decoded, patched and written. */
const pieceBytes = 128 << 10;

export interface MergeArgument {
  /** The database file, which exists. */
  file: string;
  /** Where the bytes to come begin in it. */
  at: number;
  /** The file ends here; what lies beyond is dropped. */
  end: number;
  newer: PageFiles;
  /** Shared by all that write into the file; see Turns. */
  turns: SharedArrayBuffer;
}

export const open: OpenSink = (argument) => {
  const { file, at: start, end, newer, turns } = argument as MergeArgument;
  const turn = new Turns(turns);
  const out = openSync(file, 'r+');
  let patch: PagePatch;
  try {
    patch = new PagePatch(newer);
  } catch (error) {
    closeSync(out);
    throw error;
  }
  let at = start;
  return {
    take(bytes) {
      const kept = bytes.subarray(0, Math.max(0, end - at));
      patch.apply(kept, at);
      turn.take(() => {
        for (let from = 0; from < kept.length; from += pieceBytes) {
          writeAll(out, kept.subarray(from, from + pieceBytes), at + from);
        }
      });
      at += bytes.length;
    },
    end() {},
    close() {
      closeSync(out);
      patch.close();
    },
  };
};

/** Longer than a write takes; whoever has the turn then has died with it. */
const turnPatienceMs = 10_000;

/**
 * One thread writes at a time. The file system lets only one write into a file, too, but has the others spin meanwhile,
 * on a core that could hash.
 */
class Turns {
  private readonly state: Int32Array;

  constructor(shared: SharedArrayBuffer) {
    this.state = new Int32Array(shared);
  }

  take(work: () => void): void {
    while (Atomics.compareExchange(this.state, 0, 0, 1) !== 0) {
      if (Atomics.wait(this.state, 0, 1, turnPatienceMs) === 'timed-out') break;
    }
    try {
      work();
    } finally {
      Atomics.store(this.state, 0, 0);
      Atomics.notify(this.state, 0, 1);
    }
  }
}
