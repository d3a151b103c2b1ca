/** A set of page numbers, one bit each: what stays small for databases of any size. */
export class PageSet {
  private readonly bits: Uint8Array;

  /** Pages 1 to `pages`. */
  constructor(readonly pages: number) {
    this.bits = new Uint8Array(Math.ceil((pages + 1) / 8));
  }

  has(page: number): boolean {
    return ((this.bits[page >> 3] ?? 0) & (1 << (page & 7))) !== 0;
  }

  /** Adds a page; false where it already was there, or is beyond the last one. */
  add(page: number): boolean {
    if (page > this.pages || this.has(page)) return false;
    this.bits[page >> 3] = (this.bits[page >> 3] ?? 0) | (1 << (page & 7));
    return true;
  }
}

/** The greatest page number; 0 where there is none. */
export function greatest(pages: Iterable<number>): number {
  let found = 0;
  for (const page of pages) if (page > found) found = page;
  return found;
}
