/**
 * The way out: storage -> SHA-256 and LZ4 on one thread -> plain bytes. Every stored byte is hashed, also those after a
 * defect, so that the verdict names what really is wrong; no read ends well unless everything about it was right.
 */
import { once } from 'node:events';
import { Fault } from '../errors.js';
import type { StoredObject, ThreadSink } from '../model.js';
import { inlineCodec, type ObjectCodec } from './blockCodec.js';
import { giveSpace, takeSpace } from './blockSpace.js';
import type { CodecPool } from './codecPool.js';
import {
  BLOCK_HEADER_BYTES,
  blockHeader,
  END_BYTES,
  endMarkerTotal,
  type FormatProblem,
  HEADER_BYTES,
  headerProblem,
} from './objectFormat.js';
import { SMALL_BYTES } from './objectWriter.js';
import { type Pending, pending, readAhead } from './readAhead.js';
import type { ObjectStream, Storage } from './storage.js';

/** Blocks of at most 1 MiB that are hashed and decoded before the consumer asks for them. */
const BLOCKS_AHEAD = 4;

/** What follows a defect is hashed in pieces of this size. */
const REST_BYTES = 256 * 1024;

export type DamageCode = 'BACKUP_CORRUPT' | 'LOG_CORRUPT';

/**
 * What is wrong with a stored object, in the order in which it is looked for: not there; fewer or more bytes than were
 * stored; as many but others; the bytes that were stored, but nothing that this service wrote; another plain length.
 */
export type Damage = 'missing' | 'truncated' | 'extended' | 'checksum' | 'format' | 'length';

/** What was learned on the way through the stored bytes. */
interface Findings {
  storedBytes: number;
  extended: boolean;
  plainBytes: number;
  problem: FormatProblem | null;
}

/** Streams an object's plain bytes; see ObjectPipeline.read. */
export async function* readObject(
  storage: Storage,
  codecs: CodecPool,
  object: StoredObject,
  damage: DamageCode,
  options: { signal: AbortSignal | undefined; reuse: boolean },
): AsyncGenerator<Buffer, void, undefined> {
  const work = async (codec: ObjectCodec) => (block: Buffer<ArrayBuffer>) => codec.decode(block);
  for await (const plain of provedBlocks(storage, codecs, object, damage, options.signal, work)) {
    yield plain;
    if (options.reuse) giveSpace(plain);
  }
}

/** Hands an object's plain bytes to a sink beside the codec; see ObjectPipeline.pour. */
export async function pourObject(
  storage: Storage,
  codecs: CodecPool,
  object: StoredObject,
  damage: DamageCode,
  sink: ThreadSink,
  options: { signal: AbortSignal | undefined; passed: ((plainBytes: number) => void) | undefined },
): Promise<void> {
  const work = async (codec: ObjectCodec) => {
    await codec.attach(sink);
    return (block: Buffer<ArrayBuffer>) => codec.pour(block);
  };
  for await (const plainBytes of provedBlocks(storage, codecs, object, damage, options.signal, work)) {
    options.passed?.(plainBytes);
  }
}

/** What `work` answers for each block, in order; it is told of no more blocks once there was a defect. */
async function* provedBlocks<T extends number | Buffer>(
  storage: Storage,
  codecs: CodecPool,
  object: StoredObject,
  damage: DamageCode,
  signal: AbortSignal | undefined,
  work: (codec: ObjectCodec) => Promise<(block: Buffer<ArrayBuffer>) => Promise<T | null>>,
): AsyncGenerator<T, void, undefined> {
  signal?.throwIfAborted();
  const stream = await storage.get(object.key, signal);
  if (!stream) throw damaged(object, damage, 'missing');
  stream.on('error', () => {}); // the iteration reports it; one that comes after its end has nobody else to catch it
  const findings: Findings = { storedBytes: 0, extended: false, plainBytes: 0, problem: null };
  let codec: ObjectCodec | null = null;
  try {
    codec = Math.max(object.plainBytes, object.storedBytes) <= SMALL_BYTES ? inlineCodec() : codecs.open();
    const source = new StoredBytes(stream, object.storedBytes, findings);
    const steps = decodedBlocks(source, codec, await work(codec), findings);
    for await (const { answer } of readAhead(steps, BLOCKS_AHEAD, () => stream.destroy())) {
      const done = await answer;
      if (done !== null && !findings.problem) yield done;
    }
    const verdict = judge(object, findings, await codec.digest());
    if (verdict === 'version') throw unknownVersion(object);
    if (verdict) throw damaged(object, damage, verdict);
  } catch (error) {
    throw signal?.aborted ? signal.reason : error;
  } finally {
    codec?.release();
    stream.destroy();
    if (!stream.closed) await once(stream, 'close').catch(() => {}); // what failed has been said already
  }
}

