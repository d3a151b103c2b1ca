/** Captured log read back from the spool, proved: on its way to the archive, or after the process that wrote it ended. */
import { type FileHandle, open, readdir, truncate } from 'node:fs/promises';
import path from 'node:path';
import { BLOCK_BYTES, BLOCK_HEADER_BYTES, wholeBlocks } from '../../../blocks/blockFormat.js';
import { packBlock, plainOfBlock } from '../../../blocks/packing.js';
import { readNote } from '../../note.js';
import { SpareBuffers } from '../../spareBuffers.js';
import { ByteReader } from '../formats/byteReader.js';
import { BadSegment, encodeHead } from '../formats/segmentFormat.js';
import { provenFrames } from '../formats/segmentFrames.js';
import { frameBytes, frameSum, type WalSum } from '../formats/walFormat.js';
import { completeBlocks, completePiece } from './completePiece.js';
import { type PieceIndex, readIndex } from './pieceIndex.js';
import { rawFrames } from './rawFrames.js';
import { discardSegment, type SealedSegment, writeSeal } from './spool.js';
import { type PlacedBlock, placedBlocks, readBlocks } from './spooledBlocks.js';

/** Of each piece on its way to the archive one; few databases have one at the same time. */
const chunks = new SpareBuffers(1 << 20, 4);

/** The index of a sealed piece. @throws BadSegment */
export async function sealedIndex(sealed: SealedSegment): Promise<PieceIndex> {
  const index = await readIndex(sealed.file);
  const { after = 0, transactions, generation } = index?.head ?? {};
  if (!index || !transactions || after + transactions.length !== sealed.last || generation !== sealed.generation) {
    throw new BadSegment('its index is damaged');
  }
  return index;
}

/**
 * A sealed piece in the archive's format (segmentFormat.ts), as blocks, whole ones in each chunk. They are proved to be those that
 * were made of the frames when these were proved: what the disk spoilt must not reach the archive. Each chunk is valid
 * until the next one is asked for. @throws BadSegment
 */
export async function* sealedBlocks(sealed: SealedSegment, index: PieceIndex): AsyncGenerator<Buffer> {
  const blocks = completeBlocks(index);
  if (!blocks) throw new BadSegment('blocks of its frames are missing');
  const file = await openBlocks(sealed.file);
  const chunk = chunks.take();
  let filled = 0;
  try {
    const head = encodeHead(index.head);
    for (let at = 0; at < head.length; at += BLOCK_BYTES) {
      if (filled + BLOCK_HEADER_BYTES + BLOCK_BYTES > chunk.length) {
        yield chunk.subarray(0, filled);
        filled = 0;
      }
      filled += packBlock(chunk.subarray(filled), head.subarray(at, at + BLOCK_BYTES));
    }
    let plainBytes = 0;
    for (let next = 0; next < blocks.length; ) {
      const run = runOf(blocks, next, chunk.length - filled);
      if (run.length > 0) {
        const read = await readBlocks(file, run, chunk.subarray(filled));
        for (const { header } of wholeBlocks(read)) plainBytes += header.plainBytes;
        filled += read.length;
        next += run.length;
        continue;
      }
      if (filled === 0) throw new BadSegment('a block of its frames is longer than any that is written');
      yield chunk.subarray(0, filled);
      filled = 0;
    }
    if (plainBytes !== index.head.pages.length * frameBytes(index.head.pageSize))
      throw new BadSegment('its blocks are not of as many frames as its index says');
    if (filled > 0) yield chunk.subarray(0, filled);
  } finally {
    chunks.give(chunk);
    await file.close();
  }
}

/** @throws BadSegment where there is no such file */
async function openBlocks(file: string): Promise<FileHandle> {
  return open(`${file}.blocks`, 'r').catch((error: NodeJS.ErrnoException) => {
    throw error.code === 'ENOENT' ? new BadSegment('its blocks are missing') : error;
  });
}

/** From the block number `from` on those that lie one behind the other and have room together. */
function runOf(blocks: readonly PlacedBlock[], from: number, room: number): PlacedBlock[] {
  const start = blocks[from]?.at ?? 0;
  let end = start;
  let to = from;
  for (let block = blocks[to]; block?.at === end && end + block.bytes - start <= room; block = blocks[++to]) {
    end += block.bytes;
  }
  return blocks.slice(from, to);
}

