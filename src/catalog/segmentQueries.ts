/**
 * Reads and inserts of log segments. A stretch is contiguous by construction: each segment begins where the one before
 * it ended, or is refused. That is why every question below is a seek, and a sum the difference of two rows.
 */
import type { EntityManager } from 'typeorm';
import { Fault } from '../errors.js';
import { type Instant, instant } from '../instant.js';
import { changeRow, insertRows } from './changeRows.js';
import { wholeNumber } from './columns.js';
import type { CatalogReader, CatalogWriter, SegmentRecord } from './records.js';
import { type SegmentRow, segmentEntity } from './segmentEntity.js';
import { ask, type Bindings, rowsWhere } from './statements.js';
import { stretchEntity } from './stretchEntity.js';

type SegmentReads = Pick<
  CatalogReader,
  'segments' | 'segmentTotals' | 'firstSegmentCommittedAfter' | 'lastSegmentWithCommitUpTo' | 'segmentHolding'
>;
type SegmentChanges = Pick<CatalogWriter, 'insertSegment'>;

type Range = Parameters<CatalogReader['segments']>[1];
type Order = Parameters<CatalogReader['segments']>[2];

/** The segment that holds the end of a range is the last one to begin before that end. */
const endOfOverlap = `COALESCE((SELECT MIN("end"."last") FROM "log_segments" "end"
  WHERE "end"."stretchId" = :stretchId AND "end"."last" >= :last), :last)`;

const noSegments = { segments: 0, plainBytes: 0, storedBytes: 0, after: null, last: null };

interface TotalsRow {
  segments: number;
  plainBytes: number;
  storedBytes: number;
  after: number | null;
  last: number | null;
  holed: number;
}

/** From the rows at the range's two ends; of nulls where there is none. */
const totalsStatement = (() => {
  const rowAt = (name: string, order: 'ASC' | 'DESC') =>
    `LEFT JOIN "log_segments" "${name}" ON "${name}"."stretchId" = :stretchId AND "${name}"."last" =
      (SELECT "last" FROM "log_segments" WHERE "stretchId" = :stretchId AND "last" > :after AND "after" < :last
        AND "last" <= ${endOfOverlap} ORDER BY "last" ${order} LIMIT 1)`;
  const difference = (running: string, own: string) => `"newest"."${running}" - "oldest"."${running}" + ${own}`;
  return `SELECT "oldest"."after", "newest"."last",
      ${difference('runningSegments', '1')} AS "segments",
      ${difference('runningPlainBytes', '"oldest"."objectPlainBytes"')} AS "plainBytes",
      ${difference('runningStoredBytes', '"oldest"."objectStoredBytes"')} AS "storedBytes",
      EXISTS (SELECT 1 FROM "log_gaps" WHERE "stretchId" = :stretchId AND "after" < :last AND "last" > :after) AS "holed"
    FROM "log_stretches" "stretch" ${rowAt('oldest', 'ASC')} ${rowAt('newest', 'DESC')}
    WHERE "stretch"."id" = :stretchId`;
})();

export function segmentReads(manager: EntityManager): SegmentReads {
  return {
    async segments(stretchId, range, order, limit) {
      return (await rowsIn(manager, stretchId, range, order, limit)).map(toRecord);
    },

    async segmentTotals(stretchId, { after, last }) {
      if (last <= after) return { ...noSegments, contiguous: true };
      const [row] = await ask<TotalsRow>(manager, totalsStatement, { stretchId, after, last });
      if (!row) return { ...noSegments, contiguous: true };
      const contiguous = Number(row.holed) === 0;
      if (row.after === null || row.last === null) return { ...noSegments, contiguous };
      return {
        segments: wholeNumber(row.segments),
        plainBytes: wholeNumber(row.plainBytes),
        storedBytes: wholeNumber(row.storedBytes),
        after: wholeNumber(row.after),
        last: wholeNumber(row.last),
        contiguous,
      };
    },

    firstSegmentCommittedAfter: (stretchId, at) =>
      segmentWhere(
        manager,
        '"stretchId" = :stretchId AND "latestCommitAt" > :at ORDER BY "latestCommitAt", "last" LIMIT 1',
        { stretchId, at },
      ),

    lastSegmentWithCommitUpTo: (stretchId, ordinal) =>
      segmentWhere(
        manager,
        `"stretchId" = :stretchId AND "last" = (SELECT "end"."lastWithCommit" FROM "log_segments" "end"
          WHERE "end"."stretchId" = :stretchId AND "end"."last" <= :ordinal ORDER BY "end"."last" DESC LIMIT 1)`,
        { stretchId, ordinal },
      ),

    async segmentHolding(stretchId, ordinal) {
      // The lower end is compared here: in the statement it would make an ordinal before the stretch walk all of it.
      const where = '"stretchId" = :stretchId AND "last" >= :ordinal ORDER BY "last" LIMIT 1';
      const segment = await segmentWhere(manager, where, { stretchId, ordinal });
      return segment && segment.after < ordinal ? segment : null;
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
  return manager
    .createQueryBuilder(segmentEntity, 'segment')
    .where('segment.stretchId = :stretchId AND segment.last > :after AND segment.after < :last')
    .andWhere(`segment.last <= ${endOfOverlap}`)
    .setParameters({ stretchId, ...range })
    .orderBy('segment.last', order === 'oldest-first' ? 'ASC' : 'DESC')
    .limit(limit)
    .getMany();
}

async function segmentWhere(
  manager: EntityManager,
  where: string,
  parameters: Bindings,
): Promise<SegmentRecord | null> {
  const [row] = await rowsWhere(manager, segmentEntity, where, parameters);
  return row ? toRecord(row) : null;
}

function toRecord(row: SegmentRow): SegmentRecord {
  const { runningSegments, runningPlainBytes, runningStoredBytes, lastWithCommit, ...record } = row;
  return record;
}

function later(one: Instant | null, other: Instant | null): Instant | null {
  if (one === null || other === null) return one ?? other;
  return instant(Math.max(one, other));
}
