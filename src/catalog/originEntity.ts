/** The table `recovery_origins`: which request asked for a recovery. Older recoveries have none. */
import { EntitySchema } from 'typeorm';
import { nullable, primary, text } from './columns.js';
import type { RecoveryOriginRecord } from './records.js';

export const originEntity = new EntitySchema<RecoveryOriginRecord>({
  name: 'RecoveryOrigin',
  tableName: 'recovery_origins',
  columns: { recoveryId: primary(text), requestId: text, traceparent: nullable(text) },
  foreignKeys: [
    {
      name: 'fk_recovery_origins_recovery',
      target: 'Recovery',
      columnNames: ['recoveryId'],
      referencedColumnNames: ['id'],
    },
  ],
});
