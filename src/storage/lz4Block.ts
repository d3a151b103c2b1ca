/**
 * LZ4 blocks to their plain bytes, in memory that each thread uses again and again: the library makes two fresh buffers for
 * every block, and what that costs is more than the decoding (docs/decisions/lz4-decoder.md). The decoder is lz4Block.wat.
 */
import { readFileSync } from 'node:fs';
import { MAX_BLOCK_BYTES } from './objectFormat.js';

/** The decoder copies so many bytes at a time, the last of them past the end. */
const SLACK_BYTES = 16;
const BLOCK_AT = 0;
const RESULT_AT = BLOCK_AT + MAX_BLOCK_BYTES + SLACK_BYTES;
/** Where the decoder's own tables begin. */
const TABLES_AT = 0x201000;

interface Decoder {
  memory: Uint8Array<ArrayBuffer>;
  /** See lz4Block.wat. */
  decode(from: number, bytes: number, to: number, room: number): number;
}

let ofThisThread: Decoder | null = null;

/**
 * The plain bytes of an LZ4 block, valid until the next call on this thread; null where the bytes are no LZ4 block, or not
 * one of `plainBytes` plain bytes. Safe on hostile bytes.
 * @param block 1 to MAX_BLOCK_BYTES bytes
 * @param plainBytes 1 to MAX_BLOCK_BYTES
 */
export function plainOfLz4(block: Uint8Array, plainBytes: number): Buffer<ArrayBuffer> | null {
  ofThisThread ??= start();
  const { memory, decode } = ofThisThread;
  memory.set(block, BLOCK_AT);
  if (decode(BLOCK_AT, block.length, RESULT_AT, plainBytes) !== plainBytes) return null;
  return Buffer.from(memory.buffer, RESULT_AT, plainBytes);
}

function start(): Decoder {
  const program = new WebAssembly.Module(readFileSync(new URL('./lz4Block.wasm', import.meta.url)));
  const { memory, decode } = new WebAssembly.Instance(program).exports as unknown as {
    memory: WebAssembly.Memory;
    decode: Decoder['decode'];
  };
  const bytes = new Uint8Array(memory.buffer as ArrayBuffer);
  if (TABLES_AT < RESULT_AT + MAX_BLOCK_BYTES + SLACK_BYTES) throw new Error('lz4Block.wat has too little memory');
  return { memory: bytes, decode };
}
