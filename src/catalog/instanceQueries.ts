/** Reads and changes of instances. Their connection URIs are sealed on the way in and opened on the way out. */
import { type EntityManager, In, IsNull } from 'typeorm';
import { changeRow, insertRows } from './changeRows.js';
import { instanceEntity } from './instanceEntity.js';
import { newestFirst } from './pages.js';
import type { CatalogReader, CatalogWriter, InstanceRecord } from './records.js';
import type { Sealer } from './seal.js';

type InstanceReads = Pick<
  CatalogReader,
  'instance' | 'instancesByIds' | 'instances' | 'instancesInStates' | 'instanceByIdentity' | 'instanceByEndpoint'
>;
type InstanceChanges = Pick<CatalogWriter, 'insertInstance' | 'updateInstance' | 'deleteInstance'>;

export function instanceReads(manager: EntityManager, secrets: Sealer): InstanceReads {
  const instances = manager.getRepository(instanceEntity);

  function opened(row: InstanceRecord): InstanceRecord {
    return { ...row, connectionUri: row.connectionUri === null ? null : secrets.open(row.connectionUri, row.id) };
  }

  return {
    async instance(id) {
      const row = await instances.findOneBy({ id });
      return row && opened(row);
    },

    async instancesByIds(ids) {
      return (await instances.findBy({ id: In(ids) })).map(opened);
    },

    async instances({ tenantId, includeDeleted }, page) {
      const query = instances.createQueryBuilder('instance').where({ tenantId });
      if (!includeDeleted) query.andWhere({ deletedAt: IsNull() });
      return (await newestFirst(query, 'createdAt', ['tenantId', tenantId], page)).map(opened);
    },

    async instancesInStates(states) {
      const rows = await instances.find({ where: { state: In(states) }, order: { createdAt: 'ASC', id: 'ASC' } });
      return rows.map(opened);
    },

    async instanceByIdentity(datastore, identity) {
      const row = await instances.findOneBy({ datastore, identity, deletedAt: IsNull() });
      return row && opened(row);
    },

    async instanceByEndpoint(datastore, endpoint) {
      const row = await instances.findOneBy({ datastore, endpoint, deletedAt: IsNull() });
      return row && opened(row);
    },
  };
}

export function instanceChanges(manager: EntityManager, secrets: Sealer): InstanceChanges {
  function sealed<Change extends Partial<InstanceRecord>>(change: Change, id: string): Change {
    // A missing or null URI stays what it is.
    return change.connectionUri ? { ...change, connectionUri: secrets.seal(change.connectionUri, id) } : change;
  }

  return {
    async insertInstance(record) {
      await insertRows(manager, instanceEntity, [sealed(record, record.id)]);
    },

    async updateInstance(id, change) {
      await changeRow(manager, instanceEntity, { id }, sealed(change, id));
    },

    async deleteInstance(id) {
      await changeRow(manager, instanceEntity, { id }, {});
      await manager.delete(instanceEntity, { id });
    },
  };
}
