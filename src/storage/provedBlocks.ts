/**
 * The stored bytes of one object on their way through a codec, each of them hashed, also those after a defect, so that
 * the verdict names what really is wrong.
 */
import { readSync } from 'node:fs';
import { BLOCK_HEADER_BYTES, blockHeader } from '../blocks/blockFormat.js';
import type { ObjectCodec } from './blockCodec.js';
import { giveSpace, SPACE_BYTES, takeSpace } from './blockSpace.js';
import { END_BYTES, endMarkerTotal, type FormatProblem, HEADER_BYTES, headerProblem } from './objectFormat.js';
import { type Digests, type Proof, sameBytes } from './objectHashes.js';
import { type Pending, pending, readAhead } from './readAhead.js';
import type { ObjectStream } from './storage.js';

/** What follows a defect is hashed in pieces of this size. */
const REST_BYTES = 256 * 1024;

/** Stored blocks that are decoded together. */
const RUN_BYTES = 512 * 1024;

/**
 * What is wrong with a stored object, in the order in which it is looked for: not there; fewer or more bytes than were
 * stored; as many but others; the bytes that were stored, but nothing that this service wrote; another plain length.
 */
export type Damage = 'missing' | 'truncated' | 'extended' | 'checksum' | 'format' | 'length';

/** Null where nothing is wrong; `version` where a later release wrote it. */
export type Verdict = Damage | 'version' | null;

/** What was learned on the way through the stored bytes. */
export interface Findings {
  storedBytes: number;
  extended: boolean;
  plainBytes: number;
  problem: FormatProblem | null;
}

export function noFindings(): Findings {
  return { storedBytes: 0, extended: false, plainBytes: 0, problem: null };
}

export interface StoredBytes {
  /** `after` and up to `size` bytes more, fewer at the end of the object. */
  take(size: number, after?: Buffer): Buffer<ArrayBuffer> | Promise<Buffer<ArrayBuffer>>;
}

/** What a walk through an object's stored bytes wants next. */
type Wish =
  /** To be handed these bytes: see StoredBytes.take. */
  | { kind: 'take'; size: number; after?: Buffer }
  /** To have bytes hashed. */
  | { kind: 'pass'; bytes: Buffer<ArrayBuffer> }
  /** To have a whole block hashed, and then decoded. */
  | { kind: 'block'; bytes: Buffer<ArrayBuffer> };

/** Goes through all stored bytes in order; tells of no more blocks once there was a defect. */
export function* storedWalk(findings: Findings): Generator<Wish, void, Buffer<ArrayBuffer>> {
  const header = yield { kind: 'take', size: HEADER_BYTES };
  findings.problem = headerProblem(header);
  yield { kind: 'pass', bytes: header };
  let ended = false;
  while (!findings.problem && !ended) {
    const start = yield { kind: 'take', size: BLOCK_HEADER_BYTES };
    const found = blockHeader(start);
    if (found === null) findings.problem ??= 'format';
    const payloadBytes = found === null ? 0 : found === 'end' ? END_BYTES - BLOCK_HEADER_BYTES : found.payloadBytes;
    const whole = yield { kind: 'take', size: payloadBytes, after: start };
    if (found !== null && found !== 'end' && whole.length === BLOCK_HEADER_BYTES + payloadBytes) {
      findings.plainBytes += found.plainBytes;
      yield { kind: 'block', bytes: whole };
    } else {
      ended = found === 'end' && endMarkerTotal(whole) === findings.plainBytes;
      if (!ended) findings.problem ??= 'format';
      yield { kind: 'pass', bytes: whole };
    }
  }
  for (;;) {
    const rest = yield { kind: 'take', size: REST_BYTES };
    if (rest.length === 0) return;
    findings.problem ??= 'format';
    yield { kind: 'pass', bytes: rest };
  }
}

/**
 * The plain bytes of each block, in order, none of them once there was a defect. Returns the verdict.
 * @param ahead how many runs of blocks may be at work before they are asked for
 */
export async function* provedBlocks(
  object: Proof,
  source: StoredBytes,
  findings: Findings,
  codec: ObjectCodec,
  ahead: { depth: number; release: () => void },
): AsyncGenerator<Buffer, Verdict, undefined> {
  for await (const { answer } of readAhead(decodedRuns(source, codec, findings), ahead.depth, ahead.release)) {
    for (const plain of await answer) if (!findings.problem) yield plain;
  }
  return judge(object, findings, await codec.digests());
}

