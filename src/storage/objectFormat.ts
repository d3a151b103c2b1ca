/**
 * The stored form of an object, version 1. It is a format on disk: a later release adds versions and goes on reading
 * this one. Whether the bytes are the right ones is proved by a hash and the sizes in the catalog, not in here.
 *
 *   header   8 bytes   'PITO', version (1), codec (1 = LZ4), flags (u16, 0; kept for encryption)
 *   block              see blocks/blockFormat.ts
 *   …                  more blocks; none where the object is empty
 *   end     12 bytes   u32 zero, u64 the plain length of all blocks together; nothing follows
 *
 * Integers are little-endian.
 */

export const HEADER_BYTES = 8;
export const END_BYTES = 12;

const MAGIC = Buffer.from('PITO', 'latin1');
const VERSION = 1;
const CODEC_LZ4 = 1;

/** `version` is for what a later release may have written; `format` for what no release ever writes. */
export type FormatProblem = 'format' | 'version';

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
