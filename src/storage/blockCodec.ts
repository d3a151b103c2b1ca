/**
 * The work done on one object's bytes: blocks to and from LZ4, and the running hashes. Synchronous and costly;
 * codecWorker.ts runs it beside the main thread.
 */
import { BLOCK_BYTES, MAX_BLOCK_BYTES } from '../blocks/blockFormat.js';
import { packBlock, plainOfBlock } from '../blocks/packing.js';
import type { SinkInThread } from '../model.js';
import { giveSpace, RUN_SPACE_BYTES, takeSpace } from './blockSpace.js';
import { type Digests, type Hashing, ObjectHashes } from './objectHashes.js';

/** Where in a space the plain bytes begin that encodeBlocks() makes blocks of: their headers come before them. */
export const PLAIN_AT = RUN_SPACE_BYTES - MAX_BLOCK_BYTES;

/**
 * Makes stored blocks of the plain bytes in `space`, in place, and answers the part of `space` that they fill.
 * @param space `plainBytes` plain bytes (1 to MAX_BLOCK_BYTES) from PLAIN_AT on
 */
export function encodeBlocks(space: Buffer<ArrayBuffer>, plainBytes: number): Buffer<ArrayBuffer> {
  const end = PLAIN_AT + plainBytes;
  let filled = 0;
  // No block is longer than its plain bytes and one of the headers that there was room for, so none reaches the next.
  for (let at = PLAIN_AT; at < end; at += BLOCK_BYTES) {
    const plain = space.subarray(at, Math.min(at + BLOCK_BYTES, end));
    filled += packBlock(space.subarray(filled), plain);
  }
  return space.subarray(0, filled);
}

/**
 * The plain bytes of a whole stored block with a valid header, which is not to be used again; null where the payload is
 * not what the header says.
 * Safe on hostile bytes: they can waste at most MAX_BLOCK_BYTES.
 */
function decodeBlock(block: Buffer<ArrayBuffer>): Buffer<ArrayBuffer> | null {
  const plain = plainOfBlock(block);
  if (!plain || plain.buffer === block.buffer) return plain;
  const own = takeSpace(plain.length);
  plain.copy(own);
  giveSpace(block);
  return own;
}

/** What decodeBlock() makes of each, up to the first of which it makes nothing. */
function decodeBlocks(blocks: Buffer<ArrayBuffer>[]): Buffer<ArrayBuffer>[] {
  const all: Buffer<ArrayBuffer>[] = [];
  for (const block of blocks) {
    const plain = decodeBlock(block);
    if (!plain) break;
    all.push(plain);
  }
  return all;
}

/** What ObjectCodec's decode() does, on whichever thread. */
export function hashAndDecode(hashes: ObjectHashes, blocks: Buffer<ArrayBuffer>[]): Buffer<ArrayBuffer>[] {
  for (const block of blocks) hashes.update(block);
  return decodeBlocks(blocks);
}

/** As decodeBlock(), into a sink; answers with the number of plain bytes. */
export function pourBlock(block: Buffer<ArrayBuffer>, sink: SinkInThread): number | null {
  const plain = plainOfBlock(block);
  if (!plain) return null;
  sink.take(plain);
  return plain.length;
}

/** What one open object needs done; on a worker thread (codecPool.ts) or, for small ones, right here. Calls keep their order. */
export interface ObjectCodec {
  /** Adds to the running hashes and gives the same bytes back. The buffer passed in is not to be used again. */
  hash(bytes: Buffer<ArrayBuffer>): Promise<Buffer>;
  /** Adds stored blocks to the hashes and decodes them, up to the first that does not decode; see decodeBlock(). */
  decode(blocks: Buffer<ArrayBuffer>[]): Promise<Buffer[]>;
  /** The hashes of everything so far; the last call but release(). */
  digests(): Promise<Digests>;
  /** Gives up the object's place, done or not. May be called twice. */
  release(): void;
}

export function inlineCodec(hashing: Hashing): ObjectCodec {
  const hashes = new ObjectHashes(hashing);
  return {
    hash: async (bytes) => {
      hashes.update(bytes);
      return bytes;
    },
    decode: async (blocks) => hashAndDecode(hashes, blocks),
    digests: async () => hashes.digests(),
    release: () => {},
  };
}
