/**
 * Stored objects as the rest of the service sees them: plain bytes in, plain bytes out, compressed and provably whole
 * in between. The format is objectFormat.ts's, the way in objectWriter.ts's, the way out objectReader.ts's.
 */
import { setMaxListeners } from 'node:events';
import { availableParallelism } from 'node:os';
import type { StoredObject, ThreadSink } from '../model.js';
import { CodecPool } from './codecPool.js';
import { type DamageCode, pourObject, readObject } from './objectReader.js';
import { type ObjectSource, writeObject } from './objectWriter.js';
import { writeInParts } from './partWriter.js';
import type { ObjectKey, Storage } from './storage.js';

const MAX_DEFAULT_WORKERS = 4;
const DEFAULT_PART_BYTES = 64 * 1024 * 1024;

export class ObjectPipeline {
  private readonly codecs: CodecPool;

  /**
   * @param options.workers threads for compression and hashes; by default one per core, at most 4
   * @param options.onStored told of each object that is whole in storage
   */
  constructor(
    private readonly storage: Storage,
    private readonly options: { workers?: number; onStored?(object: StoredObject): void } = {},
  ) {
    this.codecs = new CodecPool(options.workers ?? Math.min(availableParallelism(), MAX_DEFAULT_WORKERS));
  }

  /**
   * Stores one object; whole and durable when this resolves, absent when it rejects.
   * @throws Fault STORAGE_FULL, STORAGE_UNAVAILABLE, INVALID_ARGUMENT (key); the source's own error; the signal's reason
   */
  write(key: ObjectKey, plain: AsyncIterable<Uint8Array>, signal?: AbortSignal): Promise<StoredObject> {
    return this.writeFrom({ plain }, key, signal);
  }

  /**
   * As write(), of bytes that were made blocks where they come from (blocks/packing.ts): whole ones in each chunk.
   * @throws as write() does
   */
  writeBlocks(key: ObjectKey, blocks: AsyncIterable<Uint8Array>, signal?: AbortSignal): Promise<StoredObject> {
    return this.writeFrom({ blocks }, key, signal);
  }

  /**
   * Stores a stream as objects `<prefix>/00000000`, `<prefix>/00000001`, … of at most partBytes plain bytes (64 MiB
   * unless told), in order; none where the stream is empty. When it rejects, the parts already stored are removed again,
   * as far as the storage can still be reached. Nobody else may use the prefix.
   * @throws as write() does
   */
  writeParts(
    prefix: ObjectKey,
    plain: AsyncIterable<Uint8Array>,
    options: { partBytes?: number; signal?: AbortSignal } = {},
  ): Promise<StoredObject[]> {
    return writeInParts(
      (key, part, signal) => this.write(key, part, signal),
      (key) => this.storage.remove(key),
      prefix,
      plain,
      options.partBytes ?? DEFAULT_PART_BYTES,
      options.signal,
    );
  }

  /**
   * An object's plain bytes. Only when the iteration has ended without an error were they all of them and the right
   * ones: use nothing of it before. Stopping early lets go of the file and the thread.
   * With `reuse` a chunk is valid only until the next one is asked for, which saves much of the cost of long objects;
   * without it a chunk is the caller's.
   * @throws Fault of code `damage` with details { object, problem } (see Damage) where the stored object is not what was
   *   stored; VERSION_MISMATCH where a later release wrote it; STORAGE_UNAVAILABLE as Storage.get; the signal's reason
   */
  read(
    object: StoredObject,
    damage: DamageCode,
    signal?: AbortSignal,
    { reuse = false }: { reuse?: boolean } = {},
  ): AsyncIterable<Buffer> {
    allowMany(signal);
    return readObject(this.storage, this.codecs, object, damage, { signal, reuse });
  }

  /**
   * Hands an object's plain bytes, in order, to a sink that runs on the thread that decodes them. Only when this has
   * resolved were they all of them and the right ones: use nothing of what the sink made of them before. Resolves with what the
   * sink answered to its end.
   * @param options.passed told of plain bytes when the sink has taken them
   * @throws as read() does; what the sink throws, as an Error with its `code`
   */
  async pour(
    object: StoredObject,
    damage: DamageCode,
    sink: ThreadSink,
    options: { signal?: AbortSignal; passed?: (plainBytes: number) => void } = {},
  ): Promise<unknown> {
    const { signal, passed = () => {} } = options;
    allowMany(signal);
    return pourObject(this.storage, this.codecs, object, damage, sink, { signal, passed });
  }

  private async writeFrom(source: ObjectSource, key: ObjectKey, signal?: AbortSignal): Promise<StoredObject> {
    allowMany(signal);
    const object = await writeObject(this.storage, this.codecs, key, source, signal);
    this.options.onStored?.(object);
    return object;
  }

  /** Ends the threads. What is still being written or read fails. */
  close(): Promise<void> {
    return this.codecs.close();
  }
}

/** One signal may end any number of objects; Node would take that for a leak and warn. */
function allowMany(signal: AbortSignal | undefined): void {
  if (signal) setMaxListeners(0, signal);
}
