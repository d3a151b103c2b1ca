/**
 * What is costly to make and used again, on each thread or by each user their own. Of buffers a fresh one costs page faults,
 * and one that is dropped lies until V8, which hardly weighs it, collects.
 */
export class Spares<T> {
  private readonly spare: T[] = [];

  /** @param most are kept that nobody uses; beyond these the collector has them */
  constructor(
    private readonly make: () => T,
    private readonly most: number,
  ) {}

  /** Its content is whatever was in it. */
  take(): T {
    return this.spare.pop() ?? this.make();
  }

  /** Takes back what nobody looks at any more. */
  give(used: T): void {
    if (this.spare.length < this.most) this.spare.push(used);
  }
}

/** Buffers of one size. */
export class SpareBuffers extends Spares<Buffer<ArrayBuffer>> {
  constructor(bytes: number, most: number) {
    super(() => Buffer.allocUnsafeSlow(bytes), most);
  }
}
