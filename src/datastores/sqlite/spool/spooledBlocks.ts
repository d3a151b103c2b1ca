/** Blocks (blocks/blockFormat.ts) of frames in a piece's `.blocks`. Their checksums prove what comes back from the disk. */
import type { FileHandle } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import { packBlock } from '../../../blocks/packing.js';
import { BadSegment } from '../formats/segmentFormat.js';

export interface SpooledBlock {
  /** Of all of it, with its header. */
  bytes: number;
  crc: number;
}

/** Where it is in the file. */
export type PlacedBlock = SpooledBlock & { at: number };

/** Makes a block in `room`, from `at` on. */
export function packInto(room: Buffer, at: number, plain: Buffer): SpooledBlock {
  const bytes = packBlock(room.subarray(at), plain);
  return { bytes, crc: crc32(room.subarray(at, at + bytes)) };
}

/**
 * Reads blocks that lie one behind the other, to the beginning of `room`, which has room for them.
 * @throws BadSegment unless they are those that were written
 */
export async function readBlocks(
  file: FileHandle,
  blocks: readonly PlacedBlock[],
  room: Buffer<ArrayBuffer>,
): Promise<Buffer<ArrayBuffer>> {
  const [first] = blocks;
  const bytes = bytesOf(blocks);
  const { bytesRead } = await file.read(room, 0, bytes, first?.at ?? 0);
  let at = 0;
  for (const block of blocks) {
    const stored = room.subarray(at, Math.min(at + block.bytes, bytesRead));
    if (stored.length < block.bytes || crc32(stored) !== block.crc)
      throw new BadSegment('a block of its frames is not what was written');
    at += block.bytes;
  }
  return room.subarray(0, bytes);
}

export function bytesOf(blocks: readonly SpooledBlock[]): number {
  return blocks.reduce((sum, { bytes }) => sum + bytes, 0);
}

/** From the beginning of the file on, one behind the other. */
export function placedBlocks(blocks: readonly SpooledBlock[]): PlacedBlock[] {
  let at = 0;
  return blocks.map(({ bytes, crc }) => {
    at += bytes;
    return { at: at - bytes, bytes, crc };
  });
}
