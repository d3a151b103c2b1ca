/** Backups: queries, the fields that need a look-up, and what takes and deletes them. */
import { Arg, Ctx, FieldResolver, ID, Int, Mutation, Query, Resolver, Root } from 'type-graphql';
import type { Instant } from '../instant.js';
import type { BackupType as BackupTypeName } from '../model.js';
import { checkId, checkPage, isId, notFound } from './arguments.js';
import { DatabaseBackup } from './backupTypes.js';
import type { GatewayContext } from './context.js';
import { BackupType } from './enums.js';
import { DatabaseInstance } from './instanceTypes.js';
import { presentBackup, presentInstance } from './present.js';
import { RequiresRole } from './roles.js';
import { DateTime } from './scalars.js';

@Resolver(() => DatabaseBackup)
export class BackupResolver {
  @RequiresRole('reader')
  @Query(() => [DatabaseBackup], {
    description:
      'COMPLETED backups with consistentAt <= before (all without it), ordered by (consistentAt, id) descending: the first is the closest one to start from. A gap in the log does not filter; recoveryPlan tells. Refused with INSTANCE_NOT_FOUND.',
  })
  async backups(
    @Ctx() { services, caller }: GatewayContext,
    @Arg('instanceId', () => ID, { description: 'The instance that was backed up; deleted ones too.' })
    instanceId: string,
    @Arg('before', () => DateTime, { nullable: true, description: 'Only those with consistentAt at or before it.' })
    before: Instant | null | undefined,
    @Arg('first', () => Int, { defaultValue: 50, description: 'How many, 1 to 500.' }) first: number,
    @Arg('after', () => ID, { nullable: true, description: 'The id of the last item of the page before.' })
    after?: string | null,
  ): Promise<DatabaseBackup[]> {
    const id = checkId('instance', instanceId);
    const found = await services.backups.startingPoints(caller, id, before ?? null, checkPage(first, after));
    return found.map(presentBackup);
  }

  @RequiresRole('reader')
  @Query(() => DatabaseBackup, { nullable: true, description: 'One backup, deleted ones too; null if unknown.' })
  backup(
    @Ctx() context: GatewayContext,
    @Arg('id', () => ID, { description: 'Its id.' }) id: string,
  ): Promise<DatabaseBackup | null> {
    return findBackup(context, id);
  }

  @FieldResolver(() => DatabaseInstance, { description: 'The instance that was backed up.' })
  async instance(
    @Root() { instanceId }: DatabaseBackup,
    @Ctx() { load, caller }: GatewayContext,
  ): Promise<DatabaseInstance> {
    const record = await load.instance(instanceId);
    if (!record) throw notFound('instance', instanceId);
    return presentInstance(record, caller);
  }

  @FieldResolver(() => DatabaseBackup, {
    nullable: true,
    description: 'The backup it stands on directly; null for a full one.',
  })
  parent(@Root() { parentId }: DatabaseBackup, @Ctx() context: GatewayContext): Promise<DatabaseBackup | null> | null {
    return parentId === null ? null : findBackup(context, parentId);
  }

  @FieldResolver(() => DatabaseBackup, {
    nullable: true,
    description:
      'The older full backup that this full one was rolled forward from along the archived log, without the database; null where it was taken of the database. It does not stand on it: either can be deleted.',
  })
  madeFrom(
    @Root() { madeFromId }: DatabaseBackup,
    @Ctx() context: GatewayContext,
  ): Promise<DatabaseBackup | null> | null {
    return madeFromId === null ? null : findBackup(context, madeFromId);
  }

  @FieldResolver(() => [DatabaseBackup], {
    description: 'This backup and every one it stands on, the full one first.',
  })
  async chain(@Root() backup: DatabaseBackup, @Ctx() context: GatewayContext): Promise<DatabaseBackup[]> {
    const chain = [backup];
    const seen = new Set([backup.id]);
    // Ends at the full backup; a chain that bites its own tail ends too.
    for (let { parentId } = backup; parentId !== null && !seen.has(parentId); ) {
      const parent = await findBackup(context, parentId);
      if (!parent) throw notFound('backup', parentId);
      seen.add(parent.id);
      chain.unshift(parent);
      parentId = parent.parentId;
    }
    return chain;
  }

  @RequiresRole('operator')
  @Mutation(() => DatabaseBackup, {
    description:
      'Answers at once with a RUNNING backup. Refused with INSTANCE_NOT_FOUND, INSTANCE_NOT_READY, or INVALID_ARGUMENT for a type the datastore does not have.',
  })
  async takeBackup(
    @Ctx() { services, caller }: GatewayContext,
    @Arg('instanceId', () => ID, { description: 'The instance to back up.' }) instanceId: string,
    @Arg('type', () => BackupType, { defaultValue: BackupType.FULL, description: 'How much it is to hold.' })
    type: BackupTypeName,
  ): Promise<DatabaseBackup> {
    return presentBackup(await services.backups.take(caller, checkId('instance', instanceId), type));
  }

  @RequiresRole('operator')
  @Mutation(() => DatabaseBackup, {
    description:
      'Answers at once with a RUNNING full backup that is made of the newest one and the archived log, without the database, which may be down or deleted. It shortens the log that recoveries have to replay. Refused as a recovery to the latest point would be, or with INVALID_ARGUMENT for a datastore that has no such backups: PostgreSQL has.',
  })
  async takeBackupFromArchive(
    @Ctx() { services, caller }: GatewayContext,
    @Arg('instanceId', () => ID, { description: 'The instance whose archive it is made of; deleted ones too.' })
    instanceId: string,
  ): Promise<DatabaseBackup> {
    return presentBackup(await services.backups.takeFromArchive(caller, checkId('instance', instanceId)));
  }

  @RequiresRole('admin')
  @Mutation(() => DatabaseBackup, {
    description:
      'Removes its objects and leaves a tombstone. Refused with BACKUP_NOT_FOUND, or with BACKUP_IN_USE while another backup or a running recovery stands on it.',
  })
  async deleteBackup(
    @Ctx() { services, caller }: GatewayContext,
    @Arg('id', () => ID, { description: 'The backup to delete.' }) id: string,
  ): Promise<DatabaseBackup> {
    return presentBackup(await services.backups.remove(caller, checkId('backup', id)));
  }
}

export async function findBackup({ load }: GatewayContext, id: string): Promise<DatabaseBackup | null> {
  const record = isId(id) ? await load.backup(id) : null;
  return record && presentBackup(record);
}
