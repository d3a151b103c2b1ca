/** Runs beside the codec: writes a part of a base into the new database file, with newer pages in the place of its own. */
import type { OpenSink } from '../../../model.js';
import type { PageFiles } from '../replay/pageFiles.js';
import { PagePatch } from './pagePatch.js';
import { type SharedFile, WrittenFileOnThread } from './writtenFile.js';

export const mergeSinkModule = import.meta.url;

export interface MergeArgument {
  /** The database file, which exists. */
  out: SharedFile;
  /** Where the bytes to come begin in it. */
  at: number;
  /** What is wanted of the base ends here; what lies beyond is dropped. */
  end: number;
  newer: PageFiles;
}

export interface MergedPart {
  /** How many newer pages took the place of its own. */
  applied: number;
}

export const open: OpenSink = (argument) => {
  const { out: shared, at: start, end, newer } = argument as MergeArgument;
  const out = new WrittenFileOnThread(shared, start);
  let patch: PagePatch;
  try {
    patch = new PagePatch(newer);
  } catch (error) {
    out.close();
    throw error;
  }
  let at = start;
  return {
    take(bytes) {
      const kept = bytes.subarray(0, Math.max(0, end - at));
      patch.apply(kept, at);
      out.write(kept);
      at += bytes.length;
    },
    end(): MergedPart {
      out.flush();
      return { applied: patch.applied };
    },
    close() {
      out.close();
      patch.close();
    },
  };
};
