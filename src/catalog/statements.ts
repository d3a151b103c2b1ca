/**
 * Statements written out, for the few reads of which a plan makes several one after the other: TypeORM takes longer to
 * build each of them, and to take its answer apart, than SQLite to answer. Parameters are `:name`, or `:...name` for a list.
 */
import type { EntityManager, EntitySchema, ObjectLiteral } from 'typeorm';

export type Bindings = Record<string, string | number | readonly (string | number)[]>;

/** As the driver answers: no column is transformed. */
export function ask<Values>(manager: EntityManager, sql: string, parameters: Bindings): Promise<Values[]> {
  const [statement, values] = manager.connection.driver.escapeQueryWithParameters(sql, parameters, {});
  return manager.query(statement, values);
}

/** The rows of a table that `where` and what follows it choose. */
export async function rowsWhere<Row extends ObjectLiteral>(
  manager: EntityManager,
  entity: EntitySchema<Row>,
  where: string,
  parameters: Bindings,
): Promise<Row[]> {
  const { driver } = manager.connection;
  const { columns, tableName } = manager.connection.getMetadata(entity);
  const sql = `SELECT * FROM "${tableName}" WHERE ${where}`;
  const found = await ask<Record<string, unknown>>(manager, sql, parameters);
  return found.map((values) => {
    const row = {} as Row;
    for (const column of columns)
      column.setEntityValue(row, driver.prepareHydratedValue(values[column.databaseName], column));
    return row;
  });
}
