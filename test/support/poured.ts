/** StoredPart.pour for archives that are plain files: the sink runs in this very thread. */
import type { OpenSink, ThreadSink } from '../../src/model.js';

export async function poured(
  bytes: AsyncIterable<Buffer>,
  { module, argument }: ThreadSink,
  passed: (plainBytes: number) => void = () => {},
): Promise<unknown> {
  const { open } = (await import(module)) as { open: OpenSink };
  const sink = open(structuredClone(argument));
  try {
    for await (const chunk of bytes) {
      sink.take(chunk);
      passed(chunk.length);
    }
    return sink.end();
  } finally {
    sink.close();
  }
}
