/** An object's plain bytes into a sink, all of it on the thread that this runs on. */
import type { OpenSink, SinkInThread, ThreadSink } from '../model.js';
import { pourBlock } from './blockCodec.js';
import { hashingOf, ObjectHashes, type Proof } from './objectHashes.js';
import { type Findings, judge, type StoredBytes, storedWalk, type Verdict } from './provedBlocks.js';

export interface Poured {
  verdict: Verdict;
  /** What the sink answered to its end; it is ended only where the verdict is good. */
  result: unknown;
}

/**
 * @param poured told of each block that the sink has taken; waited for where it answers with a promise
 * @throws what the sink throws; but where the stored bytes are damaged that is the reason, and the verdict says so
 */
export async function pourInto(
  sink: ThreadSink,
  object: Proof,
  source: StoredBytes,
  findings: Findings,
  poured: (plainBytes: number) => Promise<void> | undefined,
): Promise<Poured> {
  const into = await openSink(sink);
  const hashes = new ObjectHashes(hashingOf(object));
  let refusal: { error: unknown } | null = null;
  const pour = (block: Buffer<ArrayBuffer>): number => {
    if (refusal) return 0;
    try {
      const plainBytes = pourBlock(block, into);
      if (plainBytes === null) findings.problem ??= 'format';
      return plainBytes ?? 0;
    } catch (error) {
      refusal = { error };
      return 0;
    }
  };
  try {
    const walk = storedWalk(findings);
    let step = walk.next();
    while (!step.done) {
      const wish = step.value;
      if (wish.kind === 'take') {
        const taken = source.take(wish.size, wish.after);
        // To wait for what is there already would cost more than to hash it.
        step = walk.next(taken instanceof Promise ? await taken : taken);
        continue;
      }
      hashes.update(wish.bytes);
      if (wish.kind === 'block') {
        const pause = poured(pour(wish.bytes));
        if (pause) await pause;
      }
      step = walk.next();
    }
    const verdict = judge(object, findings, hashes.digests());
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
