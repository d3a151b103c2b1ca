/** Write-ahead log made by hand. */
import { crc32c } from '../../../src/datastores/postgresql/formats/crc32c.js';

export const PAGE = 8192;
/** Of a WAL file; PostgreSQL itself has none as small. */
export const FILE = 4 * PAGE;
/** 2000-01-01T00:00:00Z in microseconds since 1970. */
export const EPOCH = 946_684_800_000_000;

/** Writes log as xlogrecord.h and xlog_internal.h describe it. */
export class WalWriter {
  readonly bytes: Buffer[] = [];
  position: number;
  previous = 0;

  constructor(readonly start: number) {
    this.position = start;
  }

  /** @returns where the record begins and ends */
  record(rmgr: number, info: number, body: Buffer): { start: number; end: number } {
    if (this.position % PAGE === 0) this.page(0, 0);
    const start = this.position;
    const header = Buffer.alloc(24);
    header.writeUInt32LE(24 + body.length, 0);
    header.writeBigUInt64LE(BigInt(this.previous), 8);
    header.writeUInt8(info, 16);
    header.writeUInt8(rmgr, 17);
    header.writeUInt32LE(crc32c(body, header.subarray(0, 20)), 20);
    this.previous = start;
    const whole = Buffer.concat([header, body]);
    for (let at = 0; at < whole.length; ) {
      if (this.position % PAGE === 0) this.page(1, whole.length - at);
      const piece = whole.subarray(at, at + PAGE - (this.position % PAGE));
      this.put(piece);
      at += piece.length;
    }
    this.put(Buffer.alloc((8 - (this.position % 8)) % 8));
    return { start, end: this.position };
  }

  /** @param at microseconds since 1970 */
  commit(at: number, info = 0x00, padding = 0): { start: number; end: number } {
    const body = Buffer.alloc(10 + padding, 7);
    const long = body.length - 2 > 255;
    const data = Buffer.alloc(long ? 5 : 2);
    data.writeUInt8(long ? 254 : 255, 0);
    if (long) data.writeUInt32LE(8 + padding, 1);
    else data.writeUInt8(8 + padding, 1);
    const time = Buffer.alloc(8 + padding);
    time.writeBigInt64LE(BigInt(at - EPOCH));
    return this.record(1, info, Buffer.concat([data, time]));
  }

  switchFile(): void {
    this.record(0, 0x40, Buffer.alloc(0));
    while (this.position % FILE !== 0) {
      if (this.position % PAGE === 0) this.page(0, 0);
      this.put(Buffer.alloc(PAGE - (this.position % PAGE)));
    }
  }

  page(flags: number, remaining: number): void {
    const long = this.position % FILE === 0;
    const header = Buffer.alloc(long ? 40 : 24);
    header.writeUInt16LE(0xd110, 0);
    header.writeUInt16LE(flags | (long ? 2 : 0), 2);
    header.writeUInt32LE(1, 4);
    header.writeBigUInt64LE(BigInt(this.position), 8);
    header.writeUInt32LE(remaining, 16);
    this.put(header);
  }

  put(bytes: Buffer): void {
    this.bytes.push(bytes);
    this.position += bytes.length;
  }

  all(): Buffer {
    return Buffer.concat(this.bytes);
  }
}
