/** Runs beside the codec: writes a part of a base into the new database file, with newer pages in the place of its own. */
import { closeSync, openSync } from 'node:fs';
import type { OpenSink } from '../../model.js';
import { writeWholeSync } from '../durable.js';
import { Turns } from '../turns.js';
import { type PageFiles, PagePatch } from './newerPages.js';

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
  /** Shared by all that write into the file. */
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
          writeWholeSync(out, kept.subarray(from, from + pieceBytes), at + from);
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
