/** The table `log_stretches`: the unbroken pieces of each instance's log. */
import { EntitySchema } from 'typeorm';
import { windowBoundaries } from '../model.js';
import { instantColumn, json, nullable, oneOf, primary, text, whole } from './columns.js';
import type { StretchRecord } from './records.js';

export const stretchEntity = new EntitySchema<StretchRecord>({
  name: 'Stretch',
  tableName: 'log_stretches',
  columns: {
    id: primary(text),
    instanceId: text,
    name: text,
    number: whole,
    startsBecause: text,
    reason: text,
    startedAt: instantColumn,
    startOrdinal: whole,
    endsBecause: nullable(text),
    lastOrdinal: whole,
    lastText: text,
    coveredTo: nullable(instantColumn),
    segments: whole,
    bytes: whole,
    continuation: json,
  },
  uniques: [
    { name: 'log_stretches_name', columns: ['instanceId', 'name'] },
    { name: 'log_stretches_number', columns: ['instanceId', 'number'] },
    // What a backup's composite foreign key refers to.
    { name: 'log_stretches_of_instance', columns: ['id', 'instanceId'] },
  ],
  foreignKeys: [
    {
      name: 'fk_log_stretches_instance',
      target: 'Instance',
      columnNames: ['instanceId'],
      referencedColumnNames: ['id'],
    },
  ],
  checks: [
    { name: 'log_stretches_start', expression: oneOf('startsBecause', windowBoundaries) },
    { name: 'log_stretches_end', expression: oneOf('endsBecause', windowBoundaries) },
    { name: 'log_stretches_numbers', expression: '"number" >= 1' },
    { name: 'log_stretches_ordinals', expression: '"startOrdinal" >= 0 AND "lastOrdinal" >= "startOrdinal"' },
    { name: 'log_stretches_sums', expression: '"segments" >= 0 AND "bytes" >= 0' },
  ],
});
