/** Pages of a list that is ordered by a time and then by id, the newest first. */
import type { ObjectLiteral, SelectQueryBuilder } from 'typeorm';
import { invalidArgument } from '../errors.js';
import type { Page } from './records.js';

/**
 * Orders the query and cuts one page out of it, in one statement and through an index on (…, time, id). The page begins
 * after the row with the id `page.after`, wherever that is now; a row outside `scope` is unknown.
 * @param time the property of the time to order by
 * @param scope a property that says whose list it is, with its value
 * @throws Fault INVALID_ARGUMENT (after) where there is no such row, so that nobody takes an end for the end of the list
 */
export async function newestFirst<Row extends ObjectLiteral>(
  query: SelectQueryBuilder<Row>,
  time: string,
  scope: [property: string, value: string],
  page: Page,
): Promise<Row[]> {
  // TypeORM takes a limit of 0 for none.
  if (page.first < 1) return [];
  const row = query.alias;
  if (page.after !== null) {
    const [property, value] = scope;
    const table = query.expressionMap.mainAlias?.metadata.tableName;
    // Comparing with nothing is never true: an unknown id finds nothing.
    query.andWhere(
      `(${row}.${time}, ${row}.id) < (SELECT "cursor"."${time}", "cursor"."id" FROM "${table}" "cursor" WHERE "cursor"."id" = :after AND "cursor"."${property}" = :scope)`,
      { after: page.after, scope: value },
    );
  }
  const rows = await query
    .orderBy(`${row}.${time}`, 'DESC')
    .addOrderBy(`${row}.id`, 'DESC')
    .limit(page.first)
    .getMany();
  if (rows.length === 0 && page.after !== null) await requireRow(query, page.after, scope);
  return rows;
}

async function requireRow<Row extends ObjectLiteral>(
  query: SelectQueryBuilder<Row>,
  id: string,
  [property, value]: [property: string, value: string],
): Promise<void> {
  const { target } = query.expressionMap.mainAlias?.metadata ?? {};
  if (target && (await query.connection.manager.existsBy(target, { id, [property]: value }))) return;
  throw invalidArgument(
    'after',
    `The list has no ${id} to go on after`,
    'It may be gone. Begin with the first page again.',
  );
}
