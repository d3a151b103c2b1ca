/** Recoveries, in the three forms that were thought of for Trove: the blueprint's, its counter-proposal's, and today's. */
import type { FastifyInstance } from 'fastify';
import type { InstanceRecord, RecoveryRecord } from '../../catalog/records.js';
import { Fault, invalidArgument } from '../../errors.js';
import type { RecoveryTarget } from '../../model.js';
import { findBackup } from './backups.js';
import { type Answering, existingInstance, idIn, type TroveContext } from './context.js';
import { objectIn, optionalTextIn, optionalTimeIn, present, textIn } from './requests.js';
import { recoveryShape } from './shapes.js';

export interface Started {
  recovery: RecoveryRecord;
  source: InstanceRecord;
}

export function serveRecoveries(scope: FastifyInstance, answer: Answering): void {
  scope.post(
    '/instances/:id/restore',
    answer('operator', async (context, request, reply) => {
      const id = idIn(request);
      const wanted = objectIn(request.body, 'recovery', ['instance', 'point_in_time']);
      if ((optionalTextIn(wanted, 'instance') ?? id) !== id) {
        throw invalidArgument('instance', 'The body names another instance than the address');
      }
      const target = { pointInTime: optionalTimeIn(wanted, 'point_in_time'), position: null };
      const { recovery, source } = await recover(context, await existingInstance(context, id), target, null);
      return reply.code(202).send({ recovery: recoveryShape(recovery, source, context) });
    }),
  );
}

/**
 * What a restorePoint asks for: an instant of an instance, its latest point, or exactly the state in a backup, which is
 * named by its position in the log because several transactions can share one instant.
 * @param said the datastore that the new instance is to have, where the request names one; it can only be its source's
 */
export async function recoverToRestorePoint(
  context: TroveContext,
  instance: Record<string, unknown>,
  name: string,
  said: { type: string | null; version: string | null },
): Promise<Started> {
  const point = objectIn(instance, 'restorePoint', ['backupRef', 'instanceRef', 'point_in_time']);
  const backupRef = optionalTextIn(point, 'backupRef');
  if ((backupRef === null) === (optionalTextIn(point, 'instanceRef') === null)) {
    throw invalidArgument('restorePoint', 'restorePoint has to name either a backupRef or an instanceRef');
  }
  if (backupRef !== null && present(point.point_in_time)) {
    throw invalidArgument('point_in_time', 'A backup is restored as it is', 'For an instant give the instanceRef.');
  }
  const { sourceId, target } =
    backupRef === null
      ? {
          sourceId: textIn(point, 'instanceRef'),
          target: { pointInTime: optionalTimeIn(point, 'point_in_time'), position: null },
        }
      : await endOfBackup(context, backupRef);
  const source = await existingInstance(context, sourceId);
  const { datastore, datastoreVersion } = source;
  if ((said.type ?? datastore) !== datastore || (said.version ?? datastoreVersion) !== datastoreVersion) {
    throw invalidArgument('datastore', `What is restored is ${datastore} ${datastoreVersion} and stays it`);
  }
  return recover(context, source, target, name);
}

async function endOfBackup(context: TroveContext, id: string): Promise<{ sourceId: string; target: RecoveryTarget }> {
  const { state, consistentText, instanceId } = await findBackup(context, id);
  if (state === 'COMPLETED' && consistentText !== null) {
    return { sourceId: instanceId, target: { pointInTime: null, position: consistentText } };
  }
  if (state === 'RUNNING') {
    throw new Fault('BACKUP_IN_USE', 'The backup is still being taken', { hint: 'Restore it when it is COMPLETED.' });
  }
  throw new Fault('NO_BACKUP', 'Nothing of this backup can be restored', { hint: 'Choose one that is COMPLETED.' });
}

async function recover(
  { services, caller }: TroveContext,
  source: InstanceRecord,
  target: RecoveryTarget,
  name: string | null,
): Promise<Started> {
  const input = { instanceId: source.id, target, name, idempotencyKey: null };
  return { recovery: await services.recoveries.recover(caller, input), source };
}
