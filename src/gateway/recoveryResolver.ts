/** Recoveries: queries, the fields that need a look-up, and what starts and cancels them. */
import { Arg, Ctx, FieldResolver, ID, Int, Mutation, Query, Resolver, Root } from 'type-graphql';
import type { Instant } from '../instant.js';
import type { RecoveryState as RecoveryStateName } from '../model.js';
import { checkId, checkName, checkPage, checkTarget, distinct, isId, notFound, optionalText } from './arguments.js';
import type { GatewayContext } from './context.js';
import { RecoveryState } from './enums.js';
import { DatabaseInstance } from './instanceTypes.js';
import { presentInstance, presentRecovery, presentStep } from './present.js';
import { Recovery, RecoveryStep } from './recoveryTypes.js';
import { RequiresRole } from './roles.js';
import { DateTime } from './scalars.js';

@Resolver(() => Recovery)
export class RecoveryResolver {
  @RequiresRole('reader')
  @Query(() => Recovery, { nullable: true, description: 'One recovery; null if unknown.' })
  recovery(
    @Ctx() context: GatewayContext,
    @Arg('id', () => ID, { description: 'Its id.' }) id: string,
  ): Promise<Recovery | null> {
    return findRecovery(context, id);
  }

  @RequiresRole('reader')
  @Query(() => [Recovery], { description: 'Newest first.' })
  async recoveries(
    @Ctx() { services, caller }: GatewayContext,
    @Arg('instanceId', () => ID, { nullable: true, description: 'Only those from this instance.' })
    instanceId: string | null | undefined,
    @Arg('states', () => [RecoveryState], { nullable: true, description: 'Only those in one of these states.' })
    states: RecoveryStateName[] | null | undefined,
    @Arg('first', () => Int, { defaultValue: 50, description: 'How many, 1 to 500.' }) first: number,
    @Arg('after', () => ID, { nullable: true, description: 'The id of the last item of the page before.' })
    after?: string | null,
  ): Promise<Recovery[]> {
    const sourceId = typeof instanceId === 'string' ? checkId('instance', instanceId) : null;
    const filter = { sourceId, states: states ? distinct(states) : null };
    return (await services.recoveries.list(caller, filter, checkPage(first, after))).map(presentRecovery);
  }

  @FieldResolver(() => DatabaseInstance, { description: 'The instance recovered from; it is never changed.' })
  async source(@Root() { sourceId }: Recovery, @Ctx() { load, caller }: GatewayContext): Promise<DatabaseInstance> {
    const record = await load.instance(sourceId);
    if (!record) throw notFound('instance', sourceId);
    return presentInstance(record, caller);
  }

  @FieldResolver(() => DatabaseInstance, {
    nullable: true,
    description: 'The new instance; null until it is reserved, and again after a clean undo.',
  })
  async instance(
    @Root() { targetId }: Recovery,
    @Ctx() { load, caller }: GatewayContext,
  ): Promise<DatabaseInstance | null> {
    const record = targetId === null ? null : await load.instance(targetId);
    return record && presentInstance(record, caller);
  }

  @FieldResolver(() => [RecoveryStep], { description: 'Its steps, in the order in which they run.' })
  async steps(@Root() { id }: Recovery, @Ctx() { load }: GatewayContext): Promise<RecoveryStep[]> {
    return ((await load.steps(id)) ?? []).map(presentStep);
  }

  @RequiresRole('operator')
  @Mutation(() => Recovery, {
    description:
      "Recovers into a new instance with the source's attributes: the log prefix that ends just before the first transaction, in log order, not provably committed by pointInTime (or that ends at `position`); the latest recoverable point where neither is given. Answers at once, before the work. Refused with INSTANCE_NOT_FOUND, TARGET_TOO_EARLY, TARGET_TOO_LATE, TARGET_IN_LOG_GAP, NO_BACKUP, IDEMPOTENCY_CONFLICT or QUOTA_EXCEEDED.",
  })
  async recoverInstance(
    @Ctx() { services, caller }: GatewayContext,
    @Arg('instanceId', () => ID, { description: 'The instance to recover from; deleted ones too.' })
    instanceId: string,
    @Arg('pointInTime', () => DateTime, { nullable: true, description: 'Recover everything committed by then.' })
    pointInTime?: Instant | null,
    @Arg('position', () => String, {
      nullable: true,
      description: "Or recover up to this position of the engine's own log.",
    })
    position?: string | null,
    @Arg('name', () => String, {
      nullable: true,
      description: "The new instance's name, 1 to 255 characters; the source's with a suffix where left out.",
    })
    name?: string | null,
    @Arg('idempotencyKey', () => String, {
      nullable: true,
      description:
        '1 to 255 characters, never used again for anything else: the same call with the same key answers with the same recovery, whatever its state.',
    })
    idempotencyKey?: string | null,
  ): Promise<Recovery> {
    const record = await services.recoveries.recover(caller, {
      instanceId: checkId('instance', instanceId),
      target: checkTarget(pointInTime, position),
      name: name === null || name === undefined ? null : checkName(name),
      idempotencyKey: optionalText('idempotencyKey', idempotencyKey, 255),
    });
    return presentRecovery(record);
  }

  @RequiresRole('operator')
  @Mutation(() => Recovery, {
    description:
      'Stops a recovery and undoes it; on a STUCK one the undo is tried again. Refused with RECOVERY_NOT_FOUND, or NOT_CANCELLABLE once it is over or being activated.',
  })
  async cancelRecovery(
    @Ctx() { services, caller }: GatewayContext,
    @Arg('id', () => ID, { description: 'The recovery to cancel.' }) id: string,
  ): Promise<Recovery> {
    return presentRecovery(await services.recoveries.cancel(caller, checkId('recovery', id)));
  }
}

export async function findRecovery({ load }: GatewayContext, id: string): Promise<Recovery | null> {
  const record = isId(id) ? await load.recovery(id) : null;
  return record && presentRecovery(record);
}
