/**
 * The way out: storage -> hash and LZ4 on one thread -> plain bytes. No read ends well unless everything about the
 * stored bytes was right (provedBlocks.ts).
 */
import { once } from 'node:events';
import { Fault } from '../errors.js';
import type { StoredObject, ThreadSink } from '../model.js';
import { inlineCodec, type ObjectCodec } from './blockCodec.js';
import { giveSpace } from './blockSpace.js';
import type { CodecPool } from './codecPool.js';
import { hashingOf } from './objectHashes.js';
import { SMALL_BYTES } from './objectWriter.js';
import { type Poured, pourInto } from './pouring.js';
import { type Damage, noFindings, provedBlocks, StreamedBytes, type Verdict } from './provedBlocks.js';
import type { ObjectStream, Storage } from './storage.js';

/** Runs of blocks, about 1 MiB each, that are hashed and decoded before the consumer asks for them. */
const RUNS_AHEAD = 3;

export type DamageCode = 'BACKUP_CORRUPT' | 'LOG_CORRUPT';

/** Streams an object's plain bytes; see ObjectPipeline.read. */
export async function* readObject(
  storage: Storage,
  codecs: CodecPool,
  object: StoredObject,
  damage: DamageCode,
  options: { signal: AbortSignal | undefined; reuse: boolean },
): AsyncGenerator<Buffer, void, undefined> {
  const { signal, reuse } = options;
  const stream = await open(storage, object, damage, signal);
  let codec: ObjectCodec | null = null;
  try {
    const own = codecFor(object, codecs);
    codec = own;
    for await (const plain of decoded(stream, object, damage, own)) {
      yield plain;
      if (reuse) giveSpace(plain);
    }
  } catch (error) {
    throw signal?.aborted ? signal.reason : error;
  } finally {
    codec?.release();
    await close(stream);
  }
}

/** Hands an object's plain bytes to a sink beside the codec; see ObjectPipeline.pour. */
export async function pourObject(
  storage: Storage,
  codecs: CodecPool,
  object: StoredObject,
  damage: DamageCode,
  sink: ThreadSink,
  options: { signal: AbortSignal | undefined; passed: (plainBytes: number) => void },
): Promise<unknown> {
  const { signal, passed } = options;
  signal?.throwIfAborted();
  try {
    const file = isSmall(object) ? undefined : storage.fileOf?.(object.key);
    const whole = file === undefined ? null : await codecs.pourFile(file, object, sink);
    const { verdict, result } = whole ?? (await pourHere(storage, object, damage, sink, signal));
    judged(object, damage, verdict);
    passed(object.plainBytes);
    signal?.throwIfAborted();
    return result;
  } catch (error) {
    throw signal?.aborted ? signal.reason : error;
  }
}

/** What is small, or no file, is poured on this thread; where its file could not be opened, this says why. */
async function pourHere(
  storage: Storage,
  object: StoredObject,
  damage: DamageCode,
  sink: ThreadSink,
  signal: AbortSignal | undefined,
): Promise<Poured> {
  const stream = await open(storage, object, damage, signal);
  const findings = noFindings();
  const source = new StreamedBytes(stream, object.storedBytes, findings);
  try {
    return await pourInto(sink, object, source, findings, () => undefined);
  } finally {
    await close(stream);
  }
}

async function* decoded(
  stream: ObjectStream,
  object: StoredObject,
  damage: DamageCode,
  codec: ObjectCodec,
): AsyncGenerator<Buffer, void, undefined> {
  const findings = noFindings();
  const source = new StreamedBytes(stream, object.storedBytes, findings);
  const ahead = { depth: RUNS_AHEAD, release: () => void stream.destroy() };
  judged(object, damage, yield* provedBlocks(object, source, findings, codec, ahead));
}

function isSmall({ plainBytes, storedBytes }: StoredObject): boolean {
  return Math.max(plainBytes, storedBytes) <= SMALL_BYTES;
}

function codecFor(object: StoredObject, codecs: CodecPool): ObjectCodec {
  const hashing = hashingOf(object);
  return isSmall(object) ? inlineCodec(hashing) : codecs.open(hashing);
}

async function open(
  storage: Storage,
  object: StoredObject,
  damage: DamageCode,
  signal: AbortSignal | undefined,
): Promise<ObjectStream> {
  signal?.throwIfAborted();
  const stream = await storage.get(object.key, signal);
  if (!stream) throw damaged(object, damage, 'missing');
  stream.on('error', () => {}); // the iteration reports it; one that comes after its end has nobody else to catch it
  return stream;
}

async function close(stream: ObjectStream): Promise<void> {
  stream.destroy();
  if (!stream.closed) await once(stream, 'close').catch(() => {}); // what failed has been said already
}

function judged(object: StoredObject, damage: DamageCode, verdict: Verdict): void {
  if (verdict === 'version') throw unknownVersion(object);
  if (verdict) throw damaged(object, damage, verdict);
}

const DAMAGE_IN_WORDS: Record<Damage, string> = {
  missing: 'is missing from the storage',
  truncated: 'is shorter than when it was stored',
  extended: 'is longer than when it was stored',
  checksum: 'is not as it was stored: its hash differs',
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
