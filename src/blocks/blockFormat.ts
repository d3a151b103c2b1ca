/**
 * A block: plain bytes, as LZ4 leaves them, behind a header that says so. Stored objects are rows of blocks
 * (storage/objectFormat.ts), and captured log is made into them where it is read.
 *
 *    8 bytes   u32 length L of the payload, 1 to 2^20, with bit 31 set where it is raw; u32 plain length P, 1 to 2^20
 *    L bytes   the payload: an LZ4 block (github.com/lz4/lz4, doc/lz4_Block_format.md) of its own, or the plain bytes
 *              themselves, L = P
 *
 * Integers are little-endian. Blocks do not refer to each other, so they can be made and read in parallel. A row of them
 * ends with a u32 of zero.
 */

export const BLOCK_HEADER_BYTES = 8;
/** The most plain bytes, and the most payload bytes, of one block. */
export const MAX_BLOCK_BYTES = 1 << 20;
/**
 * Plain bytes of the blocks that this release makes: what is made of one stays in the processor's cache between being
 * read, hashed, decoded and written, and LZ4 looks back no further than half of it. Earlier ones made the longest.
 */
export const BLOCK_BYTES = 1 << 17;

const RAW = 2 ** 31;

export interface BlockHeader {
  payloadBytes: number;
  plainBytes: number;
  raw: boolean;
}

export function putBlockHeader(at: Buffer, block: BlockHeader): void {
  at.writeUInt32LE(block.payloadBytes + (block.raw ? RAW : 0), 0);
  at.writeUInt32LE(block.plainBytes, 4);
}

/** The header at the start of `bytes`; `end` where the row of blocks ends there, null where it is neither. */
export function blockHeader(bytes: Buffer): BlockHeader | 'end' | null {
  if (bytes.length < BLOCK_HEADER_BYTES) return null;
  const word = bytes.readUInt32LE(0);
  if (word === 0) return 'end';
  const raw = word >= RAW;
  const payloadBytes = raw ? word - RAW : word;
  const plainBytes = bytes.readUInt32LE(4);
  if (payloadBytes < 1 || payloadBytes > MAX_BLOCK_BYTES || plainBytes < 1 || plainBytes > MAX_BLOCK_BYTES) return null;
  if (raw && payloadBytes !== plainBytes) return null;
  return { payloadBytes, plainBytes, raw };
}

/** The blocks that bytes are a row of. @throws Error where they are anything else than whole blocks */
export function* wholeBlocks(bytes: Buffer): Generator<{ block: Buffer; header: BlockHeader }> {
  for (let at = 0; at < bytes.length; ) {
    const header = blockHeader(bytes.subarray(at));
    const end = header === null || header === 'end' ? bytes.length + 1 : at + BLOCK_HEADER_BYTES + header.payloadBytes;
    if (header === null || header === 'end' || end > bytes.length) throw new Error(`no whole block at byte ${at}`);
    yield { block: bytes.subarray(at, end), header };
    at = end;
  }
}
