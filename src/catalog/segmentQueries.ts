/**
 * Reads and inserts of log segments. A stretch is contiguous by construction: each segment begins where the one before
 * it ended, or is refused. That is why every question below is a seek, and a sum the difference of two rows.
 */
import { type EntityManager, LessThan, MoreThan, MoreThanOrEqual } from 'typeorm';
import { Fault } from '../errors.js';
import { type Instant, instant } from '../instant.js';
import { changeRow, insertRows } from './changeRows.js';
import { gapEntity } from './gapEntity.js';
import type { CatalogReader, CatalogWriter, SegmentRecord } from './records.js';
import { type SegmentRow, segmentEntity } from './segmentEntity.js';
import { stretchEntity } from './stretchEntity.js';

type SegmentReads = Pick<
  CatalogReader,
  'segments' | 'segmentTotals' | 'firstSegmentCommittedAfter' | 'lastSegmentWithCommitUpTo' | 'segmentHolding'
>;
type SegmentChanges = Pick<CatalogWriter, 'insertSegment'>;

type Range = Parameters<CatalogReader['segments']>[1];
type Order = Parameters<CatalogReader['segments']>[2];

export function segmentReads(manager: EntityManager): SegmentReads {
  const segments = manager.getRepository(segmentEntity);

  return {
    async segments(stretchId, range, order, limit) {
      return (await rowsIn(manager, stretchId, range, order, limit)).map(toRecord);
    },

    async segmentTotals(stretchId, range) {
      // Three statements, but of rows that never change: a segment appended meanwhile is either in the sums or not.
      const [first] = await rowsIn(manager, stretchId, range, 'oldest-first', 1);
      const [last] = await rowsIn(manager, stretchId, range, 'newest-first', 1);
      const overlapping = { stretchId, after: LessThan(range.last), last: MoreThan(range.after) };
      const contiguous = range.last <= range.after || !(await manager.existsBy(gapEntity, overlapping));
      if (!first || !last) {
        return { segments: 0, plainBytes: 0, storedBytes: 0, after: null, last: null, contiguous };
      }
      return {
        segments: last.runningSegments - first.runningSegments + 1,
        plainBytes: last.runningPlainBytes - first.runningPlainBytes + first.object.plainBytes,
        storedBytes: last.runningStoredBytes - first.runningStoredBytes + first.object.storedBytes,
        after: first.after,
        last: last.last,
        contiguous,
      };
    },

    async firstSegmentCommittedAfter(stretchId, at) {
      const row = await segments.findOne({
        where: { stretchId, latestCommitAt: MoreThan(at) },
        order: { latestCommitAt: 'ASC', last: 'ASC' },
      });
      return row && toRecord(row);
    },

    async lastSegmentWithCommitUpTo(stretchId, ordinal) {
      const row = await segments
        .createQueryBuilder('segment')
        .where('segment.stretchId = :stretchId', { stretchId })
        .andWhere(
          `segment.last = (SELECT "end"."lastWithCommit" FROM "log_segments" "end" WHERE "end"."stretchId" = :stretchId AND "end"."last" <= :ordinal ORDER BY "end"."last" DESC LIMIT 1)`,
          { ordinal },
        )
        .getOne();
      return row && toRecord(row);
    },

    async segmentHolding(stretchId, ordinal) {
      // The lower end is compared here: in the statement it would make an ordinal before the stretch walk all of it.
      const row = await segments.findOne({
        where: { stretchId, last: MoreThanOrEqual(ordinal) },
        order: { last: 'ASC' },
      });
      return row && row.after < ordinal ? toRecord(row) : null;
    },
  };
}

export function segmentChanges(manager: EntityManager): SegmentChanges {
  return {
    async insertSegment(record) {
      const stretch = await manager.findOneBy(stretchEntity, { id: record.stretchId });
      if (!stretch) throw new Fault('INTERNAL', `The catalog has no Stretch ${record.stretchId}`);
      if (record.after !== stretch.lastOrdinal) {
        throw new Fault('INTERNAL', `The stretch ${stretch.name} ends at ${stretch.lastOrdinal}, not ${record.after}`, {
          hint: 'Record the segment that is missing in between, or begin a new stretch.',
        });
      }
      const before = await manager.findOne(segmentEntity, {
        where: { stretchId: stretch.id },
        order: { last: 'DESC' },
      });
      const row: SegmentRow = {
        ...record,
        latestCommitAt: later(before?.latestCommitAt ?? null, record.lastCommitAt),
        lastWithCommit: record.lastCommitAt === null ? (before?.lastWithCommit ?? null) : record.last,
        runningSegments: (before?.runningSegments ?? 0) + 1,
        runningPlainBytes: (before?.runningPlainBytes ?? 0) + record.object.plainBytes,
        runningStoredBytes: (before?.runningStoredBytes ?? 0) + record.object.storedBytes,
      };
      await insertRows(manager, segmentEntity, [row]);
      await changeRow(
        manager,
        stretchEntity,
        { id: stretch.id },
        {
          lastOrdinal: record.last,
          lastText: record.lastText,
          coveredTo: later(stretch.coveredTo, record.coveredTo),
          segments: stretch.segments + 1,
          bytes: stretch.bytes + record.object.storedBytes,
        },
      );
    },
  };
}

/** Segments that overlap (after, last]. Both ends bound the same index, so that nothing outside the range is looked at. */
function rowsIn(manager: EntityManager, stretchId: string, range: Range, order: Order, limit: number) {
  // An empty range may lie inside a segment and still asks for nothing; TypeORM takes a limit of 0 for none.
  if (range.last <= range.after || limit < 1) return Promise.resolve([]);
  return (
    manager
      .createQueryBuilder(segmentEntity, 'segment')
      .where('segment.stretchId = :stretchId AND segment.last > :after AND segment.after < :last')
      // The segment that holds the range's end is the last one to begin before it.
      .andWhere(
        `segment.last <= COALESCE((SELECT MIN("end"."last") FROM "log_segments" "end" WHERE "end"."stretchId" = :stretchId AND "end"."last" >= :last), :last)`,
      )
      .setParameters({ stretchId, ...range })
      .orderBy('segment.last', order === 'oldest-first' ? 'ASC' : 'DESC')
      .limit(limit)
      .getMany()
  );
}

function toRecord(row: SegmentRow): SegmentRecord {
  const { runningSegments, runningPlainBytes, runningStoredBytes, lastWithCommit, ...record } = row;
  return record;
}

function later(one: Instant | null, other: Instant | null): Instant | null {
  if (one === null || other === null) return one ?? other;
  return instant(Math.max(one, other));
}
