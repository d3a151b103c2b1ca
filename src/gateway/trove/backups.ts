/** Backups: listed, looked up, taken and removed. */
import type { FastifyInstance } from 'fastify';
import type { BackupRecord } from '../../catalog/records.js';
import { invalidArgument } from '../../errors.js';
import { checkId, notFound } from '../arguments.js';
import { type Answering, existingInstance, idIn, paged, type TroveContext } from './context.js';
import { objectIn, optionalTextIn, pageIn, parameter, textIn } from './requests.js';
import { backupShape, visibleBackupStates } from './shapes.js';

/** Accepted without effect: backups have neither here. */
const UNKEPT = ['name', 'description'];

export function serveBackups(scope: FastifyInstance, answer: Answering): void {
  scope.get(
    '/backups',
    answer('reader', async (context, { query }) => {
      refuseOtherProjects(context, query);
      if (parameter(query, 'datastore') !== null) {
        throw invalidArgument('datastore', 'Backups are not listed by datastore here', 'Use instance_id.');
      }
      const instanceId = parameter(query, 'instance_id');
      return instanceId === null ? everyBackup(context, query) : backupsOf(context, instanceId, query, '/backups');
    }),
  );

  scope.get(
    '/instances/:id/backups',
    answer('reader', async (context, request) => {
      const id = idIn(request);
      return backupsOf(context, id, request.query, `/instances/${encodeURIComponent(id)}/backups`);
    }),
  );

  scope.get(
    '/backups/:id',
    answer('reader', async (context, request) => ({
      backup: await shaped(context)(await findBackup(context, idIn(request))),
    })),
  );

  scope.post(
    '/backups',
    answer('operator', async (context, { body }, reply) => {
      const wanted = objectIn(body, 'backup', ['instance', 'incremental', ...UNKEPT]);
      for (const name of UNKEPT) optionalTextIn(wanted, name);
      const { id } = await existingInstance(context, textIn(wanted, 'instance'));
      const type = incremental(wanted.incremental) ? 'INCREMENTAL' : 'FULL';
      const taken = await context.services.backups.take(context.caller, id, type);
      return reply.code(202).send({ backup: await shaped(context)(taken) });
    }),
  );

  scope.delete(
    '/backups/:id',
    answer('admin', async (context, request, reply) => {
      await context.services.backups.remove(context.caller, (await findBackup(context, idIn(request))).id);
      return reply.code(202).send();
    }),
  );
}

/** @throws Fault BACKUP_NOT_FOUND, for deleted ones too */
export async function findBackup({ load }: TroveContext, id: string): Promise<BackupRecord> {
  const backup = await load.backup(checkId('backup', id));
  if (!backup || backup.state === 'DELETED') throw notFound('backup', id);
  return backup;
}

async function backupsOf(context: TroveContext, id: string, query: unknown, address: string) {
  const { services, caller, root } = context;
  const instance = await existingInstance(context, id);
  const filter = { states: visibleBackupStates, before: null };
  // An address that names the instance already doesn't need it in the link to the next page.
  const more: Record<string, string> = address === '/backups' ? { instance_id: id } : {};
  return paged(
    'backups',
    root + address,
    pageIn(query),
    more,
    (page) => services.backups.list(caller, instance.id, filter, page),
    (backup) => backupShape(backup, instance, context),
  );
}

async function everyBackup(context: TroveContext, query: unknown) {
  const { services, caller, root } = context;
  const filter = { states: visibleBackupStates };
  const fetch = services.backups.listAll.bind(services.backups, caller, filter);
  return paged('backups', `${root}/backups`, pageIn(query), {}, fetch, shaped(context));
}

/** The instances of many backups are looked up in one call. */
function shaped(context: TroveContext) {
  return async (backup: BackupRecord) => backupShape(backup, await context.load.instance(backup.instanceId), context);
}

function refuseOtherProjects({ tenant }: TroveContext, query: unknown): void {
  const project = parameter(query, 'project_id');
  if (parameter(query, 'all_projects') === null && (project === null || project === tenant)) return;
  throw invalidArgument('project_id', 'Only the backups of your own project are listed here');
}

/** The command line sends 0 and 1. */
function incremental(value: unknown): boolean {
  if ([undefined, null, 0, false].includes(value as null)) return false;
  if (value === 1 || value === true) return true;
  throw invalidArgument('incremental', 'incremental is neither 0 nor 1');
}