/** Answers for all stored bytes in order: what became of a block, or null where there was none. */
async function* decodedBlocks<T>(
  source: StoredBytes,
  codec: ObjectCodec,
  work: (block: Buffer<ArrayBuffer>) => Promise<T | null>,
  findings: Findings,
): AsyncGenerator<Pending<T | null>, void, undefined> {
  const hash = (bytes: Buffer<ArrayBuffer>) => pending(codec.hash(bytes).then(() => null));
  const decode = async (block: Buffer<ArrayBuffer>) => {
    const done = await work(block);
    if (done === null) findings.problem ??= 'format';
    return done;
  };

  const header = await source.take(HEADER_BYTES);
  findings.problem = headerProblem(header);
  yield hash(header);
  let ended = false;
  while (!findings.problem && !ended) {
    const start = await source.take(BLOCK_HEADER_BYTES);
    const found = blockHeader(start);
    if (found === null) findings.problem ??= 'format';
    const payloadBytes = found === null ? 0 : found === 'end' ? END_BYTES - BLOCK_HEADER_BYTES : found.payloadBytes;
    const whole = await source.take(payloadBytes, start);
    if (found !== null && found !== 'end' && whole.length === BLOCK_HEADER_BYTES + payloadBytes) {
      findings.plainBytes += found.plainBytes;
      yield pending(decode(whole));
    } else {
      ended = found === 'end' && endMarkerTotal(whole) === findings.plainBytes;
      if (!ended) findings.problem ??= 'format';
      yield hash(whole);
    }
  }
  for (;;) {
    const rest = await source.take(REST_BYTES);
    if (rest.length === 0) return;
    findings.problem ??= 'format';
    yield hash(rest);
  }
}

/** Takes exact pieces from a stream, never more than `limit` bytes in all; notes how many there were. */
class StoredBytes {
  private readonly chunks: AsyncIterator<Uint8Array>;
  private chunk: Uint8Array = new Uint8Array();
  private ended = false;

  constructor(
    stream: ObjectStream,
    private readonly limit: number,
    private readonly findings: Findings,
  ) {
    this.chunks = stream.pieces?.() ?? stream[Symbol.asyncIterator]();
  }

  /** `start` and up to `size` bytes more, fewer at the end of the object, in a buffer of their own. */
  async take(size: number, start: Buffer = Buffer.alloc(0)): Promise<Buffer<ArrayBuffer>> {
    const taken = takeSpace(start.length + size);
    let filled = start.copy(taken);
    while (filled < taken.length && (await this.more())) {
      const piece = this.chunk.subarray(0, taken.length - filled);
      taken.set(piece, filled);
      filled += piece.length;
      this.chunk = this.chunk.subarray(piece.length);
    }
    return taken.subarray(0, filled);
  }

  private async more(): Promise<boolean> {
    while (this.chunk.length === 0 && !this.ended) {
      const step = await this.chunks.next();
      this.ended = step.done === true;
      if (step.done) break;
      const room = this.limit - this.findings.storedBytes;
      this.chunk = step.value.subarray(0, room);
      this.findings.storedBytes += this.chunk.length;
      // Nothing is gained by reading garbage to its end.
      if (step.value.length > room) {
        this.findings.extended = true;
        this.ended = true;
      }
    }
    return this.chunk.length > 0;
  }
}

function judge(object: StoredObject, findings: Findings, sha256: string): Damage | 'version' | null {
  if (findings.extended) return 'extended';
  if (findings.storedBytes < object.storedBytes) return 'truncated';
  if (sha256 !== object.sha256) return 'checksum';
  if (findings.problem) return findings.problem;
  return findings.plainBytes === object.plainBytes ? null : 'length';
}

const DAMAGE_IN_WORDS: Record<Damage, string> = {
  missing: 'is missing from the storage',
  truncated: 'is shorter than when it was stored',
  extended: 'is longer than when it was stored',
  checksum: 'is not as it was stored: its SHA-256 differs',
  format: 'is not in the format of a stored object',
  length: 'does not hold as many bytes as were recorded',
};

const NEXT_THING: Record<DamageCode, string> = {
  BACKUP_CORRUPT:
    'Take a new backup now. Until then recover from another backup, to an instant that does not need this one.',
  LOG_CORRUPT: 'Recover to an instant before this piece of log or after the next backup, and take a new backup now.',
};

function damaged(object: StoredObject, code: DamageCode, problem: Damage): Fault {
  return new Fault(code, `The stored object ${object.key} ${DAMAGE_IN_WORDS[problem]}`, {
    hint: NEXT_THING[code],
    details: { object: object.key, problem },
  });
}

function unknownVersion(object: StoredObject): Fault {
  return new Fault('VERSION_MISMATCH', `The stored object ${object.key} was written by a later release`, {
    hint: 'Recover with the release that took the backup, or a later one.',
    details: { object: object.key },
  });
}
