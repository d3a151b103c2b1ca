/**
 * The work done on one object's bytes: blocks to and from LZ4, and the running SHA-256. Synchronous and costly;
 * codecWorker.ts runs it beside the main thread.
 */
import { createHash } from 'node:crypto';
import { compressSync, uncompressSync } from 'lz4-napi';
import type { SinkInThread } from '../model.js';
import { giveSpace, takeSpace } from './blockSpace.js';
import { BLOCK_HEADER_BYTES, blockHeader, putBlockHeader } from './objectFormat.js';

/** A block stays raw unless LZ4 makes it at least this much smaller: reading raw bytes costs nothing. */
const WORTHWHILE = 0.97;

/** lz4-napi puts the plain length (u32, little-endian) before the block, just where the block header has it too. */
const PREFIX_BYTES = 4;

let lz4Results = 0;

/** How many buffers the library has made in this thread. */
export function countOfLz4Results(): number {
  return lz4Results;
}

/**
 * Makes a stored block of the plain bytes in `space`, in place, and answers the part of `space` that it fills.
 * @param space room for a block header, then `plainBytes` plain bytes (1 to MAX_BLOCK_BYTES)
 */
export function encodeBlock(space: Buffer<ArrayBuffer>, plainBytes: number): Buffer<ArrayBuffer> {
  const plain = space.subarray(BLOCK_HEADER_BYTES, BLOCK_HEADER_BYTES + plainBytes);
  const packed = compressSync(plain);
  lz4Results += 1;
  const packedBytes = packed.length - PREFIX_BYTES;
  const raw = packedBytes > plainBytes * WORTHWHILE;
  if (!raw) packed.copy(space, BLOCK_HEADER_BYTES, PREFIX_BYTES);
  const payloadBytes = raw ? plainBytes : packedBytes;
  putBlockHeader(space, { payloadBytes, plainBytes, raw });
  return space.subarray(0, BLOCK_HEADER_BYTES + payloadBytes);
}

/**
 * The plain bytes of a whole stored block with a valid header, which is not to be used again; null where the payload is
 * not what the header says.
 * Safe on hostile bytes: they can waste at most MAX_BLOCK_BYTES.
 */
export function decodeBlock(block: Buffer<ArrayBuffer>): Buffer<ArrayBuffer> | null {
  const plain = plainOf(block);
  if (!plain || plain.buffer === block.buffer) return plain as Buffer<ArrayBuffer> | null;
  // The library's buffer belongs to the thread that made it and must not outlive it in another: hand over a copy.
  const own = takeSpace(plain.length);
  plain.copy(own);
  giveSpace(block);
  return own;
}

/** As decodeBlock(), into a sink; answers with the number of plain bytes. */
export function pourBlock(block: Buffer<ArrayBuffer>, sink: SinkInThread): number | null {
  const plain = plainOf(block);
  if (!plain) return null;
  sink.take(plain);
  return plain.length;
}

/** In the block's own memory where it is raw, in memory of this thread's where it is not. */
function plainOf(block: Buffer<ArrayBuffer>): Buffer | null {
  const header = blockHeader(block);
  if (header === null || header === 'end') return null;
  if (header.raw) return block.subarray(BLOCK_HEADER_BYTES);
  try {
    lz4Results += 1;
    const plain = uncompressSync(block.subarray(BLOCK_HEADER_BYTES - PREFIX_BYTES));
    return plain.length === header.plainBytes ? plain : null;
  } catch {
    return null;
  }
}

/** What one open object needs done; on a worker thread (codecPool.ts) or, for small ones, right here. Calls keep their order. */
export interface ObjectCodec {
  /** Adds to the running SHA-256 and gives the same bytes back. The buffer passed in is not to be used again. */
  hash(bytes: Buffer<ArrayBuffer>): Promise<Buffer>;
  /** Adds a stored block to the SHA-256, then decodes it. Null where it does not decode. */
  decode(block: Buffer<ArrayBuffer>): Promise<Buffer | null>;
  /** The SHA-256 of everything so far, lower-case hex; the last call but release(). */
  digest(): Promise<string>;
  /** Gives up the object's place, done or not. May be called twice. */
  release(): void;
}

export function inlineCodec(): ObjectCodec {
  const sha256 = createHash('sha256');
  return {
    hash: async (bytes) => {
      sha256.update(bytes);
      return bytes;
    },
    decode: async (block) => {
      sha256.update(block);
      return decodeBlock(block);
    },
    digest: async () => sha256.digest('hex'),
    release: () => {},
  };
}