/** Answers for all stored bytes in order: what became of a run of blocks, or nothing where there was none. */
async function* decodedRuns(
  source: StoredBytes,
  codec: ObjectCodec,
  findings: Findings,
): AsyncGenerator<Pending<Buffer[]>, void, undefined> {
  const decode = async (blocks: Buffer<ArrayBuffer>[]) => {
    const plain = await codec.decode(blocks);
    if (plain.length < blocks.length) findings.problem ??= 'format';
    return plain;
  };
  // Each way to another thread and back costs more than a block.
  let run: Buffer<ArrayBuffer>[] = [];
  let bytes = 0;
  const walk = storedWalk(findings);
  let step = walk.next();
  while (!step.done) {
    const wish = step.value;
    if (wish.kind === 'take') {
      step = walk.next(await source.take(wish.size, wish.after));
      continue;
    }
    if (wish.kind === 'block') {
      run.push(wish.bytes);
      bytes += wish.bytes.length;
    }
    if (run.length > 0 && (bytes >= RUN_BYTES || wish.kind === 'pass')) {
      yield pending(decode(run));
      run = [];
      bytes = 0;
    }
    if (wish.kind === 'pass') yield pending(codec.hash(wish.bytes).then(() => []));
    step = walk.next();
  }
}

/** Takes exact pieces from a stream, never more than `limit` bytes in all; notes how many there were. */
export class StreamedBytes implements StoredBytes {
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

  /** In a buffer of their own. */
  async take(size: number, after: Buffer = Buffer.alloc(0)): Promise<Buffer<ArrayBuffer>> {
    const taken = takeSpace(after.length + size);
    let filled = after.copy(taken);
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

/**
 * Takes exact pieces from an open file into one buffer, which is overwritten each time; never much more than `limit`. What
 * is read with a block is the next one's header, too, which would be a system call of its own.
 */
export class FileBytes implements StoredBytes {
  private readonly space = takeSpace(SPACE_BYTES + BLOCK_HEADER_BYTES);
  private at = 0;
  /** What was read and not taken lies in the space from the first to before the second. */
  private taken = 0;
  private filled = 0;

  constructor(
    private readonly descriptor: number,
    private readonly limit: number,
    private readonly findings: Findings,
  ) {}

  /** `after`, where given, is what the call before gave. @throws StoredBytesUnreadable */
  take(size: number, after?: Buffer): Buffer<ArrayBuffer> {
    const begin = after?.length ?? 0;
    this.space.copyWithin(begin, this.taken, this.filled);
    this.filled += begin - this.taken;
    const end = Math.min(begin + size, SPACE_BYTES);
    while (this.filled < end && !this.findings.extended) {
      const read = this.read(this.filled, end + BLOCK_HEADER_BYTES - this.filled);
      if (read === 0) break;
      const room = this.limit - this.at;
      this.at += read;
      this.findings.storedBytes += Math.min(read, room);
      // Nothing is gained by reading garbage to its end.
      this.findings.extended = read > room;
      this.filled += Math.min(read, room);
    }
    this.taken = Math.min(this.filled, end);
    return this.space.subarray(0, this.taken);
  }

  /** Nothing that was taken is looked at any more. */
  close(): void {
    giveSpace(this.space);
  }

  private read(at: number, bytes: number): number {
    try {
      return readSync(this.descriptor, this.space, at, bytes, this.at);
    } catch (cause) {
      throw new StoredBytesUnreadable(cause as NodeJS.ErrnoException);
    }
  }
}

/** The stored bytes could not be read, as told apart from whatever their taker throws. */
export class StoredBytesUnreadable extends Error {
  readonly code = 'STORED_BYTES_UNREADABLE';
  /** What the system called it, such as EIO: that crosses threads, a cause does not. */
  readonly systemCode: string | undefined;

  constructor(cause: NodeJS.ErrnoException) {
    super(cause.message, { cause });
    this.systemCode = cause.code;
  }
}

/** @param made of all stored bytes */
export function judge(object: Proof, findings: Findings, made: Digests): Verdict {
  if (findings.extended) return 'extended';
  if (findings.storedBytes < object.storedBytes) return 'truncated';
  if (!sameBytes(object, made)) return 'checksum';
  if (findings.problem) return findings.problem;
  return findings.plainBytes === object.plainBytes ? null : 'length';
}
