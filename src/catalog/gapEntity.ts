/** The table `log_gaps`: holes inside a stretch. */
import { EntitySchema } from 'typeorm';
import { instantColumn, nullable, oneOf, primary, text, whole } from './columns.js';
import type { GapRecord } from './records.js';

export const gapEntity = new EntitySchema<GapRecord>({
  name: 'Gap',
  tableName: 'log_gaps',
  columns: {
    id: primary(text),
    stretchId: text,
    from: instantColumn,
    to: instantColumn,
    after: nullable(whole),
    last: nullable(whole),
    because: text,
  },
  foreignKeys: [
    {
      name: 'fk_log_gaps_stretch',
      target: 'Stretch',
      columnNames: ['stretchId'],
      referencedColumnNames: ['id'],
    },
  ],
  checks: [
    { name: 'log_gaps_because', expression: oneOf('because', ['LOG_GAP', 'CORRUPT_LOG']) },
    { name: 'log_gaps_times', expression: '"from" <= "to"' },
    { name: 'log_gaps_both_ordinals', expression: '("after" IS NULL) = ("last" IS NULL)' },
    { name: 'log_gaps_ordinals', expression: '"after" >= 0 AND "after" < "last"' },
  ],
  indices: [{ name: 'log_gaps_of_stretch', columns: ['stretchId', 'from'] }],
});
