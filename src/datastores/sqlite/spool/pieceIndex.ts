/**
 * The index of a piece of captured log: what was captured when, and where the bytes of its frames are. It is added to while
 * the piece grows, a line at a time; each line has its own checksum, and however many of them are whole describe a piece.
 */
import { readFile, stat } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import { BLOCK_BYTES } from '../../../blocks/blockFormat.js';
import type { SegmentEpoch, SegmentHead } from '../formats/segmentFormat.js';
import { TransactionTable } from '../formats/transactionTable.js';
import { frameBytes, framePage } from '../formats/walFormat.js';
import { rawFrames } from './rawFrames.js';
import type { PlacedBlock, SpooledBlock } from './spooledBlocks.js';

/** The transactions that one look found, or some of them: all have the same times. */
export interface Look {
  tLo: number;
  tHi: number;
  /** Of each transaction, see SegmentTransaction. */
  dbPages: number[];
  frames: number[];
}

/**
 * Within what is written together, looks come last, so that of their frames nothing is missing however many lines are
 * whole. In a piece of an earlier release, which says no `perBlock`, all frames are in `.frames`, one behind the other, and
 * page numbers may be missing.
 */
export type IndexLine =
  | { pageSize: number; generation: number; after: number; perBlock?: number }
  | { epoch: SegmentEpoch }
  /** Of the next frames: u32, little-endian, in base64. */
  | { pages: string }
  /** The next frames, `perBlock` in each, one after another in `.blocks`. */
  | { blocks: SpooledBlock[] }
  /** Where in `.frames` those frames are that follow the blocks so far; at its beginning until it is said. */
  | { tail: number }
  /** What of the transactions did not fill a block, `at` in `.blocks`: the piece is complete. */
  | { last: PlacedBlock }
  | { look: Look };

export interface PieceIndex {
  /** Of its whole transactions. */
  head: SegmentHead;
  /** Whole frames in each of the blocks. */
  perBlock: number;
  blocks: SpooledBlock[];
  last: PlacedBlock | null;
  /** Where in `.frames` the frames are that follow the blocks. */
  tail: number;
  /** As long as its whole lines are … */
  bytes: number;
  /** … and those up to the last at which all transactions so far are in blocks. */
  bytesOfBlocks: number;
}

/** In each block but the last, of a piece that is begun now. */
export function framesPerBlock(pageSize: number): number {
  return Math.max(1, Math.floor(BLOCK_BYTES / frameBytes(pageSize)));
}

export function indexLine(content: IndexLine): string {
  const json = JSON.stringify(content);
  return `${crc32(json)} ${json}\n`;
}

/** Page numbers as an index has them. */
export function encodedPages(frames: Buffer, size: number): string {
  const pages = Buffer.allocUnsafe((4 * frames.length) / size);
  for (let at = 0, to = 0; at < frames.length; at += size) to = pages.writeUInt32LE(framePage(frames, at), to);
  return pages.toString('base64');
}

/** An index as far as its lines are whole; null where not even its start is, or where page numbers are missing. */
export async function readIndex(file: string): Promise<PieceIndex | null> {
  let start: Extract<IndexLine, { pageSize: number }> | null = null;
  const epochs: SegmentEpoch[] = [];
  const looks: Look[] = [];
  const pages: Buffer[] = [];
  const blocks: SpooledBlock[] = [];
  let last: PieceIndex['last'] = null;
  let tail: number | null = null;
  let bytes = 0;
  let bytesOfBlocks = 0;
  /** Frames of whole transactions. */
  let told = 0;
  // What follows the last line feed is no whole line, whatever it looks like.
  for (const line of (await textOf(`${file}.index`)).split('\n').slice(0, -1)) {
    const json = line.slice(line.indexOf(' ') + 1);
    if (crc32(json) !== Number(line.slice(0, line.indexOf(' ')))) break;
    const content = JSON.parse(json) as IndexLine;
    bytes += line.length + 1;
    if ('epoch' in content) epochs.push(content.epoch);
    else if ('look' in content) {
      looks.push(content.look);
      told = content.look.frames.reduce((sum, frames) => sum + frames, told);
    } else if ('pages' in content) pages.push(Buffer.from(content.pages, 'base64'));
    else if ('tail' in content) tail = content.tail;
    else if ('last' in content) last = content.last;
    else if ('blocks' in content) blocks.push(...content.blocks);
    else start = content;
    const perBlock = start ? (start.perBlock ?? framesPerBlock(start.pageSize)) : 0;
    if (told <= blocks.length * perBlock) bytesOfBlocks = bytes;
  }
  if (!start) return null;
  const transactions = transactionsOf(looks);
  const frames = transactions.allFrames();
  const { pageSize, generation, after, perBlock = framesPerBlock(pageSize) } = start;
  let numbers = pageNumbers(pages, frames);
  if (numbers.length < frames && !start.perBlock) numbers = await rawPageNumbers(file, frames, pageSize);
  if (numbers.length < frames) return null;
  const known = epochs.filter((epoch) => epoch.firstFrame < frames);
  const head = { pageSize, generation, after, epochs: known, transactions, pages: numbers };
  tail ??= start.perBlock ? 0 : blocks.length * perBlock * frameBytes(pageSize);
  return { head, perBlock, blocks, last, tail, bytes, bytesOfBlocks };
}

/** Nothing where there is no such file. */
async function textOf(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    if (['ENOENT', 'EISDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return '';
    throw error;
  }
}

/** As many of them as are wanted: frames of a transaction that did not end may follow. */
function pageNumbers(encoded: readonly Buffer[], wanted: number): Uint32Array {
  const bytes = Buffer.concat(encoded);
  const numbers = new Uint32Array(Math.min(wanted, bytes.length >> 2));
  for (let i = 0; i < numbers.length; i++) numbers[i] = bytes.readUInt32LE(4 * i);
  return numbers;
}

function transactionsOf(looks: readonly Look[]): TransactionTable {
  const table = TransactionTable.withRoom(looks.reduce((sum, { dbPages }) => sum + dbPages.length, 0));
  let next = 0;
  for (const look of looks) {
    for (let i = 0; i < look.dbPages.length; i++) table.set(next++, look, look.dbPages[i] ?? 0, look.frames[i] ?? 0);
  }
  return table;
}

/** As an earlier release left them to be read. */
async function rawPageNumbers(file: string, frames: number, pageSize: number): Promise<Uint32Array> {
  const size = frameBytes(pageSize);
  const there = await stat(`${file}.frames`).catch(() => ({ size: 0 }));
  const count = Math.min(frames, Math.floor(there.size / size));
  const pages = new Uint32Array(count);
  let page = 0;
  for await (const bytes of rawFrames(`${file}.frames`, 0, count, size)) {
    for (let at = 0; at < bytes.length; at += size) pages[page++] = framePage(bytes, at);
  }
  return pages;
}
