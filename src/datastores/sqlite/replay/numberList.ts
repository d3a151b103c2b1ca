/**
 * Whole numbers below 2^32 in a row that grows. V8's arrays would be moved over and over by its collector; this lies
 * outside its heap.
 */
export class NumberList {
  private numbers = new Uint32Array(1024);
  private count = 0;

  push(number: number): void {
    if (this.count === this.numbers.length) {
      const larger = new Uint32Array(2 * this.count);
      larger.set(this.numbers);
      this.numbers = larger;
    }
    this.numbers[this.count++] = number;
  }

  /** All of them; the list is empty afterwards. */
  take(): Uint32Array {
    const taken = this.numbers.slice(0, this.count);
    this.count = 0;
    return taken;
  }
}
