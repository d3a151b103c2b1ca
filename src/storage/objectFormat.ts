/**
 * The stored form of an object, version 1. It is a format on disk: a later release adds versions and goes on reading
 * this one. Whether the bytes are the right ones is proved by a hash and the sizes in the catalog, not in here.
 *
 *   header   8 bytes   'PITO', version (1), codec (1 = LZ4), flags (u16, 0; kept for encryption)
 *   block    8 bytes   u32 stored length L, 1 to 2^20, with bit 31 set where the payload is raw;
 *                      u32 plain length P, 1 to 2^20
 *            L bytes   the payload: an LZ4 block (github.com/lz4/lz4, doc/lz4_Block_format.md) of its own, or the
 *                      plain bytes themselves, L = P
 *   …                  more blocks; none where the object is empty
 *   end     12 bytes   u32 zero, u64 the plain length of all blocks together; nothing follows
 *
 * Integers are little-endian. Blocks do not refer to each other, so they can be made and read in parallel.
 */

export const HEADER_BYTES = 8;
export const BLOCK_HEADER_BYTES = 8;
export const END_BYTES = 12;
/** The most plain bytes, and the most payload bytes, of one block. */
export const MAX_BLOCK_BYTES = 1 << 20;
/**
 * Plain bytes of the blocks that this release writes: what is made of one stays in the processor's cache between being
 * read, hashed, decoded and written, and LZ4 looks back no further than half of it. Earlier ones wrote the longest.
 */
export const BLOCK_BYTES = 1 << 17;

const MAGIC = Buffer.from('PITO', 'latin1');
const VERSION = 1;
const CODEC_LZ4 = 1;
const RAW = 2 ** 31;

/** `version` is for what a later release may have written; `format` for what no release ever writes. */
export type FormatProblem = 'format' | 'version';

export interface BlockHeader {
  payloadBytes: number;
  plainBytes: number;
  raw: boolean;
}

export function objectHeader(): Buffer<ArrayBuffer> {
  const bytes = Buffer.alloc(HEADER_BYTES);
  MAGIC.copy(bytes);
  bytes.writeUInt8(VERSION, 4);
  bytes.writeUInt8(CODEC_LZ4, 5);
  return bytes;
}

/** What keeps this release from reading an object that starts like this; null where nothing does. */
export function headerProblem(bytes: Buffer): FormatProblem | null {
  if (bytes.length < HEADER_BYTES || !bytes.subarray(0, MAGIC.length).equals(MAGIC)) return 'format';
  const known = bytes.readUInt8(4) === VERSION && bytes.readUInt8(5) === CODEC_LZ4 && bytes.readUInt16LE(6) === 0;
  return known ? null : 'version';
}

export function putBlockHeader(at: Buffer, block: BlockHeader): void {
  at.writeUInt32LE(block.payloadBytes + (block.raw ? RAW : 0), 0);
  at.writeUInt32LE(block.plainBytes, 4);
}

/** The header at the start of `bytes`; `end` where the end marker starts there, null where it is neither. */
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

export function endMarker(plainBytes: number): Buffer<ArrayBuffer> {
  const bytes = Buffer.alloc(END_BYTES);
  bytes.writeBigUInt64LE(BigInt(plainBytes), 4);
  return bytes;
}

/** The plain length that an end marker states; null where these bytes are not one. */
export function endMarkerTotal(bytes: Buffer): number | null {
  if (bytes.length !== END_BYTES || bytes.readUInt32LE(0) !== 0) return null;
  return Number(bytes.readBigUInt64LE(4));
}
