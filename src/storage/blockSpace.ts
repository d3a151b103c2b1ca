/**
 * Buffers for blocks, used again and again. Every thread has some of its own: fresh ones cost page faults, and dropping
 * them a garbage collection of the whole service every few dozen times.
 */
import { BLOCK_BYTES, BLOCK_HEADER_BYTES, MAX_BLOCK_BYTES } from '../blocks/blockFormat.js';

/** Room for a block's header and the longest payload. */
export const SPACE_BYTES = BLOCK_HEADER_BYTES + MAX_BLOCK_BYTES;
/** Room for the blocks that MAX_BLOCK_BYTES plain bytes make, none of them shortened. */
export const RUN_SPACE_BYTES = MAX_BLOCK_BYTES + BLOCK_HEADER_BYTES * (MAX_BLOCK_BYTES / BLOCK_BYTES);

/** Beyond these the garbage collector has them; a few objects side by side need no more. */
const pools = [
  { bytes: BLOCK_HEADER_BYTES + BLOCK_BYTES, most: 48, kept: [] as ArrayBuffer[] },
  { bytes: RUN_SPACE_BYTES, most: 6, kept: [] as ArrayBuffer[] },
];

/** `bytes` bytes of any content; what is much smaller than a space, or larger than each, is made for this once. */
export function takeSpace(bytes: number): Buffer<ArrayBuffer> {
  const pool = pools.find((each) => bytes <= each.bytes);
  if (!pool || bytes <= pool.bytes / 2) return Buffer.allocUnsafeSlow(bytes);
  const space = pool.kept.pop();
  return space ? Buffer.from(space, 0, bytes) : Buffer.allocUnsafeSlow(pool.bytes).subarray(0, bytes);
}

/** Takes back what nobody looks at any more; what never was a space of this kind is left to the garbage collector. */
export function giveSpace(bytes: Buffer): void {
  const { buffer } = bytes;
  if (!(buffer instanceof ArrayBuffer)) return;
  const pool = pools.find((each) => each.bytes === buffer.byteLength);
  if (pool && pool.kept.length < pool.most) pool.kept.push(buffer);
}
