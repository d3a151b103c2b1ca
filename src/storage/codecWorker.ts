/** A worker thread of the codec pool: does what it is asked in the order asked, and gives every buffer back. */
import { createHash, type Hash } from 'node:crypto';
import { setImmediate as yieldToOthers } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { parentPort } from 'node:worker_threads';
import type { StoredObject, ThreadSink } from '../model.js';
import { countOfLz4Results, decodeBlock, encodeBlock } from './blockCodec.js';
import { type Poured, pourInto } from './pouring.js';
import { FileBytes, noFindings } from './provedBlocks.js';

/** `object` tells apart the objects that share this thread; the answer carries the request's `id`. */
export type CodecRequest =
  | { id: number; op: 'encode'; bytes: Uint8Array<ArrayBuffer>; plainBytes: number }
  | { id: number; op: 'hash' | 'decode'; object: number; bytes: Uint8Array<ArrayBuffer> }
  | { id: number; op: 'pourFile'; descriptor: number; object: FileToPour; sink: ThreadSink }
  | { id: number; op: 'digest' | 'release'; object: number };

export type FileToPour = Pick<StoredObject, 'plainBytes' | 'storedBytes' | 'sha256'>;

export interface CodecReply {
  id: number;
  bytes: Uint8Array<ArrayBuffer> | null;
  text: string | null;
  /** What became of a poured file. */
  poured: Poured | null;
  /** With what tells a system error from others. */
  error: { message: string; code?: string | undefined; syscall?: string | undefined } | null;
}

/**
 * LZ4 leaves a megabyte behind for every block, outside V8's heap where V8 does not count it: left to itself it collects
 * them after hundreds. One collection of the youngest takes a fraction of a millisecond in a thread this small.
 */
const RESULTS_PER_COLLECTION = 8;
setFlagsFromString('--expose-gc');
const collect: (options: { type: 'minor' }) => void = runInNewContext('gc');
let collectAt = RESULTS_PER_COLLECTION;

/**
 * glibc's malloc gives large buffers back to the system as they are freed, and each new one then costs a page fault for
 * every 4 KiB: several times what decoding it does. Once it has freed a larger one it keeps what is up to that size and
 * up to twice as much in all (mallopt(3), M_MMAP_THRESHOLD, on the dynamic threshold). Other allocators just allocate.
 */
const KEPT_BY_MALLOC_BYTES = 12 * 1024 * 1024;
function keepFreedBuffers(): void {
  Buffer.allocUnsafeSlow(KEPT_BY_MALLOC_BYTES);
}
keepFreedBuffers();
collect({ type: 'minor' });

const hashes = new Map<number, Hash>();

function hashOf(object: number): Hash {
  const known = hashes.get(object);
  if (known) return known;
  const made = createHash('sha256');
  hashes.set(object, made);
  return made;
}

function buffer(bytes: Uint8Array<ArrayBuffer>): Buffer<ArrayBuffer> {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Reads, proves and pours a whole object, a block at a time; between two of them others have their turn. */
async function pourFile(request: Extract<CodecRequest, { op: 'pourFile' }>): Promise<Poured> {
  const { descriptor, object, sink } = request;
  const findings = noFindings();
  const source = new FileBytes(descriptor, object.storedBytes, findings);
  try {
    return await pourInto(sink, object, source, findings, () => {
      collectNowAndThen();
      return yieldToOthers();
    });
  } finally {
    source.close();
  }
}

function collectNowAndThen(): void {
  if (countOfLz4Results() < collectAt) return;
  collectAt = countOfLz4Results() + RESULTS_PER_COLLECTION;
  collect({ type: 'minor' });
}

type Synchronous = Exclude<CodecRequest, { op: 'pourFile' }>;

function answer(request: Synchronous): Partial<CodecReply> {
  switch (request.op) {
    case 'encode':
      return { bytes: encodeBlock(buffer(request.bytes), request.plainBytes) };
    case 'hash':
      hashOf(request.object).update(request.bytes);
      return { bytes: request.bytes };
    case 'decode':
      hashOf(request.object).update(request.bytes);
      return { bytes: decodeBlock(buffer(request.bytes)) };
    case 'digest':
      return { text: hashOf(request.object).digest('hex') };
    case 'release':
      hashes.delete(request.object);
      return {};
  }
}

/** Answers come in the order of the requests, but for whole files, which take longer. */
parentPort?.on('message', async (request: CodecRequest) => {
  const reply: CodecReply = { id: request.id, bytes: null, text: null, poured: null, error: null };
  try {
    if (request.op === 'pourFile') reply.poured = await pourFile(request);
    else Object.assign(reply, answer(request));
  } catch (error) {
    const { message, code, syscall } = error as NodeJS.ErrnoException;
    reply.error = { message: message ?? String(error), ...(code && { code }), ...(syscall && { syscall }) };
  }
  parentPort?.postMessage(reply, reply.bytes ? [reply.bytes.buffer] : []);
  collectNowAndThen();
});
