/** A worker thread of the codec pool: does what it is asked in the order asked, and gives every buffer back. */
import { createHash, type Hash } from 'node:crypto';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { parentPort } from 'node:worker_threads';
import type { SinkInThread, ThreadSink } from '../model.js';
import { decodeBlock, encodeBlock, openSink, pourBlock } from './blockCodec.js';

/** `object` tells apart the objects that share this thread; the answer carries the request's `id`. */
export type CodecRequest =
  | { id: number; op: 'encode'; bytes: Uint8Array<ArrayBuffer>; plainBytes: number }
  | { id: number; op: 'hash' | 'decode' | 'pour'; object: number; bytes: Uint8Array<ArrayBuffer> }
  | { id: number; op: 'attach'; object: number; sink: ThreadSink }
  | { id: number; op: 'digest' | 'release'; object: number };

export interface CodecReply {
  id: number;
  bytes: Uint8Array<ArrayBuffer> | null;
  text: string | null;
  /** Plain bytes that a sink took; null where there were none to be had. */
  poured: number | null;
  error: { message: string; code: string | undefined } | null;
}

/**
 * LZ4 leaves a megabyte behind for every block, outside V8's heap where V8 does not count it: left to itself it collects
 * them after hundreds. One collection of the youngest takes a fraction of a millisecond in a thread this small.
 */
const BLOCKS_PER_COLLECTION = 8;
setFlagsFromString('--expose-gc');
const collect: (options: { type: 'minor' }) => void = runInNewContext('gc');
let blocks = 0;

const hashes = new Map<number, Hash>();
const sinks = new Map<number, SinkInThread>();

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

async function attach(object: number, to: ThreadSink): Promise<Partial<CodecReply>> {
  sinks.set(object, await openSink(to));
  return {};
}

function answer(request: Exclude<CodecRequest, { op: 'attach' }>): Partial<CodecReply> {
  switch (request.op) {
    case 'encode':
      return { bytes: encodeBlock(buffer(request.bytes), request.plainBytes) };
    case 'hash':
      hashOf(request.object).update(request.bytes);
      return { bytes: request.bytes };
    case 'decode':
      hashOf(request.object).update(request.bytes);
      return { bytes: decodeBlock(buffer(request.bytes)) };
    case 'pour': {
      hashOf(request.object).update(request.bytes);
      const sink = sinks.get(request.object);
      return { poured: sink ? pourBlock(buffer(request.bytes), sink) : null, bytes: request.bytes };
    }
    case 'digest':
      sinks.get(request.object)?.end();
      return { text: hashOf(request.object).digest('hex') };
    case 'release':
      hashes.delete(request.object);
      sinks.get(request.object)?.close();
      sinks.delete(request.object);
      return {};
  }
}

/** Requests are answered in the order in which they come; only opening a sink takes longer, and its asker waits. */
parentPort?.on('message', async (request: CodecRequest) => {
  const reply: CodecReply = { id: request.id, bytes: null, text: null, poured: null, error: null };
  try {
    Object.assign(reply, request.op === 'attach' ? await attach(request.object, request.sink) : answer(request));
  } catch (error) {
    const { message, code } = error as NodeJS.ErrnoException;
    reply.error = { message: message ?? String(error), code };
  }
  parentPort?.postMessage(reply, reply.bytes ? [reply.bytes.buffer] : []);
  if (request.op !== 'encode' && request.op !== 'decode' && request.op !== 'pour') return;
  blocks += 1;
  if (blocks % BLOCKS_PER_COLLECTION === 0) collect({ type: 'minor' });
});