/**
 * What an earlier process left: pieces it had sealed, and the whole transactions of the one that was still open, sealed
 * now. In order of generation and ordinal.
 */
export async function leftovers(directory: string): Promise<SealedSegment[]> {
  const names = await readdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  const pieces = new Set(
    names.flatMap((name) => /^(\d+-\d+)\.(?:index|blocks|frames|json(?:\.part)?)$/.exec(name)?.[1] ?? []),
  );
  const found: SealedSegment[] = [];
  for (const piece of pieces) {
    const file = path.join(directory, piece);
    const sealed = await readSeal(file);
    const index = await readIndex(file);
    // That the index of a sealed piece is damaged is found, and told, on its way to the archive.
    const whole =
      sealed && (!index || completeBlocks(index)) ? sealed : index && (await sealRemains(file, index, sealed));
    if (whole) found.push(whole);
    else await discardSegment(file);
  }
  return found.sort((a, b) => a.generation - b.generation || a.after - b.after);
}

async function readSeal(file: string): Promise<SealedSegment | null> {
  const seal = await readNote<SealedSegment>(`${file}.json`);
  return seal && { ...seal, file };
}

/**
 * Seals the whole transactions of a piece that was being written when its process ended, or that an earlier release sealed
 * without blocks; null where there are none.
 */
async function sealRemains(
  file: string,
  index: PieceIndex,
  sealedBefore: SealedSegment | null,
): Promise<SealedSegment | null> {
  const { head } = index;
  if (head.transactions.length === 0) return null;
  const size = frameBytes(head.pageSize);
  let sum: WalSum = { a: 0, b: 0 };
  let bytes: number;
  try {
    const reader = new ByteReader(spooledFrames(file, index));
    try {
      for await (const batch of provenFrames(head, reader)) sum = frameSum(batch.bytes, (batch.count - 1) * size);
    } finally {
      await reader.close();
    }
    bytes = await completePiece(file, index);
  } catch (error) {
    // An index line is written after its frames, so this is the machine's crash.
    if (!(error instanceof BadSegment)) throw error;
    if (sealedBefore || index.bytesOfBlocks === 0 || index.bytesOfBlocks === index.bytes) return null;
    // The newest frames may be gone, or written over by later ones; what is in blocks is not.
    await truncate(`${file}.index`, index.bytesOfBlocks);
    const rest = await readIndex(file);
    return rest && sealRemains(file, rest, null);
  }
  if (sealedBefore) return writeSeal({ ...sealedBefore, bytes });
  const epoch = head.epochs.at(-1);
  const lastTransaction = head.transactions.last;
  if (!epoch || !lastTransaction) return null;
  const last = head.after + head.transactions.length;
  const frames = epoch.walFrames + head.pages.length - epoch.firstFrame;
  const { salt1, salt2 } = epoch;
  return writeSeal({
    file,
    generation: head.generation,
    after: head.after,
    last,
    bytes,
    // Of the look that found the last transaction only the one before it is known to have been archived whole.
    coveredTo: lastTransaction.tLo,
    continuation: { version: 1, pageSize: head.pageSize, salt1, salt2, frames, sum, axis: lastTransaction.tHi },
  });
}

/** The frames of a piece as they were captured, wherever they are; each chunk is valid until the next one is asked for. */
async function* spooledFrames(file: string, index: PieceIndex): AsyncGenerator<Buffer> {
  const { head, tail } = index;
  const size = frameBytes(head.pageSize);
  const complete = completeBlocks(index);
  const blocks = complete ?? placedBlocks(index.blocks);
  const inBlocks = complete ? head.pages.length : blocks.length * index.perBlock;
  const chunk = chunks.take();
  const own = chunks.take();
  const blocksFile = blocks.length > 0 ? await openBlocks(file) : null;
  try {
    for (const block of blocks) {
      if (!blocksFile) break;
      const stored = await readBlocks(blocksFile, [block], chunk);
      const plain = plainOfBlock(stored);
      if (!plain) throw new BadSegment('a block of its frames cannot be unpacked');
      // What LZ4 answers with is gone as soon as anything else is packed.
      yield own.subarray(0, plain.copy(own));
    }
    yield* rawFrames(`${file}.frames`, tail, head.pages.length - inBlocks, size);
  } finally {
    chunks.give(chunk);
    chunks.give(own);
    await blocksFile?.close();
  }
}
