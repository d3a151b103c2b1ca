/**
 * Memory into which frames of a log are read, and proved where they lie: three times as fast as by JavaScript, for which the
 * checksum is half of all that following a busy log costs. The work is done by frameProof.wat.
 */
import { readFileSync } from 'node:fs';
import { frameBytes, frameFits, hostIsBigEndian, type RunningSum, type WalIdentity } from './walFormat.js';

const FRAMES_AT = 16;

type Prove = (at: number, count: number, size: number, salt1: number, salt2: number) => number;

let program: WebAssembly.Module | null = null;

export class FrameProver {
  /** Room for frames. */
  readonly frames: Buffer<ArrayBuffer>;
  private readonly sum: Int32Array;
  private readonly prove: Prove;

  constructor() {
    program ??= new WebAssembly.Module(readFileSync(new URL('./frameProof.wasm', import.meta.url)));
    const { memory, prove } = new WebAssembly.Instance(program).exports as unknown as {
      memory: WebAssembly.Memory;
      prove: Prove;
    };
    const bytes = memory.buffer as ArrayBuffer;
    this.frames = Buffer.from(bytes, FRAMES_AT);
    this.sum = new Int32Array(bytes, 0, 2);
    this.prove = prove;
  }

  /**
   * How many of the first `count` frames continue the log, one after another, carrying `sum` on over them. Where one does not,
   * `sum` is spoilt.
   */
  fitting(count: number, log: WalIdentity, sum: RunningSum): number {
    const size = frameBytes(log.pageSize);
    if (log.bigEndian || hostIsBigEndian) {
      for (let i = 0; i < count; i++) if (!frameFits(this.frames, i * size, log, sum)) return i;
      return count;
    }
    this.sum.set(sum);
    const fitting = this.prove(FRAMES_AT, count, size, swapped(log.salt1), swapped(log.salt2));
    sum.set(this.sum);
    return fitting;
  }
}

let ofThisThread: FrameProver | null = null;

/** As FrameProver.fitting(), of `count` frames that lie in `bytes` from `at` on: to copy them costs less than it saves. */
export function fittingFrames(bytes: Buffer, at: number, count: number, log: WalIdentity, sum: RunningSum): number {
  ofThisThread ??= new FrameProver();
  const { frames } = ofThisThread;
  const size = frameBytes(log.pageSize);
  const most = Math.floor(frames.length / size);
  for (let done = 0; done < count; ) {
    const run = Math.min(most, count - done);
    bytes.copy(frames, 0, at + done * size, at + (done + run) * size);
    const fitting = ofThisThread.fitting(run, log, sum);
    done += fitting;
    if (fitting < run) return done;
  }
  return count;
}

const word = Buffer.alloc(4);

/** As a word of the file's is read in the machine's order. */
function swapped(value: number): number {
  word.writeUInt32BE(value);
  return word.readInt32LE();
}
