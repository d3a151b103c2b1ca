/** Cuts one long stream into several objects, so that none grows with the database and they can be read side by side. */
import type { StoredObject } from '../model.js';
import { abortable } from './abortable.js';
import type { ObjectKey } from './storage.js';

/** Parts being finished while the next one is filled. They share out the stream: none waits with a part in memory. */
const PARTS_AT_ONCE = 3;

type WriteObject = (key: ObjectKey, plain: AsyncIterable<Uint8Array>, signal: AbortSignal) => Promise<StoredObject>;

/**
 * Stores `plain` as `<prefix>/00000000` and so on, `partBytes` plain bytes each but for the last.
 * @throws what went wrong first; the parts already stored are removed by then, as far as the storage lets it
 */
export async function writeInParts(
  write: WriteObject,
  remove: (key: ObjectKey) => Promise<void>,
  prefix: ObjectKey,
  plain: AsyncIterable<Uint8Array>,
  partBytes: number,
  signal: AbortSignal | undefined,
): Promise<StoredObject[]> {
  if (!Number.isSafeInteger(partBytes) || partBytes < 1) throw new RangeError(`not a size of parts: ${partBytes}`);
  signal?.throwIfAborted();
  // One part that fails ends the others.
  const failing = new AbortController();
  const anyEnd = signal ? AbortSignal.any([signal, failing.signal]) : failing.signal;
  const cutter = new Cutter(abortable(plain, anyEnd), partBytes);
  const parts: Promise<StoredObject>[] = [];
  const keys: ObjectKey[] = [];
  try {
    while (await cutter.hasMore()) {
      const key = `${prefix}/${String(parts.length).padStart(8, '0')}`;
      const part = cutter.nextPart();
      const writing = write(key, part.bytes, anyEnd);
      writing.catch((error: unknown) => failing.abort(error));
      keys.push(key);
      parts.push(writing);
      await Promise.race([part.taken, writing]);
      await parts.at(-PARTS_AT_ONCE);
    }
    return await Promise.all(parts);
  } catch (error) {
    failing.abort(error);
    await Promise.allSettled(parts);
    await Promise.allSettled(keys.map(remove));
    throw signal?.aborted ? signal.reason : failing.signal.reason;
  } finally {
    await cutter.end();
  }
}

/** Hands a stream out in parts, one after the other. */
class Cutter {
  private chunk: Uint8Array = new Uint8Array();

  constructor(
    private readonly plain: AsyncGenerator<Uint8Array, void, undefined>,
    private readonly partBytes: number,
  ) {}

  async hasMore(): Promise<boolean> {
    while (this.chunk.length === 0) {
      const step = await this.plain.next();
      if (step.done) return false;
      this.chunk = step.value;
    }
    return true;
  }

  /** The next part's bytes; `taken` resolves when they have all been read, or their reader has given up. */
  nextPart(): { bytes: AsyncIterable<Uint8Array>; taken: Promise<void> } {
    let onTaken = () => {};
    const taken = new Promise<void>((resolve) => {
      onTaken = resolve;
    });
    return { bytes: this.cut(onTaken), taken };
  }

  async end(): Promise<void> {
    await this.plain.return();
  }

  private async *cut(onTaken: () => void): AsyncGenerator<Uint8Array, void, undefined> {
    try {
      for (let left = this.partBytes; left > 0 && (await this.hasMore()); ) {
        const piece = this.chunk.subarray(0, left);
        this.chunk = this.chunk.subarray(piece.length);
        left -= piece.length;
        yield piece;
      }
    } finally {
      onTaken();
    }
  }
}
