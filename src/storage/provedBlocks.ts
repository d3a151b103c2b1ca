/**
 * The stored bytes of one object on their way through a codec, each of them hashed, also those after a defect, so that
 * the verdict names what really is wrong.
 */
import { readSync } from 'node:fs';
import type { StoredObject } from '../model.js';
import type { ObjectCodec } from './blockCodec.js';
import { giveSpace, SPACE_BYTES, takeSpace } from './blockSpace.js';
import {
  BLOCK_HEADER_BYTES,
  blockHeader,
  END_BYTES,
  endMarkerTotal,
  type FormatProblem,
  HEADER_BYTES,
  headerProblem,
} from './objectFormat.js';
import { type Pending, pending, readAhead } from './readAhead.js';
import type { ObjectStream } from './storage.js';

/** What follows a defect is hashed in pieces of this size. */
const REST_BYTES = 256 * 1024;

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
  /** `start` and up to `size` bytes more, fewer at the end of the object. */
  take(size: number, start?: Buffer): Promise<Buffer<ArrayBuffer>>;
}

/**
 * What `work` answers for each block, in order, none of them null; it is told of no more blocks once there was a defect.
 * Returns the verdict.
 * @param ahead how many blocks may be at work before they are asked for; null where the source has only one buffer
 */
export async function* provedBlocks<T>(
  object: Pick<StoredObject, 'plainBytes' | 'storedBytes' | 'sha256'>,
  source: StoredBytes,
  findings: Findings,
  codec: ObjectCodec,
  work: (block: Buffer<ArrayBuffer>) => Promise<T | null>,
  ahead: { depth: number; release: () => void } | null,
): AsyncGenerator<T, Verdict, undefined> {
  const answers = decodedBlocks(source, codec, work, findings);
  for await (const { answer } of ahead ? readAhead(answers, ahead.depth, ahead.release) : answers) {
    const done = await answer;
    if (done !== null && !findings.problem) yield done;
  }
  return judge(object, findings, await codec.digest());
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

/** Takes exact pieces from an open file into one buffer, which is overwritten each time; never more than `limit` and one. */
export class FileBytes implements StoredBytes {
  private readonly space = takeSpace(SPACE_BYTES);
  private at = 0;

  constructor(
    private readonly descriptor: number,
    private readonly limit: number,
    private readonly findings: Findings,
  ) {}

  /** `start`, where given, is what the call before gave. @throws StoredBytesUnreadable */
  async take(size: number, start?: Buffer): Promise<Buffer<ArrayBuffer>> {
    const begin = start?.length ?? 0;
    let filled = begin;
    const end = Math.min(begin + size, SPACE_BYTES);
    while (filled < end && !this.findings.extended) {
      const read = this.read(filled, end - filled);
      if (read === 0) break;
      const room = this.limit - this.at;
      this.at += read;
      this.findings.storedBytes += Math.min(read, room);
      // Nothing is gained by reading garbage to its end.
      this.findings.extended = read > room;
      filled += Math.min(read, room);
    }
    return this.space.subarray(0, filled);
  }

  /** Nothing that was taken is looked at any more. */
  close(): void {
    giveSpace(this.space);
  }

  private read(at: number, bytes: number): number {
    try {
      return readSync(this.descriptor, this.space, at, bytes, this.at);
    } catch (cause) {
      throw new StoredBytesUnreadable((cause as Error).message, { cause });
    }
  }
}

/** The stored bytes could not be read, as told apart from whatever their taker throws. */
export class StoredBytesUnreadable extends Error {
  readonly code = 'STORED_BYTES_UNREADABLE';
}

function judge(
  object: Pick<StoredObject, 'plainBytes' | 'storedBytes' | 'sha256'>,
  findings: Findings,
  sha256: string,
): Verdict {
  if (findings.extended) return 'extended';
  if (findings.storedBytes < object.storedBytes) return 'truncated';
  if (sha256 !== object.sha256) return 'checksum';
  if (findings.problem) return findings.problem;
  return findings.plainBytes === object.plainBytes ? null : 'length';
}
