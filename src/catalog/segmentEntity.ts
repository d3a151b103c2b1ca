/**
 * The table `log_segments`: the archived log, piece by piece. It is the one table that grows with time alone, so each
 * question to it is answered by a seek in an index, never by a walk along a stretch.
 */
import { EntitySchema } from 'typeorm';
import type { StoredObject } from '../model.js';
import { hex256, instantColumn, named, nullable, primary, text, whole } from './columns.js';
import type { SegmentRecord } from './records.js';

/**
 * As the record, with running sums along the stretch up to and with this segment: the sums over a range are then a
 * subtraction of two rows. They need not start at zero, since older segments may be gone.
 */
export interface SegmentRow extends SegmentRecord {
  runningSegments: number;
  runningPlainBytes: number;
  runningStoredBytes: number;
  /** `last` of the newest segment with a commit, up to and with this one: an idle source's log is mostly without. */
  lastWithCommit: number | null;
}

const objectColumns = new EntitySchema<StoredObject>({
  name: 'SegmentObject',
  columns: {
    key: named('objectKey', text),
    plainBytes: named('objectPlainBytes', whole),
    storedBytes: named('objectStoredBytes', whole),
    sha256: named('objectSha256', text),
    blake3: nullable(named('objectBlake3', text)),
  },
});

export const segmentEntity = new EntitySchema<SegmentRow>({
  name: 'Segment',
  tableName: 'log_segments',
  columns: {
    stretchId: primary(text),
    last: primary(whole),
    after: whole,
    lastText: text,
    transactions: whole,
    firstCommitAt: nullable(instantColumn),
    lastCommitAt: nullable(instantColumn),
    latestCommitAt: nullable(instantColumn),
    coveredTo: instantColumn,
    runningSegments: whole,
    runningPlainBytes: whole,
    runningStoredBytes: whole,
    lastWithCommit: nullable(whole),
  },
  embeddeds: { object: { schema: objectColumns, prefix: false } },
  uniques: [{ name: 'log_segments_after', columns: ['stretchId', 'after'] }],
  foreignKeys: [
    {
      name: 'fk_log_segments_stretch',
      target: 'Stretch',
      columnNames: ['stretchId'],
      referencedColumnNames: ['id'],
    },
  ],
  checks: [
    { name: 'log_segments_ordinals', expression: '"after" >= 0 AND "after" < "last"' },
    { name: 'log_segments_transactions', expression: '"transactions" >= 0' },
    {
      name: 'log_segments_commits',
      expression:
        '("firstCommitAt" IS NULL) = ("lastCommitAt" IS NULL) AND ("transactions" > 0 OR "lastCommitAt" IS NULL)',
    },
    { name: 'log_segments_commit_order', expression: '"firstCommitAt" <= "lastCommitAt"' },
    {
      name: 'log_segments_latest_commit',
      expression: '"lastCommitAt" IS NULL OR ("latestCommitAt" IS NOT NULL AND "latestCommitAt" >= "lastCommitAt")',
    },
    {
      name: 'log_segments_with_commit',
      expression: '"lastWithCommit" <= "last" AND ("lastCommitAt" IS NULL OR "lastWithCommit" = "last")',
    },
    { name: 'log_segments_bytes', expression: '"objectPlainBytes" >= 0 AND "objectStoredBytes" >= 0' },
    { name: 'log_segments_sha256', expression: hex256('objectSha256') },
    { name: 'log_segments_blake3', expression: hex256('objectBlake3') },
  ],
  indices: [{ name: 'log_segments_latest_commit_at', columns: ['stretchId', 'latestCommitAt', 'last'] }],
});
