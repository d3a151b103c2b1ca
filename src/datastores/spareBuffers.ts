/**
 * Buffers of one size that are used again, on each thread or by each user their own: a fresh one costs page faults, and
 * one that is dropped lies until V8, which hardly weighs it, collects.
 */
export class SpareBuffers {
  private readonly spare: Buffer<ArrayBuffer>[] = [];

  /** @param most are kept that nobody uses; beyond these the collector has them */
  constructor(
    private readonly bytes: number,
    private readonly most: number,
  ) {}

  /** Its content is whatever was in it. */
  take(): Buffer<ArrayBuffer> {
    return this.spare.pop() ?? Buffer.allocUnsafeSlow(this.bytes);
  }

  /** Takes back what nobody looks at any more. */
  give(buffer: Buffer<ArrayBuffer>): void {
    if (this.spare.length < this.most) this.spare.push(buffer);
  }
}
