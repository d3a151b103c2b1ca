/** Recovery, its steps, and its progress. */
import { Field, Float, ID, Int, ObjectType } from 'type-graphql';
import type { Instant } from '../instant.js';
import type {
  RecoveryState as RecoveryStateName,
  RecoveryStepName as StepName,
  StepState as StepStateName,
} from '../model.js';
import { RecoveryState, RecoveryStepName, StepState } from './enums.js';
import { RecoveryFault } from './faultType.js';
import { RecoveryCut, RecoveryPlan } from './planTypes.js';
import { BigIntNumber, DateTime } from './scalars.js';

@ObjectType({ description: 'One step of a recovery.', simpleResolvers: true })
export class RecoveryStep {
  @Field(() => RecoveryStepName, { description: 'Which step it is.' })
  name!: StepName;

  @Field(() => StepState, { description: 'What became of it.' })
  state!: StepStateName;

  @Field(() => Int, { description: 'How often it was begun; more than 1 after a restart or a retry.' })
  attempts!: number;

  @Field(() => DateTime, { nullable: true, description: 'When it was first begun; null before that.' })
  startedAt!: Instant | null;

  @Field(() => DateTime, { nullable: true, description: 'When it ended, well or not; null before that.' })
  finishedAt!: Instant | null;

  @Field(() => RecoveryFault, { nullable: true, description: 'Why it, or its undo, failed; null otherwise.' })
  error!: RecoveryFault | null;
}

@ObjectType({ description: 'How far a recovery has come.', simpleResolvers: true })
export class RecoveryProgress {
  @Field(() => ID, { description: 'The recovery it is about.' })
  recoveryId!: string;

  @Field(() => Int, {
    description: 'Rises with every event of a recovery, across reconnects and restarts; may skip.',
  })
  sequence!: number;

  @Field(() => RecoveryState, { description: 'The state at this moment.' })
  state!: RecoveryStateName;

  @Field(() => RecoveryStepName, { nullable: true, description: 'The step being done; null before the first.' })
  step!: StepName | null;

  @Field(() => Float, { description: '0 to 100 for the whole recovery; never falls.' })
  percent!: number;

  @Field(() => BigIntNumber, { description: 'Stored bytes read so far.' })
  bytesDone!: number;

  @Field(() => BigIntNumber, { nullable: true, description: 'Stored bytes to read in all; null while not known.' })
  bytesTotal!: number | null;

  @Field(() => DateTime, {
    nullable: true,
    description: "How far into the database's own time the replay has come.",
  })
  replayedTo!: Instant | null;

  @Field(() => Float, { nullable: true, description: 'Seconds that are left, estimated; null while not known.' })
  etaSeconds!: number | null;

  @Field(() => String, { nullable: true, description: 'What is going on, in a few words for people.' })
  message!: string | null;

  @Field(() => DateTime, { description: 'The moment this progress describes.' })
  at!: Instant;
}

@ObjectType({ description: 'One execution of a recovery plan.', simpleResolvers: true })
export class Recovery {
  @Field(() => ID, { description: 'For ever the same.' })
  id!: string;

  @Field(() => RecoveryState, { description: 'What it is doing, or what became of it.' })
  state!: RecoveryStateName;

  @Field(() => DateTime, { nullable: true, description: 'The instant that was asked for, if one was.' })
  requestedPointInTime!: Instant | null;

  @Field(() => String, { nullable: true, description: 'The position that was asked for, if one was.' })
  requestedPosition!: string | null;

  @Field(() => DateTime, { description: 'The closest point that exists at or before the requested one.' })
  closestPointInTime!: Instant;

  @Field(() => RecoveryCut, {
    nullable: true,
    description: 'What was really found in the recovered data, set when it is verified.',
  })
  recoveredTo!: RecoveryCut | null;

  @Field(() => RecoveryPlan, { description: 'How it is done; the same from its first moment to its last.' })
  plan!: RecoveryPlan;

  @Field(() => RecoveryProgress, { description: 'How far it has come.' })
  progress!: RecoveryProgress;

  @Field(() => RecoveryFault, { nullable: true, description: 'Why it failed or is stuck; null otherwise.' })
  error!: RecoveryFault | null;

  @Field(() => DateTime, { description: 'When it was asked for.' })
  createdAt!: Instant;

  @Field(() => DateTime, { nullable: true, description: 'When its first step began; null before that.' })
  startedAt!: Instant | null;

  @Field(() => DateTime, { nullable: true, description: 'When it came to its end; null before that.' })
  finishedAt!: Instant | null;

  /** Not in the schema: what the nested fields are looked up by. */
  sourceId!: string;
  targetId!: string | null;
}
