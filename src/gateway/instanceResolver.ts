/** Instances: queries, the fields that need a look-up, and what makes, changes and deletes them. */
import { Arg, Ctx, FieldResolver, ID, Int, Mutation, Query, Resolver, Root } from 'type-graphql';
import { invalidArgument } from '../errors.js';
import type { Instant } from '../instant.js';
import type { BackupState as BackupStateName } from '../model.js';
import type { InstanceChange } from '../services.js';
import {
  checkId,
  checkName,
  checkNewId,
  checkPage,
  checkText,
  checkVolume,
  distinct,
  isId,
  optionalText,
} from './arguments.js';
import { DatabaseBackup } from './backupTypes.js';
import type { GatewayContext } from './context.js';
import { BackupState } from './enums.js';
import {
  CreateInstanceInput,
  DatabaseInstance,
  LogArchive,
  RecoveryWindow,
  RegisterInstanceInput,
  UpdateInstanceInput,
} from './instanceTypes.js';
import { presentBackup, presentInstance, presentRecovery } from './present.js';
import { Recovery } from './recoveryTypes.js';
import { RequiresRole } from './roles.js';
import { DateTime } from './scalars.js';

const firstDescription = 'How many, 1 to 500.';
const afterDescription = 'The id of the last item of the page before.';

const NO_LOG_ARCHIVE: LogArchive = {
  segments: 0,
  bytes: 0,
  lagSeconds: null,
  retainedBytes: null,
  healthy: false,
  message: null,
};

@Resolver(() => DatabaseInstance)
export class InstanceResolver {
  @RequiresRole('reader')
  @Query(() => [DatabaseInstance], { description: 'Newest first.' })
  async instances(
    @Ctx() { services, caller }: GatewayContext,
    @Arg('includeDeleted', () => Boolean, { defaultValue: false, description: 'Also those that are gone.' })
    includeDeleted: boolean,
    @Arg('first', () => Int, { defaultValue: 50, description: firstDescription }) first: number,
    @Arg('after', () => ID, { nullable: true, description: afterDescription }) after?: string | null,
  ): Promise<DatabaseInstance[]> {
    const found = await services.instances.list(caller, { includeDeleted }, checkPage(first, after));
    return found.map((record) => presentInstance(record, caller));
  }

  @RequiresRole('reader')
  @Query(() => DatabaseInstance, { nullable: true, description: 'One instance, deleted ones too; null if unknown.' })
  instance(
    @Ctx() context: GatewayContext,
    @Arg('id', () => ID, { description: 'Its id.' }) id: string,
  ): Promise<DatabaseInstance | null> {
    return findInstance(context, id);
  }

  @FieldResolver(() => DatabaseInstance, {
    nullable: true,
    description: 'The instance this one was recovered from; null for any other.',
  })
  recoveredFrom(
    @Root() { recoveredFromId }: DatabaseInstance,
    @Ctx() context: GatewayContext,
  ): Promise<DatabaseInstance | null> | null {
    return recoveredFromId === null ? null : findInstance(context, recoveredFromId);
  }

  @FieldResolver(() => Recovery, { nullable: true, description: 'The recovery that made it; null for any other.' })
  async createdBy(
    @Root() { createdByRecoveryId }: DatabaseInstance,
    @Ctx() { load }: GatewayContext,
  ): Promise<Recovery | null> {
    const record = createdByRecoveryId === null ? null : await load.recovery(createdByRecoveryId);
    return record && presentRecovery(record);
  }

  @FieldResolver(() => [RecoveryWindow], {
    description:
      'The stretches of time, ends included, any instant of which can be recovered to; oldest first; more than one where the log has a gap.',
  })
  async recoveryWindows(@Root() { id }: DatabaseInstance, @Ctx() { load }: GatewayContext): Promise<RecoveryWindow[]> {
    return (await load.recoveryWindows(id)) ?? [];
  }

  @FieldResolver(() => DateTime, {
    nullable: true,
    description: 'The start of the first recovery window; null where nothing can be recovered.',
  })
  async earliestRecoverableTime(
    @Root() { id }: DatabaseInstance,
    @Ctx() { load }: GatewayContext,
  ): Promise<Instant | null> {
    return (await load.recoveryWindows(id))?.at(0)?.from ?? null;
  }

  @FieldResolver(() => DateTime, {
    nullable: true,
    description: 'The end of the last recovery window; null where nothing can be recovered.',
  })
  async latestRecoverableTime(
    @Root() { id }: DatabaseInstance,
    @Ctx() { load }: GatewayContext,
  ): Promise<Instant | null> {
    return (await load.recoveryWindows(id))?.at(-1)?.to ?? null;
  }

  @FieldResolver(() => [DatabaseBackup], { description: 'Newest first; COMPLETED ones unless states are given.' })
  async backups(
    @Root() { id }: DatabaseInstance,
    @Ctx() { services, caller }: GatewayContext,
    @Arg('before', () => DateTime, { nullable: true, description: 'Only those with consistentAt at or before it.' })
    before: Instant | null | undefined,
    @Arg('states', () => [BackupState], { nullable: true, description: 'Only those in one of these states.' })
    states: BackupStateName[] | null | undefined,
    @Arg('first', () => Int, { defaultValue: 50, description: firstDescription }) first: number,
    @Arg('after', () => ID, { nullable: true, description: afterDescription }) after?: string | null,
  ): Promise<DatabaseBackup[]> {
    const filter = { states: states ? distinct(states) : (['COMPLETED'] as const), before: before ?? null };
    return (await services.backups.list(caller, id, filter, checkPage(first, after))).map(presentBackup);
  }

