/** The archived log as datastore drivers read it. */
import type { CatalogReader, SegmentRecord } from '../catalog/records.js';
import type { ReadOptions, StoredSegment } from '../datastores/datastore.js';
import type { StoredObject } from '../model.js';
import type { ObjectPipeline } from '../storage/pipeline.js';

const SEGMENTS_PER_PAGE = 64;

/** Told of an object's plain bytes as they pass. */
export type Passed = (plainBytes: number, object: StoredObject) => void;

const nobody: Passed = () => {};

export interface Archive {
  read: CatalogReader;
  pipeline: ObjectPipeline;
}

/** Segments with transactions in (after, last] of a stretch; fetched a page at a time. */
export async function* archivedLog(
  { read, pipeline }: Archive,
  stretchId: string,
  range: { after: number; last: number },
  order: 'oldest-first' | 'newest-first',
  signal: AbortSignal,
  passed: Passed = nobody,
): AsyncGenerator<StoredSegment> {
  let { after, last } = range;
  while (after < last) {
    const page = await read.segments(stretchId, { after, last }, order, SEGMENTS_PER_PAGE);
    for (const record of page) {
      signal.throwIfAborted();
      yield openSegment(pipeline, record, signal, passed);
    }
    const end = page.at(-1);
    if (!end) return;
    if (order === 'oldest-first') after = end.last;
    else last = end.after;
  }
}

export function openSegment(
  pipeline: ObjectPipeline,
  { after, last, transactions, object }: SegmentRecord,
  signal?: AbortSignal,
  passed: Passed = nobody,
): StoredSegment {
  return {
    after,
    last,
    transactions,
    plainBytes: object.plainBytes,
    pour: (sink) =>
      pipeline.pour(object, 'LOG_CORRUPT', sink, { signal, passed: (plainBytes) => passed(plainBytes, object) }),
    read: (options?: ReadOptions) => watched(pipeline.read(object, 'LOG_CORRUPT', signal, options), object, passed),
  };
}

export async function* watched(
  bytes: AsyncIterable<Buffer>,
  object: StoredObject,
  passed: Passed,
): AsyncGenerator<Buffer> {
  for await (const chunk of bytes) {
    passed(chunk.length, object);
    yield chunk;
  }
}
