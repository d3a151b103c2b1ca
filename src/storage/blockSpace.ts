/**
 * Buffers of one block each, used again and again. Every thread has some of its own: a fresh megabyte costs page faults,
 * and dropping it a garbage collection of the whole service every few dozen times.
 */
import { BLOCK_HEADER_BYTES, MAX_BLOCK_BYTES } from './objectFormat.js';

/** Room for a block's header and the longest payload. */
export const SPACE_BYTES = BLOCK_HEADER_BYTES + MAX_BLOCK_BYTES;

/** Beyond these the garbage collector has them; a few objects side by side need no more. */
const MOST_KEPT = 12;

const kept: ArrayBuffer[] = [];

/** `bytes` bytes of any content; only a large piece, up to SPACE_BYTES, comes from those that were given back. */
export function takeSpace(bytes: number): Buffer<ArrayBuffer> {
  if (bytes <= SPACE_BYTES / 2 || bytes > SPACE_BYTES) return Buffer.allocUnsafeSlow(bytes);
  const space = kept.pop();
  return space ? Buffer.from(space, 0, bytes) : Buffer.allocUnsafeSlow(SPACE_BYTES).subarray(0, bytes);
}

/** Takes back what nobody looks at any more; what never was a space of this kind is left to the garbage collector. */
export function giveSpace(bytes: Buffer): void {
  const { buffer } = bytes;
  if (buffer instanceof ArrayBuffer && buffer.byteLength === SPACE_BYTES && kept.length < MOST_KEPT) kept.push(buffer);
}
