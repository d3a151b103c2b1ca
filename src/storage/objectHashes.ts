/**
 * The hashes of an object's stored bytes. What is written gets both: SHA-256 for whoever checks with other tools, BLAKE3
 * (https://github.com/BLAKE3-team/BLAKE3-specs) for us, which a processor makes up to five times as fast. What is read back
 * is proved by BLAKE3; by SHA-256 where that is all that is known.
 */
import { createHash, type Hash } from 'node:crypto';
import { Blake3Hasher } from '@napi-rs/blake-hash';
import type { StoredObject } from '../model.js';

/** Which hashes are made of an object. */
export type Hashing = 'both' | 'blake3' | 'sha256';

/** In lower-case hex, those that were made. */
export type Digests = Partial<Record<Exclude<Hashing, 'both'>, string>>;

/** What an object's stored bytes have to be. */
export type Proof = Pick<StoredObject, 'plainBytes' | 'storedBytes' | 'sha256' | 'blake3'>;

/** What proves an object that is read. */
export function hashingOf({ blake3 }: Proof): Hashing {
  return blake3 ? 'blake3' : 'sha256';
}

/** Whether everything that was made of the stored bytes is what was recorded of them. */
export function sameBytes({ sha256, blake3 }: Proof, made: Digests): boolean {
  if (made.sha256 === undefined && made.blake3 === undefined) return false;
  return (made.sha256 ?? sha256) === sha256 && (made.blake3 ?? blake3) === blake3;
}

export class ObjectHashes {
  private readonly sha256: Hash | null;
  private readonly blake3: Blake3Hasher | null;

  constructor(hashing: Hashing) {
    this.sha256 = hashing === 'blake3' ? null : createHash('sha256');
    this.blake3 = hashing === 'sha256' ? null : new Blake3Hasher();
  }

  update(bytes: Buffer): void {
    this.sha256?.update(bytes);
    this.blake3?.update(bytes);
  }

  /** The last call. */
  digests(): Digests {
    return {
      ...(this.sha256 && { sha256: this.sha256.digest('hex') }),
      ...(this.blake3 && { blake3: this.blake3.digest('hex') }),
    };
  }
}
