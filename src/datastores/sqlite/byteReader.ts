/** Takes an async stream of chunks apart into pieces of known length, holding no more than one piece and one chunk. */
export class ByteReader {
  private readonly source: AsyncIterator<Buffer>;
  private chunk: Buffer = Buffer.alloc(0);

  constructor(source: AsyncIterable<Buffer>) {
    this.source = source[Symbol.asyncIterator]();
  }

  /** Exactly the next `bytes` bytes. @throws Error where the stream ends before */
  readonly exactly = async (bytes: number): Promise<Buffer> => {
    const piece = await this.upTo(bytes);
    if (piece.length < bytes) throw new Error(`the stream ended ${bytes - piece.length} bytes early`);
    return piece;
  };

  /** The next `bytes` bytes, fewer only at the end of the stream. Valid until the chunk's owner reuses it. */
  async upTo(bytes: number): Promise<Buffer> {
    if (this.chunk.length >= bytes) return this.take(bytes);
    const pieces: Buffer[] = [];
    let missing = bytes;
    while (missing > 0) {
      if (this.chunk.length === 0) {
        const next = await this.source.next();
        if (next.done) break;
        this.chunk = next.value;
        continue;
      }
      const piece = this.take(Math.min(missing, this.chunk.length));
      pieces.push(piece);
      missing -= piece.length;
    }
    return pieces.length === 1 && pieces[0] ? pieces[0] : Buffer.concat(pieces);
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

  private take(bytes: number): Buffer {
    const piece = this.chunk.subarray(0, bytes);
    this.chunk = this.chunk.subarray(bytes);
    return piece;
  }
}
