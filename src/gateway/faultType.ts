/** RecoveryFault: a Fault as data, on recoveries, their steps, backups and dry runs. */
import { Field, ObjectType } from 'type-graphql';
import type { JsonObject } from '../errors.js';
import type { Instant } from '../instant.js';
import { DateTime, JsonValue } from './scalars.js';

@ObjectType({
  description: 'Why something was refused or failed, in the same terms as the extensions of a GraphQL error.',
  simpleResolvers: true,
})
export class RecoveryFault {
  @Field(() => String, { description: 'Stable, for programs: TARGET_IN_LOG_GAP, STORAGE_FULL and so on.' })
  code!: string;

  @Field(() => String, { description: 'One sentence for people: what happened.' })
  message!: string;

  @Field(() => String, { nullable: true, description: 'A whole sentence naming the next thing to do.' })
  hint!: string | null;

  @Field(() => Boolean, { description: 'Whether the same call can succeed later without being changed.' })
  retryable!: boolean;

  @Field(() => DateTime, { nullable: true, description: 'The earliest instant that can be recovered to.' })
  earliest!: Instant | null;

  @Field(() => DateTime, { nullable: true, description: 'The latest instant that can be recovered to.' })
  latest!: Instant | null;

  @Field(() => DateTime, {
    nullable: true,
    description: 'The last recoverable instant before the one asked for, where that lies in a gap.',
  })
  nearestBefore!: Instant | null;

  @Field(() => DateTime, {
    nullable: true,
    description: 'The first recoverable instant after the one asked for, where that lies in a gap.',
  })
  nearestAfter!: Instant | null;

  @Field(() => JsonValue, { nullable: true, description: 'Further facts that a program can act on, by name.' })
  details!: JsonObject | null;
}
