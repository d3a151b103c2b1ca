/** A worker thread of the codec pool: does what it is asked in the order asked, and gives every buffer back. */
import { closeSync, fstatSync, openSync } from 'node:fs';
import { setImmediate as yieldToOthers } from 'node:timers/promises';
import { getHeapStatistics } from 'node:v8';
import { parentPort } from 'node:worker_threads';
import { collect } from '../collector.js';
import type { ThreadSink } from '../model.js';
import { encodeBlocks, hashAndDecode } from './blockCodec.js';
import { type Digests, type Hashing, ObjectHashes, type Proof } from './objectHashes.js';
import { type Poured, pourInto } from './pouring.js';
import { FileBytes, noFindings } from './provedBlocks.js';

/** `object` tells apart the objects that share this thread; the answer carries the request's `id`. */
export type CodecRequest =
  | { id: number; op: 'encode'; bytes: Uint8Array<ArrayBuffer>; plainBytes: number }
  | { id: number; op: 'open'; object: number; hashing: Hashing }
  | { id: number; op: 'hash'; object: number; bytes: Uint8Array<ArrayBuffer> }
  | { id: number; op: 'decode'; object: number; blocks: Uint8Array<ArrayBuffer>[] }
  | { id: number; op: 'pourFile'; file: string; object: Proof; sink: ThreadSink }
  | { id: number; op: 'digests' | 'release'; object: number };

export interface CodecReply {
  id: number;
  bytes: Uint8Array<ArrayBuffer> | null;
  /** Decoded ones. */
  blocks: Uint8Array<ArrayBuffer>[] | null;
  digests: Digests | null;
  /** What became of a poured file; null where there was none to open. */
  poured: Poured | null;
  /** With what tells a system error from others. */
  error: ThreadError | null;
}

export interface ThreadError {
  message: string;
  code?: string | undefined;
  syscall?: string | undefined;
  /** Of StoredBytesUnreadable. */
  systemCode?: string | undefined;
}

const hashes = new Map<number, ObjectHashes>();

function hashesOf(object: number): ObjectHashes {
  const known = hashes.get(object);
  if (!known) throw new Error(`object ${object} is not open on this thread`);
  return known;
}

function buffer(bytes: Uint8Array<ArrayBuffer>): Buffer<ArrayBuffer> {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Others have their turn whenever so much was poured. */
const POURED_PER_TURN = 1024 * 1024;

/** Reads, proves and pours a whole object; null where there is no file to open. */
async function pourFile(request: Extract<CodecRequest, { op: 'pourFile' }>): Promise<Poured | null> {
  const { file, object, sink } = request;
  const descriptor = openedFile(file);
  if (descriptor === null) return null;
  const findings = noFindings();
  const source = new FileBytes(descriptor, object.storedBytes, findings);
  let inTurn = 0;
  try {
    return await pourInto(sink, object, source, findings, (plainBytes) => {
      inTurn += plainBytes;
      if (inTurn < POURED_PER_TURN) return;
      inTurn = 0;
      return yieldToOthers();
    });
  } finally {
    source.close();
    closeSync(descriptor);
    collectTheOld();
  }
}

/** Whoever asked finds out why there is none: what is not there may be missing, or its disk. */
function openedFile(file: string): number | null {
  try {
    const descriptor = openSync(file, 'r');
    if (fstatSync(descriptor).isFile()) return descriptor;
    closeSync(descriptor);
  } catch {}
  return null;
}

/** What sinks leave behind grows old under so many collections of the youngest, and V8 lets dozens of megabytes of it lie. */
const OLD_GARBAGE_BYTES = 8 * 1024 * 1024;
let collectOldAt = held() + OLD_GARBAGE_BYTES;

function collectTheOld(): void {
  if (held() < collectOldAt) return;
  // What the first finds unreachable holds on to more until its finalizers have run.
  collect({ type: 'major' });
  collect({ type: 'major' });
  collectOldAt = held() + OLD_GARBAGE_BYTES;
}

function held(): number {
  const { used_heap_size, external_memory } = getHeapStatistics();
  return used_heap_size + external_memory;
}

type Synchronous = Exclude<CodecRequest, { op: 'pourFile' }>;

function answer(request: Synchronous): Partial<CodecReply> {
  switch (request.op) {
    case 'encode':
      return { bytes: encodeBlocks(buffer(request.bytes), request.plainBytes) };
    case 'open':
      hashes.set(request.object, new ObjectHashes(request.hashing));
      return {};
    case 'hash':
      hashesOf(request.object).update(buffer(request.bytes));
      return { bytes: request.bytes };
    case 'decode':
      return { blocks: hashAndDecode(hashesOf(request.object), request.blocks.map(buffer)) };
    case 'digests':
      return { digests: hashesOf(request.object).digests() };
    case 'release':
      hashes.delete(request.object);
      return {};
  }
}

/** Answers come in the order of the requests, but for whole files, which take longer. */
parentPort?.on('message', async (request: CodecRequest) => {
  const reply: CodecReply = { id: request.id, bytes: null, blocks: null, digests: null, poured: null, error: null };
  try {
    if (request.op === 'pourFile') reply.poured = await pourFile(request);
    else Object.assign(reply, answer(request));
  } catch (error) {
    const { message, code, syscall, systemCode } = error as ThreadError;
    const facts = { ...(code && { code }), ...(syscall && { syscall }), ...(systemCode && { systemCode }) };
    reply.error = { message: message ?? String(error), ...facts };
  }
  parentPort?.postMessage(
    reply,
    (reply.blocks ?? [reply.bytes]).flatMap((bytes) => (bytes ? [bytes.buffer] : [])),
  );
});
