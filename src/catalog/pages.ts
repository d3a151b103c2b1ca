/** Pages of a list that is ordered by a time and then by id, the newest first. */
import type { ObjectLiteral, SelectQueryBuilder } from 'typeorm';
import type { Page } from './records.js';

/**
 * Orders the query and cuts one page out of it, in one statement and through an index on (…, time, id). The page begins
 * after the row with the id `page.after`, wherever that is now; a row outside `scope` is unknown and gives nothing.
 * @param time the property of the time to order by
 * @param scope a property that says whose list it is, with its value
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
    // Comparing with nothing is never true: an unknown id gives an empty page.
    query.andWhere(
      `(${row}.${time}, ${row}.id) < (SELECT "cursor"."${time}", "cursor"."id" FROM "${table}" "cursor" WHERE "cursor"."id" = :after AND "cursor"."${property}" = :scope)`,
      { after: page.after, scope: value },
    );
  }
  return query.orderBy(`${row}.${time}`, 'DESC').addOrderBy(`${row}.id`, 'DESC').limit(page.first).getMany();
}
