/** An object's plain bytes into a sink, all of it on the thread that this runs on. */
import type { OpenSink, SinkInThread, StoredObject, ThreadSink } from '../model.js';
import { inlineCodec, pourBlock } from './blockCodec.js';
import { type Findings, provedBlocks, type StoredBytes, type Verdict } from './provedBlocks.js';

export interface Poured {
  verdict: Verdict;
  /** What the sink answered to its end; it is ended only where the verdict is good. */
  result: unknown;
}

/**
 * @param taken told of plain bytes that the sink has taken, and waited for
 * @throws what the sink throws; but where the stored bytes are damaged that is the reason, and the verdict says so
 */
export async function pourInto(
  sink: ThreadSink,
  object: Pick<StoredObject, 'plainBytes' | 'storedBytes' | 'sha256'>,
  source: StoredBytes,
  findings: Findings,
  taken: (plainBytes: number) => unknown,
): Promise<Poured> {
  const into = await openSink(sink);
  const codec = inlineCodec();
  let refusal: { error: unknown } | null = null;
  const pour = async (block: Buffer<ArrayBuffer>) => {
    await codec.hash(block);
    if (refusal) return 0;
    try {
      return pourBlock(block, into);
    } catch (error) {
      refusal = { error };
      return 0;
    }
  };
  try {
    const blocks = provedBlocks(object, source, findings, codec, pour, null);
    let step = await blocks.next();
    for (; !step.done; step = await blocks.next()) await taken(step.value);
    const verdict = step.value;
    if (verdict) return { verdict, result: null };
    if (refusal) throw (refusal as { error: unknown }).error;
    return { verdict, result: into.end() };
  } finally {
    into.close();
  }
}

async function openSink({ module, argument }: ThreadSink): Promise<SinkInThread> {
  const { open } = (await import(module)) as { open: OpenSink };
  return open(argument);
}
