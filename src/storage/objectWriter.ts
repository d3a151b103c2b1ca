/**
 * The way in: plain bytes -> blocks -> LZ4 on any thread -> hashes on one -> storage. Each stage runs a few blocks
 * ahead of the next, so that they overlap and an object holds a few MiB at most. What comes as blocks goes the same way
 * from the hashes on.
 */
import { MAX_BLOCK_BYTES, wholeBlocks } from '../blocks/blockFormat.js';
import { Fault } from '../errors.js';
import type { StoredObject } from '../model.js';
import { abortable } from './abortable.js';
import { encodeBlocks, inlineCodec, type ObjectCodec, PLAIN_AT } from './blockCodec.js';
import { giveSpace, RUN_SPACE_BYTES, takeSpace } from './blockSpace.js';
import type { CodecPool } from './codecPool.js';
import { endMarker, objectHeader } from './objectFormat.js';
import type { Proof } from './objectHashes.js';
import { type Pending, pending, readAhead } from './readAhead.js';
import type { ObjectKey, Storage } from './storage.js';

/**
 * Objects up to this many plain bytes, or bytes of blocks, are done on the main thread: they hold it for a fraction of a millisecond, and the
 * way to another thread and back doubles what such a write takes (0.6 instead of 0.3 ms; bench/pipeline.ts).
 */
export const SMALL_BYTES = 64 * 1024;

/** Hashed blocks waiting for the storage. */
const HASHED_AHEAD = 2;

/** Plain bytes after room for block headers, in a buffer that can be handed to a thread. */
interface PlainRun {
  space: Buffer<ArrayBuffer>;
  plainBytes: number;
}

/** Where the bytes of an object come from: plain ones, or whole blocks in each chunk. */
export type ObjectSource = { plain: AsyncIterable<Uint8Array> } | { blocks: AsyncIterable<Uint8Array> };

/** @throws Fault of the storage, the source's own error, the signal's reason; nothing is stored then */
export async function writeObject(
  storage: Storage,
  codecs: CodecPool,
  key: ObjectKey,
  source: ObjectSource,
  signal: AbortSignal | undefined,
): Promise<StoredObject> {
  signal?.throwIfAborted();
  const written: Proof = { plainBytes: 0, storedBytes: 0, sha256: '', blake3: '' };

  async function* counted(): AsyncGenerator<Buffer, void, undefined> {
    const stored =
      'plain' in source
        ? packedHere(codecs, runs(abortable(source.plain, signal)), written)
        : packedElsewhere(codecs, copies(abortable(source.blocks, signal), written), written);
    for await (const bytes of stored) {
      written.storedBytes += bytes.length;
      yield bytes;
    }
  }

  const info = await storage.put(key, counted(), signal);
  if (written.sha256 === '' || written.blake3 === '' || info.bytes !== written.storedBytes) {
    await storage.remove(key);
    throw new Fault('STORAGE_UNAVAILABLE', `The storage kept ${info.bytes} of ${written.storedBytes} bytes of ${key}`, {
      hint: 'Check the storage, then try again.',
    });
  }
  return { key, ...written };
}

/** An object of plain bytes as it is stored; fills in all of `written` but storedBytes. */
async function* packedHere(
  codecs: CodecPool,
  plain: AsyncGenerator<PlainRun, void, undefined>,
  written: Proof,
): AsyncGenerator<Buffer, void, undefined> {
  let codec: ObjectCodec | null = null;
  try {
    const first = await plain.next();
    if (first.done || first.value.plainBytes <= SMALL_BYTES) {
      // A run that is not full is the last one.
      codec = inlineCodec('both');
      const parts: Buffer[] = [objectHeader()];
      let spent: Buffer | null = null;
      if (!first.done) {
        written.plainBytes = first.value.plainBytes;
        parts.push(encodeBlocks(first.value.space, first.value.plainBytes));
        spent = first.value.space;
      }
      parts.push(endMarker(written.plainBytes));
      const whole = Buffer.concat(parts) as Buffer<ArrayBuffer>;
      if (spent) giveSpace(spent);
      yield await codec.hash(whole);
    } else {
      codec = codecs.open('both');
      const encoded = readAhead(encodedBlocks(codecs, first.value, plain, written), codecs.size + 1);
      yield* framed(codec, hashedBlocks(codec, encoded), written);
    }
    Object.assign(written, await codec.digests());
  } finally {
    codec?.release();
    await plain.return();
  }
}

