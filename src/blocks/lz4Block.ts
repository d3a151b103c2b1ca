/**
 * LZ4 blocks from plain bytes and back, in memory that each thread uses again and again: a library makes two fresh buffers
 * for every block, and what that costs is more than the work (docs/decisions/lz4-in-webassembly.md). The work is done by
 * lz4Block.wat.
 */
import { readFileSync } from 'node:fs';
import { MAX_BLOCK_BYTES } from './blockFormat.js';

/** So many bytes are copied at a time, the last of them past the end. */
const SLACK_BYTES = 16;
const SOURCE_AT = 0;
const RESULT_AT = SOURCE_AT + MAX_BLOCK_BYTES + SLACK_BYTES;
/** Where the program's own tables begin. */
const TABLES_AT = 0x201000;

interface Program {
  memory: Buffer<ArrayBuffer>;
  /** See lz4Block.wat. */
  encode(from: number, bytes: number, to: number, room: number): number;
  decode(from: number, bytes: number, to: number, room: number): number;
}

let ofThisThread: Program | null = null;

/**
 * The LZ4 block of plain bytes, valid until the next call on this thread; null where it would be longer than `most`.
 * @param plain 1 to MAX_BLOCK_BYTES bytes
 * @param most 0 to MAX_BLOCK_BYTES
 */
export function lz4Of(plain: Uint8Array, most: number): Buffer<ArrayBuffer> | null {
  if (plain.length > MAX_BLOCK_BYTES || most > MAX_BLOCK_BYTES) throw new RangeError('too much for a block');
  ofThisThread ??= start();
  const { memory, encode } = ofThisThread;
  memory.set(plain, SOURCE_AT);
  const length = encode(SOURCE_AT, plain.length, RESULT_AT, most);
  return length === 0 ? null : memory.subarray(RESULT_AT, RESULT_AT + length);
}

/**
 * The plain bytes of an LZ4 block, valid until the next call on this thread; null where the bytes are no LZ4 block, or not
 * one of `plainBytes` plain bytes. Safe on hostile bytes.
 * @param block 1 to MAX_BLOCK_BYTES bytes
 * @param plainBytes 1 to MAX_BLOCK_BYTES
 */
export function plainOfLz4(block: Uint8Array, plainBytes: number): Buffer<ArrayBuffer> | null {
  ofThisThread ??= start();
  const { memory, decode } = ofThisThread;
  memory.set(block, SOURCE_AT);
  if (decode(SOURCE_AT, block.length, RESULT_AT, plainBytes) !== plainBytes) return null;
  return memory.subarray(RESULT_AT, RESULT_AT + plainBytes);
}

function start(): Program {
  const program = new WebAssembly.Module(readFileSync(new URL('./lz4Block.wasm', import.meta.url)));
  const { memory, encode, decode } = new WebAssembly.Instance(program).exports as unknown as {
    memory: WebAssembly.Memory;
    encode: Program['encode'];
    decode: Program['decode'];
  };
  if (TABLES_AT < RESULT_AT + MAX_BLOCK_BYTES + SLACK_BYTES) throw new Error('lz4Block.wat has too little memory');
  return { memory: Buffer.from(memory.buffer as ArrayBuffer), encode, decode };
}
