/** The table `outbox`: events, written with what they tell of and kept for some days after. */
import { EntitySchema } from 'typeorm';
import { instantColumn, nullable, oneOf, primary, small, text } from './columns.js';
import { type OutboxRecord, outboxStates } from './records.js';

export const outboxEntity = new EntitySchema<OutboxRecord>({
  name: 'Outbox',
  tableName: 'outbox',
  columns: {
    id: primary(text),
    tenantId: text,
    type: text,
    body: text,
    state: text,
    attempts: small,
    dueAt: instantColumn,
    lastError: nullable(text),
    createdAt: instantColumn,
  },
  checks: [
    { name: 'outbox_state', expression: oneOf('state', outboxStates) },
    { name: 'outbox_attempts', expression: '"attempts" >= 0' },
  ],
  indices: [
    { name: 'outbox_due', columns: ['state', 'dueAt', 'id'] },
    { name: 'outbox_oldest', columns: ['createdAt'] },
  ],
});
