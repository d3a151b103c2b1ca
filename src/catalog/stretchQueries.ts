/** Reads and changes of the stretches of log and of the holes in them. */
import type { EntityManager } from 'typeorm';
import { Fault } from '../errors.js';
import { changeRowIf, insertRows, noSuchRow } from './changeRows.js';
import { gapEntity } from './gapEntity.js';
import type { CatalogReader, CatalogWriter, GapRecord } from './records.js';
import { rowsWhere } from './statements.js';
import { stretchEntity } from './stretchEntity.js';

type StretchReads = Pick<CatalogReader, 'stretchByName' | 'stretches' | 'newestStretch' | 'gaps'>;
type StretchChanges = Pick<CatalogWriter, 'insertStretch' | 'updateStretch' | 'raiseCoverage' | 'insertGap'>;

/** SQLite binds no more than 32766 values in a statement. */
const rowsPerStatement = 1000;

export function stretchReads(manager: EntityManager): StretchReads {
  const stretches = manager.getRepository(stretchEntity);

  return {
    stretchByName: (instanceId, name) => stretches.findOneBy({ instanceId, name }),

    stretches: (instanceIds) =>
      rowsWhere(manager, stretchEntity, '"instanceId" IN (:...instanceIds) ORDER BY "instanceId", "number"', {
        instanceIds,
      }),

    newestStretch: (instanceId) => stretches.findOne({ where: { instanceId }, order: { number: 'DESC' } }),

    async gaps(stretchIds) {
      // In the order of the answer, each once, so that the pieces of it fit together.
      const ids = [...new Set(stretchIds)].sort();
      const found: GapRecord[] = [];
      for (let at = 0; at < ids.length; at += rowsPerStatement) {
        const some = await rowsWhere(
          manager,
          gapEntity,
          '"stretchId" IN (:...stretchIds) ORDER BY "stretchId", "from", "id"',
          { stretchIds: ids.slice(at, at + rowsPerStatement) },
        );
        for (const gap of some) found.push(gap);
      }
      return found;
    },
  };
}

export function stretchChanges(manager: EntityManager): StretchChanges {
  return {
    async insertStretch(record) {
      if (record.lastOrdinal !== record.startOrdinal || record.segments !== 0 || record.bytes !== 0) {
        throw new Fault('INTERNAL', `The stretch ${record.name} does not begin empty`);
      }
      await insertRows(manager, stretchEntity, [record]);
    },

    async updateStretch(id, change) {
      const { lastOrdinal } = change;
      const unmoved = lastOrdinal === undefined ? {} : { lastOrdinal };
      // insertSegment alone moves the end; anything else could make a stretch look whole that has a hole.
      if (!(await changeRowIf(manager, stretchEntity, { id }, unmoved, change))) {
        throw new Fault('INTERNAL', `The stretch ${id} ends with its newest segment, not at ${lastOrdinal}`);
      }
    },

    async raiseCoverage(coverage) {
      const rows = [...coverage];
      // Hundreds of idle databases rise at the same moment, and by as many statements that would be most of their cost.
      for (let at = 0; at < rows.length; at += rowsPerStatement) {
        const some = rows.slice(at, at + rowsPerStatement);
        const known: { id: string }[] = await manager.query(
          // TypeORM hands on no rows of a statement that begins with UPDATE.
          `WITH risen(stretch, instant) AS (VALUES ${some.map(() => '(?, ?)').join(', ')})
           UPDATE "log_stretches"
           SET "coveredTo" = CASE WHEN "coveredTo" > instant THEN "coveredTo" ELSE instant END
           FROM risen WHERE "id" = stretch
           RETURNING "id"`,
          some.flat(),
        );
        const missing = some.find(([id]) => known.length < some.length && !known.some((row) => row.id === id));
        if (missing) throw noSuchRow(stretchEntity, { id: missing[0] });
      }
    },

    async insertGap(record) {
      await insertRows(manager, gapEntity, [record]);
    },
  };
}
