/** Archived segments as a recovery reads them, with what can be wrong with them said as Faults. */
import { Fault } from '../../../errors.js';
import type { StoredSegment } from '../../datastore.js';
import { ByteReader } from '../formats/byteReader.js';
import { BAD_SEGMENT, BadSegment, readHead, type SegmentHead } from '../formats/segmentFormat.js';

/** Opens a segment and reads its head, which must be the one that the catalog means. @throws Fault LOG_CORRUPT */
export async function openSegment(
  segment: StoredSegment,
  stretch: string,
): Promise<{ head: SegmentHead; reader: ByteReader }> {
  const reader = new ByteReader(segment.read({ reuse: true }));
  try {
    const head = await readHead(reader.exactly);
    const last = head.after + head.transactions.length;
    if (String(head.generation) !== stretch || head.after !== segment.after || last !== segment.last) {
      throw new BadSegment('it holds other transactions than the catalog says');
    }
    return { head, reader };
  } catch (error) {
    return await refuse(segment, reader, error).finally(() => reader.close());
  }
}

/** Only the head; the rest is not fetched. */
export async function segmentHead(segment: StoredSegment, stretch: string): Promise<SegmentHead> {
  const { head, reader } = await openSegment(segment, stretch);
  await reader.close();
  return head;
}

/**
 * Throws as asFault says, of bytes that were not proved yet: where the rest of them shows that the stored object is
 * damaged, that is the reason, and names the object.
 */
export async function refuse(segment: StoredSegment, reader: ByteReader, error: unknown): Promise<never> {
  if (isBad(error)) await reader.drain();
  throw asFault(segment, error);
}

/** What was thrown while a segment was read; as a Fault where it is the segment's own. */
export function asFault(segment: StoredSegment, error: unknown): Error {
  if (!isBad(error)) return error as Error;
  const { message } = error as Error;
  const what = `The log segment with transactions ${segment.after + 1} to ${segment.last} cannot be used: ${message}`;
  return new Fault('LOG_CORRUPT', what, {
    hint: 'Recover to a point before it, or take a new backup so that later points can be reached.',
    cause: error,
  });
}

function isBad(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === BAD_SEGMENT;
}
