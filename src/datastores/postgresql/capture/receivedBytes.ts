/**
 * What was received and is not handed over yet, in a few large pieces that are used again: each commit of a busy server
 * comes in a message of its own, and to keep each in memory of its own costs the collector more than all else that is
 * done with it.
 */

import { SpareBuffers } from '../../spareBuffers.js';

const PIECE_BYTES = 256 * 1024;
/** For all servers together. */
const spare = new SpareBuffers(PIECE_BYTES, 64);

export interface DetachedBytes {
  /** The bytes, in order. */
  pieces: Buffer[];
  /** To be called once, when nobody looks at them any more. */
  release(): void;
}

export class ReceivedBytes {
  private readonly pieces: Buffer<ArrayBuffer>[] = [];
  /** Where in the first piece they begin. */
  private offset = 0;
  private count = 0;

  get length(): number {
    return this.count;
  }

  /** Takes a copy. */
  push(bytes: Buffer): void {
    for (let from = 0; from < bytes.length; ) {
      const end = this.offset + this.count;
      if (end === this.pieces.length * PIECE_BYTES) this.pieces.push(spare.take());
      const taken = bytes.copy(this.pieces.at(-1) as Buffer, end % PIECE_BYTES, from);
      from += taken;
      this.count += taken;
    }
  }

  /** The first `wanted` bytes, which no longer belong to these. @throws RangeError where there are fewer */
  detach(wanted: number): DetachedBytes {
    if (wanted > this.count) throw new RangeError(`${wanted} of ${this.count} received bytes`);
    const taken: Buffer<ArrayBuffer>[] = [];
    const pieces: Buffer[] = [];
    this.count -= wanted;
    for (let left = wanted; left > 0; ) {
      const first = this.pieces[0] as Buffer<ArrayBuffer>;
      const bytes = first.subarray(this.offset, this.offset + left);
      left -= bytes.length;
      if (this.offset + bytes.length === PIECE_BYTES) {
        this.pieces.shift();
        this.offset = 0;
        taken.push(first);
        pieces.push(bytes);
      } else {
        // More of this piece is to come, or came already.
        const copy = spare.take();
        bytes.copy(copy);
        this.offset += bytes.length;
        taken.push(copy);
        pieces.push(copy.subarray(0, bytes.length));
      }
    }
    if (this.count === 0) {
      for (const piece of this.pieces.splice(0)) spare.give(piece);
      this.offset = 0;
    }
    return {
      pieces,
      release() {
        for (const piece of taken.splice(0)) spare.give(piece);
      },
    };
  }
}