/** The same of blocks, whose plain bytes are counted in `written` where they are copied. */
async function* packedElsewhere(
  codecs: CodecPool,
  blocks: AsyncGenerator<Buffer<ArrayBuffer>, void, undefined>,
  written: Proof,
): AsyncGenerator<Buffer, void, undefined> {
  let codec: ObjectCodec | null = null;
  try {
    const first = await blocks.next();
    const second = first.done ? first : await blocks.next();
    const ahead = [first, second].flatMap((step) => (step.done ? [] : [step.value]));
    if (second.done && (ahead[0]?.length ?? 0) <= SMALL_BYTES) {
      codec = inlineCodec('both');
      const whole = Buffer.concat([objectHeader(), ...ahead, endMarker(written.plainBytes)]) as Buffer<ArrayBuffer>;
      for (const bytes of ahead) giveSpace(bytes);
      yield await codec.hash(whole);
    } else {
      codec = codecs.open('both');
      yield* framed(codec, hashedInTurn(codec, ahead, blocks), written);
    }
    Object.assign(written, await codec.digests());
  } finally {
    codec?.release();
    await blocks.return();
  }
}

/** Hashed blocks between a header and an end mark, a few of them ahead of the storage; their buffers are given back. */
async function* framed(
  codec: ObjectCodec,
  hashed: AsyncIterable<Pending<Buffer>>,
  written: { plainBytes: number },
): AsyncGenerator<Buffer, void, undefined> {
  yield await codec.hash(objectHeader());
  for await (const block of readAhead(hashed, HASHED_AHEAD)) {
    const bytes = await block.answer;
    yield bytes;
    giveSpace(bytes);
  }
  yield await codec.hash(endMarker(written.plainBytes));
}

/** In buffers that can be handed to a thread. */
async function* copies(
  blocks: AsyncIterable<Uint8Array>,
  written: Proof,
): AsyncGenerator<Buffer<ArrayBuffer>, void, undefined> {
  for await (const chunk of blocks) {
    const own = takeSpace(chunk.length);
    own.set(chunk);
    for (const { header } of wholeBlocks(own)) written.plainBytes += header.plainBytes;
    yield own;
  }
}

async function* hashedInTurn(
  codec: ObjectCodec,
  first: readonly Buffer<ArrayBuffer>[],
  rest: AsyncIterable<Buffer<ArrayBuffer>>,
): AsyncGenerator<Pending<Buffer>, void, undefined> {
  for (const bytes of first) yield pending(codec.hash(bytes));
  for await (const bytes of rest) yield pending(codec.hash(bytes));
}

/** Cuts a stream into full runs and a last one that may be shorter. */
async function* runs(plain: AsyncIterable<Uint8Array>): AsyncGenerator<PlainRun, void, undefined> {
  let space: Buffer<ArrayBuffer> | null = null;
  let filled = 0;
  for await (const chunk of plain) {
    for (let taken = 0; taken < chunk.length; ) {
      space ??= takeSpace(RUN_SPACE_BYTES);
      const fitting = chunk.subarray(taken, taken + MAX_BLOCK_BYTES - filled);
      space.set(fitting, PLAIN_AT + filled);
      taken += fitting.length;
      filled += fitting.length;
      if (filled < MAX_BLOCK_BYTES) continue;
      yield { space, plainBytes: filled };
      space = null;
      filled = 0;
    }
  }
  if (space) yield { space, plainBytes: filled };
}

/** Several blocks are compressed at once; they come out in order. */
async function* encodedBlocks(
  codecs: CodecPool,
  first: PlainRun,
  rest: AsyncIterable<PlainRun>,
  written: { plainBytes: number },
): AsyncGenerator<Pending<Buffer<ArrayBuffer>>, void, undefined> {
  const start = ({ space, plainBytes }: PlainRun) => {
    written.plainBytes += plainBytes;
    return pending(codecs.encode(space, plainBytes));
  };
  yield start(first);
  for await (const block of rest) yield start(block);
}

async function* hashedBlocks(
  codec: ObjectCodec,
  encoded: AsyncIterable<Pending<Buffer<ArrayBuffer>>>,
): AsyncGenerator<Pending<Buffer>, void, undefined> {
  for await (const block of encoded) yield pending(codec.hash(await block.answer));
}
