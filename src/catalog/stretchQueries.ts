/** Reads and changes of the stretches of log and of the holes in them. */
import { type EntityManager, In, IsNull, LessThan, Or } from 'typeorm';
import { Fault } from '../errors.js';
import { changeRowIf, insertRows } from './changeRows.js';
import { gapEntity } from './gapEntity.js';
import type { CatalogReader, CatalogWriter } from './records.js';
import { stretchEntity } from './stretchEntity.js';

type StretchReads = Pick<CatalogReader, 'stretch' | 'stretchByName' | 'stretches' | 'newestStretch' | 'gaps'>;
type StretchChanges = Pick<CatalogWriter, 'insertStretch' | 'updateStretch' | 'raiseCoverage' | 'insertGap'>;

export function stretchReads(manager: EntityManager): StretchReads {
  const stretches = manager.getRepository(stretchEntity);

  return {
    stretch: (id) => stretches.findOneBy({ id }),

    stretchByName: (instanceId, name) => stretches.findOneBy({ instanceId, name }),

    stretches: (instanceIds) =>
      stretches.find({ where: { instanceId: In(instanceIds) }, order: { instanceId: 'ASC', number: 'ASC' } }),

    newestStretch: (instanceId) => stretches.findOne({ where: { instanceId }, order: { number: 'DESC' } }),

    gaps: (stretchIds) =>
      manager.find(gapEntity, {
        where: { stretchId: In(stretchIds) },
        order: { stretchId: 'ASC', from: 'ASC', id: 'ASC' },
      }),
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
      for (const [id, coveredTo] of coverage) {
        const lower = { coveredTo: Or(IsNull(), LessThan(coveredTo)) };
        await changeRowIf(manager, stretchEntity, { id }, lower, { coveredTo });
      }
    },

    async insertGap(record) {
      await insertRows(manager, gapEntity, [record]);
    },
  };
}
