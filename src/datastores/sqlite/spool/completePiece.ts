/** Makes blocks of all frames of a piece that nobody adds to any more, also where its process ended before it could. */
import { type FileHandle, open } from 'node:fs/promises';
import { BLOCK_BYTES, BLOCK_HEADER_BYTES } from '../../../blocks/blockFormat.js';
import { plainOfBlock } from '../../../blocks/packing.js';
import { writeWhole } from '../../durable.js';
import { BadSegment } from '../formats/segmentFormat.js';
import { frameBytes } from '../formats/walFormat.js';
import { type IndexLine, indexLine, type PieceIndex } from './pieceIndex.js';
import { rawFrames } from './rawFrames.js';
import { bytesOf, type PlacedBlock, packInto, placedBlocks, readBlocks } from './spooledBlocks.js';

/** The blocks of the frames of all whole transactions; null where the piece is not complete. */
export function completeBlocks({ head, perBlock, blocks, last }: PieceIndex): PlacedBlock[] | null {
  const full = Math.floor(head.pages.length / perBlock);
  const partial = head.pages.length % perBlock > 0;
  if (blocks.length < full || (partial && !last)) return null;
  const placed = placedBlocks(blocks).slice(0, full);
  return partial && last ? [...placed, last] : placed;
}

/** Answers with the length of its blocks. @throws BadSegment */
export async function completePiece(file: string, index: PieceIndex | null): Promise<number> {
  if (!index) throw new BadSegment('its index is damaged');
  const end = bytesOf(index.blocks);
  const complete = completeBlocks(index);
  if (complete) return end + (index.last?.bytes ?? 0);
  const blocksFile = await open(`${file}.blocks`, index.blocks.length > 0 ? 'r+' : 'w+', 0o600);
  try {
    const room = Buffer.allocUnsafeSlow(BLOCK_HEADER_BYTES + BLOCK_BYTES);
    let at = end;
    let lines = '';
    for await (const plain of framesAfterBlocks(file, blocksFile, index)) {
      const block = packInto(room, 0, plain);
      await writeWhole(blocksFile, room.subarray(0, block.bytes), at);
      const isFull = plain.length === index.perBlock * frameBytes(index.head.pageSize);
      const line: IndexLine = isFull ? { blocks: [block] } : { last: { at, ...block } };
      lines += indexLine(line);
      at += block.bytes;
    }
    await addLines(`${file}.index`, index.bytes, lines);
    return at;
  } finally {
    await blocksFile.close();
  }
}

/** What a crash left of a line behind the whole ones would hide these. */
async function addLines(file: string, wholeBytes: number, lines: string): Promise<void> {
  const index = await open(file, 'r+');
  try {
    await index.truncate(wholeBytes);
    await writeWhole(index, Buffer.from(lines), wholeBytes);
  } finally {
    await index.close();
  }
}

/**
 * The frames of whole transactions that are not in full blocks of such frames alone, in runs of as many as a block has, fewer in
 * the last; each valid until the next one is asked for.
 */
async function* framesAfterBlocks(
  file: string,
  blocksFile: FileHandle,
  { head, perBlock, blocks, tail }: PieceIndex,
): AsyncGenerator<Buffer> {
  const size = frameBytes(head.pageSize);
  const total = head.pages.length;
  if (total < blocks.length * perBlock) {
    // The last of them are in a block with frames of a transaction that did not end.
    const cut = placedBlocks(blocks)[Math.floor(total / perBlock)];
    const frames = total % perBlock;
    if (!cut || frames === 0) return;
    const stored = await readBlocks(blocksFile, [cut], Buffer.allocUnsafeSlow(cut.bytes));
    const plain = plainOfBlock(stored);
    if (plain?.length !== perBlock * size) throw new BadSegment('a block of its frames is not what was written');
    // What LZ4 answers with is gone as soon as anything else is packed.
    yield Buffer.from(plain.subarray(0, frames * size));
    return;
  }
  let left = total - blocks.length * perBlock;
  for (let from = tail; left > 0; ) {
    const count = Math.min(perBlock, left);
    let got = 0;
    for await (const frames of rawFrames(`${file}.frames`, from, count, size)) {
      got += frames.length / size;
      yield frames;
    }
    if (got < count) throw new BadSegment('its newest frames are missing');
    from += count * size;
    left -= count;
  }
}
