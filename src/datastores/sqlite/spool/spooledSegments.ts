/** Captured log read back from the spool, proved: on its way to the archive, or after the process that wrote it ended. */
import { open, readdir, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { crc32 } from 'node:zlib';
import type { JsonObject } from '../../../errors.js';
import { SpareBuffers } from '../../spareBuffers.js';
import { ByteReader } from '../formats/byteReader.js';
import { BadSegment, encodeHead, type SegmentHead } from '../formats/segmentFormat.js';
import { batchBytes, type FrameBatch, provenFrames } from '../formats/segmentFrames.js';
import { TransactionTable } from '../formats/transactionTable.js';
import { frameBytes, framePage, frameSum, type WalSum } from '../formats/walFormat.js';
import { discardSegment, type IndexLine, type Look, type SealedSegment, writeSeal } from './spool.js';

/** The head of a sealed piece. @throws BadSegment */
export async function sealedHead(sealed: SealedSegment): Promise<SegmentHead> {
  const head = await readIndex(sealed.file);
  if (!head || head.after + head.transactions.length !== sealed.last || head.generation !== sealed.generation) {
    throw new BadSegment('its index is damaged');
  }
  return head;
}

/**
 * The plain bytes of a sealed piece in the archive's format, proved while they pass: what the disk spoilt must not
 * reach the archive. Each chunk is valid until the next one is asked for. @throws BadSegment
 */
export async function* sealedBytes(sealed: SealedSegment, head: SegmentHead): AsyncGenerator<Buffer> {
  yield encodeHead(head);
  for await (const batch of spooledFrames(sealed.file, head)) yield batch.bytes;
}

/**
 * What an earlier process left: pieces it had sealed, and the whole transactions of the one that was still open, sealed
 * now. In order of generation and ordinal.
 */
export async function leftovers(directory: string): Promise<SealedSegment[]> {
  const names = await readdir(directory).catch(() => [] as string[]);
  const found: SealedSegment[] = [];
  for (const name of names.filter((each) => each.endsWith('.frames'))) {
    const file = path.join(directory, name.slice(0, -'.frames'.length));
    const sealed = names.includes(`${path.basename(file)}.json`) ? await readSeal(file) : await sealRemains(file);
    if (sealed) found.push(sealed);
    else await discardSegment(file);
  }
  return found.sort((a, b) => a.generation - b.generation || a.after - b.after);
}

async function readSeal(file: string): Promise<SealedSegment | null> {
  try {
    return { ...(JSON.parse(await readFile(`${file}.json`, 'utf8')) as SealedSegment & JsonObject), file };
  } catch {
    return null;
  }
}

/** Seals the whole transactions of a piece that was being written when its process ended; null where there are none. */
async function sealRemains(file: string): Promise<SealedSegment | null> {
  const head = await readIndex(file);
  if (!head || head.transactions.length === 0) return null;
  const size = frameBytes(head.pageSize);
  let sum: WalSum = { a: 0, b: 0 };
  try {
    for await (const batch of spooledFrames(file, head)) {
      sum = frameSum(batch.bytes, (batch.count - 1) * size);
    }
  } catch (error) {
    // An index line is written after its frames, so this is the machine's crash: nothing here can be relied upon.
    if (error instanceof BadSegment) return null;
    throw error;
  }
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
    bytes: head.pages.length * size,
    // Of the look that found the last transaction only the one before it is known to have been archived whole.
    coveredTo: lastTransaction.tLo,
    continuation: { version: 1, pageSize: head.pageSize, salt1, salt2, frames, sum, axis: lastTransaction.tHi },
  });
}

/** An index as far as its lines are whole; null where not even its start is, or where page numbers are missing. */
async function readIndex(file: string): Promise<SegmentHead | null> {
  let head: Omit<SegmentHead, 'transactions' | 'pages'> | null = null;
  const looks: Look[] = [];
  const pages: Buffer[] = [];
  for (const line of (await readFile(`${file}.index`, 'utf8').catch(() => '')).split('\n')) {
    const json = line.slice(line.indexOf(' ') + 1);
    if (line === '' || crc32(json) !== Number(line.slice(0, line.indexOf(' ')))) break;
    const content = JSON.parse(json) as IndexLine;
    if ('epoch' in content) head?.epochs.push(content.epoch);
    else if ('look' in content) looks.push(content.look);
    else if ('pages' in content) pages.push(Buffer.from(content.pages, 'base64'));
    else head = { ...content, epochs: [] };
  }
  if (!head) return null;
  const transactions = transactionsOf(looks);
  const frames = transactions.allFrames();
  const epochs = head.epochs.filter((epoch) => epoch.firstFrame < frames);
  let numbers = pageNumbers(pages, frames);
  if (numbers.length < frames) numbers = await readPageNumbers(file, frames, head.pageSize);
  return numbers.length === frames ? { ...head, epochs, transactions, pages: numbers } : null;
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

/** Where the index has not all of them: of a huge transaction, or as an earlier release wrote it. */
async function readPageNumbers(file: string, frames: number, pageSize: number): Promise<Uint32Array> {
  const size = frameBytes(pageSize);
  const available = Math.floor((await stat(`${file}.frames`)).size / size);
  const pages = new Uint32Array(Math.min(frames, available));
  let page = 0;
  for await (const bytes of wholeFrames(`${file}.frames`, size)) {
    for (let at = 0; at < bytes.length && page < pages.length; at += size) pages[page++] = framePage(bytes, at);
    if (page === pages.length) break;
  }
  return pages;
}

async function* spooledFrames(file: string, head: SegmentHead): AsyncGenerator<FrameBatch> {
  const reader = new ByteReader(wholeFrames(`${file}.frames`, frameBytes(head.pageSize)));
  try {
    yield* provenFrames(head, reader);
  } finally {
    await reader.close();
  }
}

/** Of each piece on its way to the archive one; few databases have one at the same time. */
const chunks = new SpareBuffers(batchBytes, 4);

/** In chunks of whole frames, as they are asked for; each is valid until the next one is. */
async function* wholeFrames(file: string, size: number): AsyncGenerator<Buffer> {
  const handle = await open(file, 'r');
  const chunk = chunks.take();
  try {
    const whole = chunk.subarray(0, Math.floor(chunk.length / size) * size);
    for (let at = 0; ; at += whole.length) {
      const { bytesRead } = await handle.read(whole, 0, whole.length, at);
      if (bytesRead > 0) yield whole.subarray(0, bytesRead);
      if (bytesRead < whole.length) return;
    }
  } finally {
    chunks.give(chunk);
    await handle.close();
  }
}
