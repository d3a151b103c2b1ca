/** The table `recovery_steps`: how far each step of each recovery is, and what it produced. */
import { EntitySchema } from 'typeorm';
import { recoverySteps, stepStates } from '../model.js';
import { instantColumn, json, nullable, oneOf, primary, small, text } from './columns.js';
import type { StepRecord } from './records.js';

export const stepEntity = new EntitySchema<StepRecord>({
  name: 'Step',
  tableName: 'recovery_steps',
  columns: {
    recoveryId: primary(text),
    name: primary(text),
    state: text,
    attempts: small,
    startedAt: nullable(instantColumn),
    finishedAt: nullable(instantColumn),
    error: nullable(json),
    output: nullable(json),
  },
  foreignKeys: [
    {
      name: 'fk_recovery_steps_recovery',
      target: 'Recovery',
      columnNames: ['recoveryId'],
      referencedColumnNames: ['id'],
    },
  ],
  checks: [
    { name: 'recovery_steps_name', expression: oneOf('name', recoverySteps) },
    { name: 'recovery_steps_state', expression: oneOf('state', stepStates) },
    { name: 'recovery_steps_attempts', expression: '"attempts" >= 0' },
  ],
});
