/** Inserts and changes by primary key, for every table alike. */
import type { EntityManager, EntitySchema, ObjectLiteral } from 'typeorm';
import { Fault } from '../errors.js';

export async function insertRows<Row extends ObjectLiteral>(
  manager: EntityManager,
  entity: EntitySchema<Row>,
  rows: readonly Row[],
): Promise<void> {
  // Without updateEntity(false), TypeORM would write into the caller's records.
  const insert = manager.createQueryBuilder().insert().into(entity).updateEntity(false);
  await insert.values(rows as never).execute();
}

/**
 * Changes one row; what is undefined stays as it is.
 * @throws Fault INTERNAL where there is no such row
 */
export async function changeRow<Row extends ObjectLiteral>(
  manager: EntityManager,
  entity: EntitySchema<Row>,
  key: NoInfer<Partial<Row>>,
  change: NoInfer<Partial<Row>>,
): Promise<void> {
  if (!(await changeRowIf(manager, entity, key, {}, change))) throw noSuchRow(entity, key);
}

/**
 * Changes one row if it still is as `condition` says; false where it is not.
 * @throws Fault INTERNAL where there is no such row
 */
export async function changeRowIf<Row extends ObjectLiteral>(
  manager: EntityManager,
  entity: EntitySchema<Row>,
  key: NoInfer<Partial<Row>>,
  condition: object,
  change: NoInfer<Partial<Row>>,
): Promise<boolean> {
  const where = { ...key, ...condition } as never;
  if (Object.values(change).every((value) => value === undefined)) {
    if (await manager.existsBy(entity, where)) return true;
  } else {
    const update = manager
      .createQueryBuilder()
      .update(entity)
      .set(change as never);
    if ((await update.where(where).execute()).affected === 1) return true;
  }
  if (await manager.existsBy(entity, key as never)) return false;
  throw noSuchRow(entity, key);
}

export function noSuchRow(entity: EntitySchema, key: object): Fault {
  return new Fault('INTERNAL', `The catalog has no ${entity.options.name} ${Object.values(key).join(' ')}`);
}
