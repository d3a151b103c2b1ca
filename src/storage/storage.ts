/**
 * Where backup bytes and log live. A Storage keeps named immutable objects and knows nothing of what they mean:
 * compression, hashes and versions are the pipeline's (pipeline.ts). Every implementation passes
 * test/conformance/storage.
 */
import type { Readable } from 'node:stream';

/**
 * A name like `instances/<id>/log/<stretch>/<ordinal>`: segments of [A-Za-z0-9._-] joined by '/', none of them empty,
 * '.' or '..'; at most 512 characters.
 */
export type ObjectKey = string;

export interface ObjectInfo {
  key: ObjectKey;
  /** Size as stored. */
  bytes: number;
}

/** An object's bytes: a stream like any other, which may have a way around its buffers. */
export interface ObjectStream extends Readable {
  /** The same bytes, used instead of the stream: a piece is valid until the next one is asked for. Ends with the stream. */
  pieces?(): AsyncIterator<Uint8Array>;
}

export interface Storage {
  /** Shown to users as a backup's location; without credentials. For example `file:///var/lib/pitr/storage`. */
  readonly uri: string;

  /**
   * Stores an object: whole and durable when this resolves, absent when it rejects, never half. An existing object of
   * the same name is replaced whole. Reads of it running meanwhile see the old or the new one, never a mixture.
   * A chunk of `body` is used before the next one is asked for, and not kept.
   * @throws Fault STORAGE_FULL, STORAGE_UNAVAILABLE, INVALID_ARGUMENT (key)
   */
  put(key: ObjectKey, body: AsyncIterable<Uint8Array>, signal?: AbortSignal): Promise<ObjectInfo>;

  /**
   * Opens an object for reading. Resolves once it is known to exist; null where there is no such object. A fault while
   * the bytes flow is the stream's error, as a Fault.
   * @throws Fault STORAGE_UNAVAILABLE, with details { object, problem: 'unreadable' } where it may be that just this
   *   object cannot be read; INVALID_ARGUMENT (key)
   */
  get(key: ObjectKey, signal?: AbortSignal): Promise<ObjectStream | null>;

  /**
   * Where objects are files of this machine: the one that is or would be this object's, for whoever opens it on a thread
   * of its own. @throws Fault INVALID_ARGUMENT (key)
   */
  fileOf?(key: ObjectKey): string;

  /** Size of an object, or null where there is none. @throws Fault STORAGE_UNAVAILABLE, INVALID_ARGUMENT */
  stat(key: ObjectKey): Promise<ObjectInfo | null>;

  /** Removes an object; one that is not there counts as removed. @throws Fault STORAGE_UNAVAILABLE, INVALID_ARGUMENT */
  remove(key: ObjectKey): Promise<void>;

  /** Every complete object whose key starts with `prefix` followed by '/', in no particular order. */
  list(prefix: ObjectKey): AsyncIterable<ObjectInfo>;

  /** Removes what interrupted puts left behind. Called once when the service starts. */
  sweep(): Promise<void>;
}
