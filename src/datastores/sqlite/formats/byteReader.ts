/**
 * Takes an async stream of chunks apart into pieces of known length, holding no more than one piece and one chunk. A
 * chunk is not looked at any more once the next one was asked for.
 */
import { BadSegment } from './segmentFormat.js';

export class ByteReader {
  private readonly source: AsyncIterator<Buffer>;
  private chunk: Buffer = Buffer.alloc(0);
  private joined: Buffer = Buffer.alloc(0);

  constructor(source: AsyncIterable<Buffer>) {
    this.source = source[Symbol.asyncIterator]();
  }

  /** Exactly the next `bytes` bytes, in a buffer of their own. @throws BadSegment where the stream ends before */
  readonly exactly = async (bytes: number): Promise<Buffer> => {
    const piece = await this.upTo(bytes);
    if (piece.length < bytes) throw new BadSegment(`its bytes ended ${bytes - piece.length} bytes early`);
    return Buffer.from(piece);
  };

  /** The next `bytes` bytes, fewer only at the end of the stream. Valid until the next call. */
  async upTo(bytes: number): Promise<Buffer> {
    if (this.chunk.length >= bytes) return this.take(bytes);
    // Chunks are valid only until the next one comes, so they are put together as they come.
    let filled = 0;
    while (filled < bytes) {
      if (this.chunk.length === 0) {
        const next = await this.source.next();
        if (next.done) break;
        this.chunk = next.value;
        if (filled === 0 && this.chunk.length >= bytes) return this.take(bytes);
        continue;
      }
      this.makeRoom(filled, Math.min(bytes, filled + this.chunk.length), bytes);
      const piece = this.take(Math.min(bytes - filled, this.chunk.length));
      this.joined.set(piece, filled);
      filled += piece.length;
    }
    return this.joined.subarray(0, filled);
  }

  /** Reads on to the end, where the source proves the whole; answers with the number of bytes that were left. */
  async drain(): Promise<number> {
    let left = this.chunk.length;
    this.chunk = Buffer.alloc(0);
    for (let next = await this.source.next(); !next.done; next = await this.source.next()) left += next.value.length;
    return left;
  }

  /** Stops early, so that the source can release what it holds. */
  async close(): Promise<void> {
    await this.source.return?.();
  }

  /** Grows with what really came: a length that a damaged head claims is no reason to ask for memory. */
  private makeRoom(filled: number, needed: number, wanted: number): void {
    if (this.joined.length >= needed) return;
    const room = Buffer.allocUnsafeSlow(Math.min(wanted, Math.max(2 * needed, 1 << 16)));
    this.joined.copy(room, 0, 0, filled);
    this.joined = room;
  }

  private take(bytes: number): Buffer {
    const piece = this.chunk.subarray(0, bytes);
    this.chunk = this.chunk.subarray(bytes);
    return piece;
  }
}
