/** Counts what a tenant has, for its quotas; inside a write's transaction nothing can slip in between count and change. */
import type { EntityManager } from 'typeorm';
import type { Usage } from '../quotas.js';
import { backupEntity } from './backupEntity.js';
import { instanceEntity } from './instanceEntity.js';
import type { CatalogReader } from './records.js';
import { recoveryEntity } from './recoveryEntity.js';

type Numbers = Record<string, string | number | null>;

export function usageReads(manager: EntityManager): Pick<CatalogReader, 'usage'> {
  return {
    async usage(tenantId): Promise<Usage> {
      const instances = await manager
        .createQueryBuilder(instanceEntity, 'instance')
        .select('COUNT(*)', 'count')
        .addSelect('SUM(instance.volumeSizeGiB)', 'volume')
        .where('instance.tenantId = :tenantId AND instance.deletedAt IS NULL', { tenantId })
        .getRawOne<Numbers>();
      // A recovery that has not reserved its instance yet will make one as large as its source.
      const recoveries = await manager
        .createQueryBuilder(recoveryEntity, 'recovery')
        .innerJoin('Instance', 'source', 'source.id = recovery.sourceId')
        .select('COUNT(*)', 'count')
        .addSelect('SUM(CASE WHEN recovery.targetId IS NULL THEN 1 ELSE 0 END)', 'promised')
        .addSelect('SUM(CASE WHEN recovery.targetId IS NULL THEN source.volumeSizeGiB ELSE 0 END)', 'volume')
        .where('recovery.tenantId = :tenantId AND recovery.state IN (:...states)', {
          tenantId,
          states: ['QUEUED', 'RUNNING'],
        })
        .getRawOne<Numbers>();
      const backups = await manager
        .createQueryBuilder(backupEntity, 'backup')
        .innerJoin('Instance', 'instance', 'instance.id = backup.instanceId')
        .select('COUNT(*)', 'count')
        .where('instance.tenantId = :tenantId AND backup.state IN (:...states)', {
          tenantId,
          states: ['RUNNING', 'COMPLETED', 'DELETING'],
        })
        .getRawOne<Numbers>();
      return {
        instances: Number(instances?.count) + Number(recoveries?.promised),
        volumeSizeGiB: Number(instances?.volume) + Number(recoveries?.volume),
        backups: Number(backups?.count),
        recoveries: Number(recoveries?.count),
      };
    },
  };
}
