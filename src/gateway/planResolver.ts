/** Plans: the dry run, and the fields of a plan that need a look-up. */
import { Arg, Ctx, FieldResolver, Float, ID, Query, Resolver, Root } from 'type-graphql';
import type { Instant } from '../instant.js';
import { checkId, checkTarget, notFound } from './arguments.js';
import { DatabaseBackup } from './backupTypes.js';
import type { GatewayContext } from './context.js';
import { DatabaseInstance } from './instanceTypes.js';
import { RecoveryAssessment, RecoveryPlan } from './planTypes.js';
import { presentAssessment, presentBackup, presentInstance } from './present.js';
import { RequiresRole } from './roles.js';
import { DateTime } from './scalars.js';

@Resolver(() => RecoveryPlan)
export class PlanResolver {
  @RequiresRole('reader')
  @Query(() => RecoveryAssessment, {
    description:
      'A dry run of recoverInstance: the same checks and the same decision, nothing done. A refusal is data, not an error; only INSTANCE_NOT_FOUND and arguments that cannot be read are errors. A position that means nothing in this log is a refusal.',
  })
  async recoveryPlan(
    @Ctx() { services, caller }: GatewayContext,
    @Arg('instanceId', () => ID, { description: 'The instance to recover from; deleted ones too.' })
    instanceId: string,
    @Arg('pointInTime', () => DateTime, { nullable: true, description: 'Recover everything committed by then.' })
    pointInTime?: Instant | null,
    @Arg('position', () => String, {
      nullable: true,
      description: "Or recover up to this position of the engine's own log. Neither: the latest recoverable point.",
    })
    position?: string | null,
  ): Promise<RecoveryAssessment> {
    const id = checkId('instance', instanceId);
    return presentAssessment(await services.recoveries.assess(caller, id, checkTarget(pointInTime, position)));
  }

  @FieldResolver(() => DatabaseInstance, { description: 'The instance to recover from.' })
  async instance(
    @Root() { instanceId }: RecoveryPlan,
    @Ctx() { load, caller }: GatewayContext,
  ): Promise<DatabaseInstance> {
    const record = await load.instance(instanceId);
    if (!record) throw notFound('instance', instanceId);
    return presentInstance(record, caller);
  }

  @FieldResolver(() => DatabaseBackup, { description: 'The full backup it starts from.' })
  base(@Root() { baseId }: RecoveryPlan, @Ctx() context: GatewayContext): Promise<DatabaseBackup> {
    return backupOf(context, baseId);
  }

  @FieldResolver(() => [DatabaseBackup], {
    description: 'The backups that stand on the base, in the order in which they are applied.',
  })
  incrementals(@Root() { incrementalIds }: RecoveryPlan, @Ctx() context: GatewayContext): Promise<DatabaseBackup[]> {
    return Promise.all(incrementalIds.map((id) => backupOf(context, id)));
  }

  @FieldResolver(() => Float, {
    nullable: true,
    description: "In seconds, from this installation's own measured rates; null until there are any.",
  })
  estimatedSeconds(
    @Root() { record }: RecoveryPlan,
    @Ctx() { services, caller }: GatewayContext,
  ): Promise<number | null> {
    return services.recoveries.estimateSeconds(caller, record);
  }
}

async function backupOf({ load }: GatewayContext, id: string): Promise<DatabaseBackup> {
  const record = await load.backup(id);
  if (!record) throw notFound('backup', id);
  return presentBackup(record);
}
