/** Instances: listed, looked up, created, restored and deleted. */
import type { FastifyInstance } from 'fastify';
import { invalidArgument, type JsonObject } from '../../errors.js';
import { checkName, notFound } from '../arguments.js';
import {
  type Answering,
  checkRole,
  type FoundInstance,
  findInstance,
  idIn,
  paged,
  type TroveContext,
} from './context.js';
import { recoverToRestorePoint } from './recoveries.js';
import { objectIn, optionalObjectIn, optionalTextIn, optionalWholeIn, pageIn, present, textIn } from './requests.js';
import { expectedInstanceShape, instanceShape } from './shapes.js';

export function serveInstances(scope: FastifyInstance, answer: Answering): void {
  for (const address of ['/instances', '/instances/detail']) {
    scope.get(
      address,
      answer('reader', async (context, { query }) =>
        paged(
          'instances',
          context.root + address,
          pageIn(query),
          {},
          (page) => context.services.instances.list(context.caller, { includeDeleted: false }, page),
          (instance) => instanceShape(instance, context),
        ),
      ),
    );
  }

  scope.get(
    '/instances/:id',
    answer('reader', async (context, request) => {
      const id = idIn(request);
      return { instance: await shown(context, id, await findInstance(context, id)) };
    }),
  );

  scope.post(
    '/instances',
    answer('operator', async (context, { body }) => ({ instance: await create(context, body) })),
  );

  scope.delete(
    '/instances/:id',
    answer('operator', async (context, request, reply) => {
      const { services, caller } = context;
      const id = idIn(request);
      const { instance, recovery } = await findInstance(context, id);
      const unmade = instance === null || instance.state === 'PROVISIONING';
      if (recovery && unmade) {
        // There is nothing to delete yet: the recovery is stopped, and undoes itself.
        await services.recoveries.cancel(caller, recovery.id);
      } else {
        if (!instance || instance.state === 'DELETED') throw notFound('instance', id);
        checkRole('admin', caller);
        await services.instances.remove(caller, instance.id);
      }
      return reply.code(202).send();
    }),
  );
}

/** A recovery that was cancelled, like a deleted instance, is not there for Trove's clients. */
async function shown(context: TroveContext, id: string, { instance, recovery }: FoundInstance): Promise<JsonObject> {
  // STUCK: the half-made instance is still recorded, and only the recovery says that nothing will come of it.
  if (instance && recovery?.state !== 'STUCK') {
    if (instance.state === 'DELETED') throw notFound('instance', id);
    return instanceShape(instance, context);
  }
  const source = recovery && (await context.load.instance(recovery.sourceId));
  if (!source || recovery.state === 'CANCELLED') throw notFound('instance', id);
  return expectedInstanceShape(recovery, source, context);
}

async function create(context: TroveContext, body: unknown): Promise<JsonObject> {
  const wanted = objectIn(body, 'instance', ['name', 'flavorRef', 'volume', 'datastore', 'restorePoint', 'access']);
  const name = checkName(textIn(wanted, 'name'));
  const flavor = optionalTextIn(wanted, 'flavorRef');
  const volumeSizeGiB = optionalWholeIn(optionalObjectIn(wanted, 'volume', ['size']) ?? {}, 'size');
  const datastore = optionalObjectIn(wanted, 'datastore', ['type', 'version', 'version_number']) ?? {};
  const version = optionalTextIn(datastore, 'version', 64) ?? optionalTextIn(datastore, 'version_number', 64);
  refuseAccess(wanted);

  if (present(wanted.restorePoint)) {
    const said = { type: optionalTextIn(datastore, 'type', 64), version };
    const { recovery, source } = await recoverToRestorePoint(context, wanted, name, said);
    return expectedInstanceShape(recovery, source, context);
  }
  // Recovering is an operator's work, creating is not.
  checkRole('admin', context.caller);
  const created = await context.services.instances.create(context.caller, {
    id: null,
    name,
    datastore: textIn(datastore, 'type', 64),
    datastoreVersion: version,
    flavor,
    volumeSizeGiB,
  });
  return instanceShape(created, context);
}

/** The command line always says that an instance is not to be public; there is nothing else that could be had. */
function refuseAccess(wanted: Record<string, unknown>): void {
  const access = optionalObjectIn(wanted, 'access', ['is_public']);
  if (access?.is_public === true) throw invalidArgument('access', 'Instances are not made public here');
}
