/** Reads and changes of recoveries and of their steps. */
import { type EntityManager, In } from 'typeorm';
import { type RecoveryState, recoverySteps } from '../model.js';
import { changeRow, changeRowIf, insertRows } from './changeRows.js';
import { originEntity } from './originEntity.js';
import { newestFirst } from './pages.js';
import type { CatalogReader, CatalogWriter } from './records.js';
import { recoveryEntity } from './recoveryEntity.js';
import { stepEntity } from './stepEntity.js';

type RecoveryReads = Pick<
  CatalogReader,
  | 'recovery'
  | 'recoveriesByIds'
  | 'recoveryByIdempotencyKey'
  | 'recoveries'
  | 'recoveriesInStates'
  | 'steps'
  | 'recoveryOrigin'
  | 'recoveryCounts'
>;
type RecoveryChanges = Pick<
  CatalogWriter,
  'insertRecovery' | 'insertRecoveryOrigin' | 'moveRecovery' | 'updateRecovery' | 'updateStep'
>;

export function recoveryReads(manager: EntityManager): RecoveryReads {
  const recoveries = manager.getRepository(recoveryEntity);

  return {
    recovery: (id) => recoveries.findOneBy({ id }),

    recoveriesByIds: (ids) => recoveries.findBy({ id: In(ids) }),

    recoveryByIdempotencyKey: (tenantId, key) => recoveries.findOneBy({ tenantId, idempotencyKey: key }),

    recoveries({ tenantId, sourceId, states }, page) {
      const query = recoveries.createQueryBuilder('recovery').where({ tenantId });
      if (sourceId !== null) query.andWhere({ sourceId });
      if (states !== null) query.andWhere({ state: In(states) });
      return newestFirst(query, 'createdAt', ['tenantId', tenantId], page);
    },

    recoveriesInStates: (states, limit) =>
      recoveries.find({
        where: { state: In(states) },
        order: { createdAt: 'ASC', id: 'ASC' },
        ...(limit !== undefined && { take: limit }),
      }),

    recoveryOrigin: (recoveryId) => manager.findOneBy(originEntity, { recoveryId }),

    async recoveryCounts() {
      const rows = await recoveries
        .createQueryBuilder('recovery')
        .select('recovery.state', 'state')
        .addSelect('COUNT(*)', 'count')
        .groupBy('recovery.state')
        .getRawMany<{ state: RecoveryState; count: number | string }>();
      return new Map(rows.map(({ state, count }) => [state, Number(count)]));
    },

    async steps(recoveryIds) {
      const steps = await manager.findBy(stepEntity, { recoveryId: In(recoveryIds) });
      return steps.sort(
        (a, b) =>
          Number(a.recoveryId > b.recoveryId) - Number(a.recoveryId < b.recoveryId) ||
          recoverySteps.indexOf(a.name) - recoverySteps.indexOf(b.name),
      );
    },
  };
}

export function recoveryChanges(manager: EntityManager): RecoveryChanges {
  return {
    async insertRecovery(record, steps) {
      await insertRows(manager, recoveryEntity, [record]);
      if (steps.length > 0) await insertRows(manager, stepEntity, steps);
    },

    insertRecoveryOrigin: (record) => insertRows(manager, originEntity, [record]),

    moveRecovery: (id, from, change) => changeRowIf(manager, recoveryEntity, { id }, { state: from }, change),

    updateRecovery: (id, change) => changeRow(manager, recoveryEntity, { id }, change),

    updateStep: (recoveryId, name, change) => changeRow(manager, stepEntity, { recoveryId, name }, change),
  };
}