  @FieldResolver(() => [Recovery], { description: 'Recoveries from this instance, newest first.' })
  async recoveries(
    @Root() { id }: DatabaseInstance,
    @Ctx() { services, caller }: GatewayContext,
    @Arg('first', () => Int, { defaultValue: 20, description: firstDescription }) first: number,
    @Arg('after', () => ID, { nullable: true, description: afterDescription }) after?: string | null,
  ): Promise<Recovery[]> {
    const filter = { sourceId: id, states: null };
    return (await services.recoveries.list(caller, filter, checkPage(first, after))).map(presentRecovery);
  }

  @FieldResolver(() => LogArchive, { description: 'Its archived log, and how well it is kept up with.' })
  async logArchive(@Root() { id }: DatabaseInstance, @Ctx() { load }: GatewayContext): Promise<LogArchive> {
    // The instance of a recovery may be undone while it is looked at.
    return (await load.logArchive(id)) ?? NO_LOG_ARCHIVE;
  }

  @RequiresRole('admin')
  @Mutation(() => DatabaseInstance, {
    description:
      'Makes a new, empty instance that this service runs. Refused with INVALID_ARGUMENT, INSTANCE_EXISTS, DATASTORE_NOT_SUPPORTED or DATASTORE_UNAVAILABLE.',
  })
  async createInstance(
    @Ctx() { services, caller }: GatewayContext,
    @Arg('input', () => CreateInstanceInput, { description: 'What to make.' }) input: CreateInstanceInput,
  ): Promise<DatabaseInstance> {
    const record = await services.instances.create(caller, {
      ...carriedAlong(input),
      datastoreVersion: optionalText('datastoreVersion', input.datastoreVersion, 64),
    });
    return presentInstance(record, caller);
  }

  @RequiresRole('admin')
  @Mutation(() => DatabaseInstance, {
    description:
      'Adopts a database that runs elsewhere and starts to keep its log. Refused with INVALID_ARGUMENT, INSTANCE_EXISTS, DATASTORE_NOT_SUPPORTED or DATASTORE_UNAVAILABLE.',
  })
  async registerInstance(
    @Ctx() { services, caller }: GatewayContext,
    @Arg('input', () => RegisterInstanceInput, { description: 'What to adopt.' }) input: RegisterInstanceInput,
  ): Promise<DatabaseInstance> {
    const record = await services.instances.register(caller, {
      ...carriedAlong(input),
      connectionUri: checkText('connectionUri', input.connectionUri, 4096),
    });
    return presentInstance(record, caller);
  }

  @RequiresRole('admin')
  @Mutation(() => DatabaseInstance, {
    description:
      'A changed connectionUri (a rotated password, a moved host) must lead to the same database. Refused with INVALID_ARGUMENT or INSTANCE_NOT_FOUND.',
  })
  async updateInstance(
    @Ctx() { services, caller }: GatewayContext,
    @Arg('id', () => ID, { description: 'The instance to change.' }) id: string,
    @Arg('input', () => UpdateInstanceInput, { description: 'What to change.' }) input: UpdateInstanceInput,
  ): Promise<DatabaseInstance> {
    const record = await services.instances.update(caller, checkId('instance', id), changeIn(input));
    return presentInstance(record, caller);
  }

  @RequiresRole('admin')
  @Mutation(() => DatabaseInstance, {
    description:
      'A CREATED or RECOVERED instance is stopped and its data removed. A REGISTERED one is only released: capture stops, slots and other traces on the source are removed, its database is never touched. Backups that are being taken of it end FAILED; those it has, and its log, stay recoverable until their retention ends.',
  })
  async deleteInstance(
    @Ctx() { services, caller }: GatewayContext,
    @Arg('id', () => ID, { description: 'The instance to delete or release.' }) id: string,
  ): Promise<DatabaseInstance> {
    return presentInstance(await services.instances.remove(caller, checkId('instance', id)), caller);
  }
}

export async function findInstance({ load, caller }: GatewayContext, id: string): Promise<DatabaseInstance | null> {
  const record = isId(id) ? await load.instance(id) : null;
  return record && presentInstance(record, caller);
}

/** What created and registered instances have in common. */
function carriedAlong(input: CreateInstanceInput | RegisterInstanceInput) {
  return {
    id: checkNewId(input.id),
    name: checkName(input.name),
    datastore: checkText('datastore', input.datastore, 64),
    flavor: optionalText('flavor', input.flavor, 255),
    volumeSizeGiB: checkVolume(input.volumeSizeGiB),
  };
}

/** A field that is left out stays; null only takes away what may be missing. */
function changeIn({ name, connectionUri, flavor }: UpdateInstanceInput): InstanceChange {
  if (name === null) throw invalidArgument('name', 'A name cannot be taken away');
  if (connectionUri === null) throw invalidArgument('connectionUri', 'A connectionUri cannot be taken away');
  const change: InstanceChange = {};
  if (name !== undefined) change.name = checkName(name);
  if (connectionUri !== undefined) change.connectionUri = checkText('connectionUri', connectionUri, 4096);
  if (flavor !== undefined) change.flavor = optionalText('flavor', flavor, 255);
  return change;
}
