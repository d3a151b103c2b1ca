/** A sink that writes what it takes into a file, in whichever thread it runs, and says there how it was ended. */
import { appendFileSync, writeFileSync } from 'node:fs';
import type { OpenSink, ThreadSink } from '../../src/model.js';

interface Argument {
  file: string;
  /** Throws like a full disk once it has taken this many bytes. */
  fullAfter: number | null;
}

export function fileSink(file: string, fullAfter: number | null = null): ThreadSink {
  return { module: import.meta.url, argument: { file, fullAfter } satisfies Argument };
}

export const open: OpenSink = (argument) => {
  const { file, fullAfter } = argument as Argument;
  let taken = 0;
  writeFileSync(file, '');
  return {
    take(bytes) {
      taken += bytes.length;
      if (fullAfter !== null && taken > fullAfter)
        throw Object.assign(new Error('no space'), { code: 'ENOSPC', syscall: 'write' });
      appendFileSync(file, bytes);
      bytes.fill(0); // It may.
    },
    end() {
      writeFileSync(`${file}.ended`, '');
      return { taken };
    },
    close() {
      appendFileSync(`${file}.closed`, 'once');
    },
  };
};
