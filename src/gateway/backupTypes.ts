/** DatabaseBackup. */
import { Field, Float, ID, ObjectType } from 'type-graphql';
import type { Instant } from '../instant.js';
import type { BackupState as BackupStateName, BackupType as BackupTypeName } from '../model.js';
import { BackupState, BackupType } from './enums.js';
import { RecoveryFault } from './faultType.js';
import { BigIntNumber, DateTime } from './scalars.js';

@ObjectType({ description: 'A backup of an instance: what a recovery starts from.', simpleResolvers: true })
export class DatabaseBackup {
  @Field(() => ID, { description: 'For ever the same.' })
  id!: string;

  @Field(() => BackupType, { description: 'How much of the database it holds.' })
  type!: BackupTypeName;

  @Field(() => BackupState, { description: 'What it is doing, or what became of it.' })
  state!: BackupStateName;

  @Field(() => Float, { description: '0 to 100 while RUNNING.' })
  percent!: number;

  @Field(() => DateTime, { description: 'When it was begun.' })
  startedAt!: Instant;

  @Field(() => DateTime, { nullable: true, description: 'When it was stored completely; null before that.' })
  completedAt!: Instant | null;

  @Field(() => DateTime, {
    nullable: true,
    description: 'The earliest instant a recovery from this backup can reach: its end, never its start.',
  })
  consistentAt!: Instant | null;

  @Field(() => String, {
    nullable: true,
    description: "The engine's own position of consistentAt: an LSN, a GTID position, a SQLite transaction.",
  })
  position!: string | null;

  @Field(() => BigIntNumber, { nullable: true, description: 'What it holds, in bytes, before compression.' })
  sizeBytes!: number | null;

  @Field(() => BigIntNumber, { nullable: true, description: 'What it takes in storage, in bytes.' })
  storedBytes!: number | null;

  @Field(() => String, {
    nullable: true,
    description: 'SHA-256 of its manifest as stored, in lower-case hex; the manifest holds those of all its parts.',
  })
  sha256!: string | null;

  @Field(() => String, { nullable: true, description: 'Which storage holds it, without credentials.' })
  location!: string | null;

  @Field(() => DateTime, { nullable: true, description: 'When a recovery from this backup last proved itself.' })
  verifiedAt!: Instant | null;

  @Field(() => RecoveryFault, { nullable: true, description: 'Why it failed; null otherwise.' })
  error!: RecoveryFault | null;

  /** Not in the schema: what the nested fields are looked up by. */
  instanceId!: string;
  parentId!: string | null;
  madeFromId!: string | null;
}
