/** Blocks out of plain bytes and back. Synchronous, and without memory of their own: the way through it is lz4Block.ts's. */
import { BLOCK_HEADER_BYTES, blockHeader, putBlockHeader } from './blockFormat.js';
import { lz4Of, plainOfLz4 } from './lz4Block.js';

/** A block stays raw unless LZ4 makes it at least this much smaller: reading raw bytes costs nothing. */
const WORTHWHILE = 0.97;

/**
 * Makes a block at the start of `into`; answers with its length.
 * @param into has room for a header and `plain`, and may begin in the header's length before it
 * @param plain 1 to MAX_BLOCK_BYTES bytes, but not what plainOfBlock() answered with
 */
export function packBlock(into: Buffer, plain: Buffer): number {
  const packed = lz4Of(plain, Math.floor(plain.length * WORTHWHILE));
  const payload = packed ?? plain;
  if (into.length < BLOCK_HEADER_BYTES + payload.length) throw new RangeError('there is no room for a block');
  payload.copy(into, BLOCK_HEADER_BYTES);
  putBlockHeader(into, { payloadBytes: payload.length, plainBytes: plain.length, raw: packed === null });
  return BLOCK_HEADER_BYTES + payload.length;
}

/**
 * The plain bytes of a whole block with a valid header; null where the payload is not what the header says. In the block's
 * own memory where it is raw, else valid until the next call on this thread.
 */
export function plainOfBlock(block: Buffer<ArrayBuffer>): Buffer<ArrayBuffer> | null {
  const header = blockHeader(block);
  if (header === null || header === 'end') return null;
  const payload = block.subarray(BLOCK_HEADER_BYTES);
  return header.raw ? payload : plainOfLz4(payload, header.plainBytes);
}
