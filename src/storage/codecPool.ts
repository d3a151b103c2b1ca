/**
 * A few worker threads shared by every open object. A thread takes requests of at most one block in the order they
 * come and nobody holds it between two of them, so any number of objects can be open and all of them move on.
 */
import { Worker } from 'node:worker_threads';
import { Fault } from '../errors.js';
import type { StoredObject, ThreadSink } from '../model.js';
import type { ObjectCodec } from './blockCodec.js';
import type { CodecReply, CodecRequest, ThreadError } from './codecWorker.js';
import { unreadable } from './fileFaults.js';
import type { Hashing, Proof } from './objectHashes.js';
import type { Poured } from './pouring.js';

type WithoutId<T> = T extends unknown ? Omit<T, 'id'> : never;

interface Waiter {
  resolve(reply: CodecReply): void;
  reject(error: Error): void;
}

/** Little of what a thread makes lives long, and none of it is large. */
const resourceLimits = { maxYoungGenerationSizeMb: 2 };

/** One thread, what it has been asked and not yet answered, and how many objects hash on it. */
class Seat {
  private readonly worker = new Worker(new URL('./codecWorker.js', import.meta.url), { resourceLimits });
  readonly waiting = new Map<number, Waiter>();
  objects = 0;
  private gone: Fault | null = null;
  private ending = false;
  private lastId = 0;

  constructor(onGone: (seat: Seat) => void) {
    let cause: unknown;
    this.worker.unref();
    this.worker.on('message', (reply: CodecReply) => this.settle(reply));
    this.worker.on('error', (error) => {
      cause = error;
    });
    this.worker.on('exit', () => {
      this.gone = new Fault('INTERNAL', 'A compression thread ended while it was needed', {
        hint: 'Try again: a new thread is started by itself. If it ends again, look at the service log.',
        cause,
      });
      onGone(this);
      for (const { reject } of this.waiting.values()) reject(this.gone);
      this.waiting.clear();
    });
  }

  ask(request: WithoutId<CodecRequest>): Promise<CodecReply> {
    if (this.gone) return Promise.reject(this.gone);
    return new Promise((resolve, reject) => {
      this.lastId += 1;
      const id = this.lastId;
      // An idle thread must not keep the process alive; one that owes an answer must.
      if (this.waiting.size === 0) this.worker.ref();
      this.waiting.set(id, { resolve, reject });
      this.worker.postMessage({ ...request, id }, buffersOf(request));
    });
  }

  async end(): Promise<void> {
    this.ending = true;
    await this.worker.terminate();
  }

  private settle(reply: CodecReply): void {
    const waiter = this.waiting.get(reply.id);
    this.waiting.delete(reply.id);
    // terminate() counts on a thread that keeps the process alive until it has ended.
    if (this.waiting.size === 0 && !this.ending) this.worker.unref();
    if (reply.error === null) waiter?.resolve(reply);
    else waiter?.reject(Object.assign(new Error(reply.error.message), reply.error));
  }
}

export class CodecPool {
  private readonly seats: Seat[] = [];
  private closed = false;
  private lastObject = 0;

  /** @param size how many threads, at least 1; each is started when there is work that the others are too busy for */
  constructor(readonly size: number) {
    if (!Number.isInteger(size) || size < 1) throw new RangeError(`not a number of threads: ${size}`);
  }

  /** encodeBlocks() on whichever thread is least busy. Takes `space` over. @throws Fault INTERNAL */
  async encode(space: Buffer<ArrayBuffer>, plainBytes: number): Promise<Buffer<ArrayBuffer>> {
    const seat = this.pick((one) => one.waiting.size);
    return bufferOf(await seat.ask({ op: 'encode', bytes: space, plainBytes }));
  }

  /** A hash is sequential, so an object stays on one thread: that with the fewest. @throws Fault INTERNAL */
  open(hashing: Hashing): ObjectCodec {
    const seat = this.pick((one) => one.objects);
    this.lastObject += 1;
    const object = this.lastObject;
    seat.objects += 1;
    let open = true;
    seat.ask({ op: 'open', object, hashing }).catch(() => {}); // a thread that is gone says so to whatever is asked next
    return {
      hash: async (bytes) => bufferOf(await seat.ask({ op: 'hash', object, bytes })),
      decode: async (blocks) => ((await seat.ask({ op: 'decode', object, blocks })).blocks ?? []).map(buffer),
      digests: async () => (await seat.ask({ op: 'digests', object })).digests ?? {},
      release: () => {
        if (!open) return;
        open = false;
        seat.objects -= 1;
        seat.ask({ op: 'release', object }).catch(() => {}); // a thread that is gone has nothing left to release
      },
    };
  }

  /**
   * Hands a whole object in a file to a sink, all of it on one thread. Null where there is no such file, or none that can
   * be opened.
   * @throws Fault STORAGE_UNAVAILABLE, INTERNAL; what the sink throws, as an Error with its `code`
   */
  async pourFile(file: string, object: StoredObject, sink: ThreadSink): Promise<Poured | null> {
    const seat = this.pick((one) => one.objects);
    seat.objects += 1;
    const { plainBytes, storedBytes, sha256, blake3 = null } = object;
    try {
      const proof: Proof = { plainBytes, storedBytes, sha256, blake3 };
      const { poured } = await seat.ask({ op: 'pourFile', file, object: proof, sink });
      return poured;
    } catch (error) {
      const { code, systemCode = null } = error as ThreadError;
      if (code !== 'STORED_BYTES_UNREADABLE') throw error;
      throw new Fault('STORAGE_UNAVAILABLE', `The stored object ${object.key} cannot be read`, {
        hint: 'Check the storage, then try again.',
        details: unreadable(object.key, systemCode),
        cause: error,
      });
    } finally {
      seat.objects -= 1;
    }
  }

  /** Ends the threads; what they still owed is rejected. */
  async close(): Promise<void> {
    this.closed = true;
    await Promise.all(this.seats.map((seat) => seat.end()));
  }

  private pick(load: (seat: Seat) => number): Seat {
    if (this.closed) throw new Fault('INTERNAL', 'The object pipeline is closed');
    const idlest = this.seats.toSorted((a, b) => load(a) - load(b) || a.waiting.size - b.waiting.size)[0];
    if (idlest && (load(idlest) === 0 || this.seats.length >= this.size)) return idlest;
    const fresh = new Seat((gone) => {
      this.seats.splice(this.seats.indexOf(gone), 1);
    });
    this.seats.push(fresh);
    return fresh;
  }
}

/** What moves to the thread instead of being copied. */
function buffersOf(request: WithoutId<CodecRequest>): ArrayBuffer[] {
  if ('bytes' in request) return [request.bytes.buffer];
  return 'blocks' in request ? request.blocks.map((block) => block.buffer) : [];
}

function bufferOf(reply: CodecReply): Buffer<ArrayBuffer> {
  return buffer(reply.bytes ?? new Uint8Array());
}

function buffer(bytes: Uint8Array<ArrayBuffer>): Buffer<ArrayBuffer> {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
