/** Reads and changes of the outbox. */
import { type EntityManager, LessThan, LessThanOrEqual } from 'typeorm';
import type { Instant } from '../instant.js';
import { changeRow, insertRows } from './changeRows.js';
import { outboxEntity } from './outboxEntity.js';
import type { CatalogReader, CatalogWriter } from './records.js';

type OutboxReads = Pick<CatalogReader, 'dueOutbox' | 'outboxBacklog'>;
type OutboxChanges = Pick<CatalogWriter, 'insertOutbox' | 'updateOutbox' | 'pruneOutbox'>;

export function outboxReads(manager: EntityManager): OutboxReads {
  return {
    dueOutbox: (by, limit) =>
      manager.find(outboxEntity, {
        where: { state: 'WAITING', dueAt: LessThanOrEqual(by) },
        order: { dueAt: 'ASC', id: 'ASC' },
        take: limit,
      }),

    async outboxBacklog() {
      const row = await manager
        .createQueryBuilder(outboxEntity, 'event')
        .select('COUNT(*)', 'waiting')
        .addSelect('MIN(event.dueAt)', 'nextDueAt')
        .addSelect('MIN(event.createdAt)', 'oldestAt')
        .where({ state: 'WAITING' })
        .getRawOne<Record<'waiting' | 'nextDueAt' | 'oldestAt', number | string | null>>();
      const instant = (value: number | string | null | undefined) =>
        value == null ? null : (Number(value) as Instant);
      return {
        waiting: Number(row?.waiting ?? 0),
        nextDueAt: instant(row?.nextDueAt),
        oldestAt: instant(row?.oldestAt),
      };
    },
  };
}

export function outboxChanges(manager: EntityManager): OutboxChanges {
  return {
    insertOutbox: (record) => insertRows(manager, outboxEntity, [record]),

    updateOutbox: (id, change) => changeRow(manager, outboxEntity, { id }, change),

    async pruneOutbox(createdBefore) {
      await manager.delete(outboxEntity, { createdAt: LessThan(createdBefore) });
    },
  };
}
