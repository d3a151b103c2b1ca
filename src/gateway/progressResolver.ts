/** The subscription to a recovery's progress, and the way back from a progress to its recovery. */
import { Arg, Ctx, FieldResolver, ID, Resolver, Root, Subscription } from 'type-graphql';
import type { ProgressEvent } from '../services.js';
import { abortable } from './abortable.js';
import { checkId, notFound } from './arguments.js';
import type { GatewayContext } from './context.js';
import { presentProgress, presentRecovery } from './present.js';
import { Recovery, RecoveryProgress } from './recoveryTypes.js';
import { RequiresRole } from './roles.js';

@Resolver(() => RecoveryProgress)
export class ProgressResolver {
  @RequiresRole('reader')
  @Subscription(() => RecoveryProgress, {
    subscribe: ({ args, context }) => watch(context as GatewayContext, String(args.recoveryId)),
    description:
      'The present progress at once; then every change of state or step and the last event, always; byte updates at most ten a second, coalesced for slow readers. Completes after SUCCEEDED, FAILED, CANCELLED or STUCK. Refused with RECOVERY_NOT_FOUND.',
  })
  recoveryProgress(
    @Root() event: ProgressEvent,
    @Arg('recoveryId', () => ID, { description: 'The recovery to watch.' }) _recoveryId: string,
  ): RecoveryProgress {
    return presentProgress(event);
  }

  @FieldResolver(() => Recovery, { description: 'The recovery it is about, as it is now.' })
  async recovery(@Root() { recoveryId }: RecoveryProgress, @Ctx() { load }: GatewayContext): Promise<Recovery> {
    const record = await load.recovery(recoveryId);
    if (!record) throw notFound('recovery', recoveryId);
    return presentRecovery(record);
  }
}

/**
 * Refused before anything is streamed: such a refusal is an ordinary answer with errors, which a federated gateway hands
 * on, while what ends a stream it may mask.
 */
async function watch({ services, caller, load }: GatewayContext, recoveryId: string) {
  const id = checkId('recovery', recoveryId);
  if ((await load.recovery(id)) === null) throw notFound('recovery', id);
  return abortable((signal) => services.recoveries.watch(caller, id, signal));
}
