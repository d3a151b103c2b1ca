/** Where a recovery stops and how it will be done: RecoveryCut, RecoveryPlan, and the answer of a dry run. */
import { Field, Int, ObjectType } from 'type-graphql';
import type { Instant } from '../instant.js';
import type { RecoveryPlan as PlanRecord } from '../model.js';
import { RecoveryFault } from './faultType.js';
import { BigIntNumber, DateTime } from './scalars.js';

@ObjectType({ description: 'Where a recovery stops, as exactly as the engine can tell.', simpleResolvers: true })
export class RecoveryCut {
  @Field(() => String, { description: 'The position just after the last transaction kept.' })
  position!: string;

  @Field(() => DateTime, {
    nullable: true,
    description:
      "When the last kept transaction committed: not before this, and not after lastKeptAt; equal where the engine's log says it exactly; null where none was committed after the base.",
  })
  lastKeptNotBefore!: Instant | null;

  @Field(() => DateTime, {
    nullable: true,
    description: 'The latest that the last kept transaction committed; null where none was committed after the base.',
  })
  lastKeptAt!: Instant | null;

  @Field(() => DateTime, {
    nullable: true,
    description: 'When the first transaction left out committed; null where there is none yet.',
  })
  firstDroppedAt!: Instant | null;
}

@ObjectType({ description: 'How a recovery will be done. Decided once and never changed.', simpleResolvers: true })
export class RecoveryPlan {
  @Field(() => DateTime, { nullable: true, description: 'The instant that was asked for, if one was.' })
  requestedPointInTime!: Instant | null;

  @Field(() => String, { nullable: true, description: 'The position that was asked for, if one was.' })
  requestedPosition!: string | null;

  @Field(() => RecoveryCut, { description: 'Where exactly the recovery stops.' })
  cut!: RecoveryCut;

  @Field(() => DateTime, {
    description:
      "The closest point that exists at or before the requested one: the cut's lastKeptAt, or the base's consistentAt where nothing was committed after it.",
  })
  closestPointInTime!: Instant;

  @Field(() => Int, { description: 'How many pieces of log are replayed.' })
  logSegments!: number;

  @Field(() => BigIntNumber, { description: 'Stored bytes of everything that will be read.' })
  bytesToFetch!: number;

  @Field(() => BigIntNumber, { description: 'Bytes of log to replay, before compression.' })
  logBytes!: number;

  /** Not in the schema: what the nested fields are looked up by, and the plan itself for its estimate. */
  instanceId!: string;
  baseId!: string;
  incrementalIds!: string[];
  record!: PlanRecord;
}

@ObjectType({ description: 'The answer of a dry run: exactly one of the two.', simpleResolvers: true })
export class RecoveryAssessment {
  @Field(() => RecoveryPlan, { nullable: true, description: 'What recoverInstance would do now; null where refused.' })
  plan!: RecoveryPlan | null;

  @Field(() => RecoveryFault, {
    nullable: true,
    description:
      'Why recoverInstance would be refused, with the nearest recoverable instants; null where it would not.',
  })
  fault!: RecoveryFault | null;
}
