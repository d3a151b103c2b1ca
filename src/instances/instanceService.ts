/** Instances: made, adopted, changed, let go; and what their owners see of their archive. */
import { mkdir, rm } from 'node:fs/promises';
import type { Logger } from 'pino';
import { uuidv7 } from 'uuidv7';
import type { Archiver } from '../backup/archiver.js';
import type { Catalog, CatalogWriter, InstanceRecord, Page } from '../catalog/records.js';
import type { Datastore, InstanceFacts } from '../datastores/datastore.js';
import type { DatastoreRegistry } from '../datastores/registry.js';
import { Fault, invalidArgument } from '../errors.js';
import type { Clock } from '../instant.js';
import type { InstanceOrigin, RecoveryWindow } from '../model.js';
import { loadWindows } from '../recovery/planning.js';
import type {
  Caller,
  InstanceChange,
  InstanceOperations,
  LogArchiveFacts,
  NewInstanceInput,
  RegisterInput,
} from '../services.js';
import { handleOf } from './handle.js';
import type { Places } from './places.js';

export interface InstanceServiceOptions {
  catalog: Catalog;
  datastores: DatastoreRegistry;
  archiver: Archiver;
  places: Places;
  clock: Clock;
  logger: Logger;
}

export class InstanceService implements InstanceOperations {
  constructor(private readonly options: InstanceServiceOptions) {}

  /** Brings everything up that ran before, and finishes what a sudden end left half done. */
  async start(): Promise<void> {
    const { catalog, datastores, archiver, logger } = this.options;
    for (const instance of await catalog.read.instancesInStates(['PROVISIONING'])) {
      if (instance.createdByRecoveryId === null) await this.forget(instance); // A recovery unwinds its own.
    }
    for (const instance of await catalog.read.instancesInStates(['DELETED'])) {
      if (instance.connectionUri !== null) await this.dismantle(instance);
    }
    const active = await catalog.read.instancesInStates(['ACTIVE']);
    await Promise.all(
      active.map(async (instance) => {
        try {
          await datastores.get(instance.datastore).start(handleOf(this.options.places, instance));
        } catch (error) {
          logger.error({ instanceId: instance.id, err: error }, 'instance did not start');
        }
        await archiver.follow(instance);
      }),
    );
  }

  async byIds(caller: Caller, ids: readonly string[]): Promise<InstanceRecord[]> {
    const found = await this.options.catalog.read.instancesByIds(ids);
    return found.filter((instance) => instance.tenantId === caller.tenantId);
  }

  list(caller: Caller, filter: { includeDeleted: boolean }, page: Page): Promise<InstanceRecord[]> {
    return this.options.catalog.read.instances({ tenantId: caller.tenantId, ...filter }, page);
  }

  async create(caller: Caller, input: NewInstanceInput): Promise<InstanceRecord> {
    const datastore = this.options.datastores.get(input.datastore);
    return this.establish(caller, input, 'CREATED', null, async (instance) =>
      datastore.provision({
        id: instance.id,
        home: this.options.places.instanceHome(instance.id),
        datastoreVersion: input.datastoreVersion,
      }),
    );
  }

  async register(caller: Caller, input: RegisterInput): Promise<InstanceRecord> {
    const datastore = this.options.datastores.get(input.datastore);
    const facts = await this.inspect(datastore, input.connectionUri);
    return this.establish(caller, input, 'REGISTERED', facts, (instance) =>
      datastore.adopt(handleOf(this.options.places, instance)),
    );
  }

  async update(caller: Caller, id: string, change: InstanceChange): Promise<InstanceRecord> {
    const instance = await this.require(caller, id);
    const { catalog, datastores, archiver, logger } = this.options;
    if (instance.state === 'DELETED') throw notFound(id);
    const { connectionUri, ...plain } = change;
    if (connectionUri === undefined) {
      await catalog.write((writer) => writer.updateInstance(id, plain));
      return this.require(caller, id);
    }
    if (instance.origin !== 'REGISTERED') {
      throw invalidArgument(
        'connectionUri',
        'Only the connection URI of a registered instance can change',
        'This service itself decides where the instances that it made can be reached.',
      );
    }
    const facts = await this.inspect(datastores.get(instance.datastore), connectionUri);
    if (!(await this.leadsToSame(instance, facts.identity))) {
      throw invalidArgument(
        'connectionUri',
        'The new connection URI leads to a different database',
        'Register the other database as an instance of its own.',
      );
    }
    await archiver.release(id);
    if (facts.identity !== instance.identity) {
      // The server that the instance moves away from may still be up, and must not keep log for nobody.
      const left = datastores.get(instance.datastore).release(handleOf(this.options.places, instance));
      await left.catch((error: unknown) => logger.warn({ instanceId: id, err: error }, 'old server not let go'));
    }
    try {
      await catalog.write((writer) => writer.updateInstance(id, { ...plain, ...published(facts) }));
    } finally {
      await archiver.follow(await this.require(caller, id));
    }
    return this.require(caller, id);
  }

  async remove(caller: Caller, id: string): Promise<InstanceRecord> {
    const instance = await this.require(caller, id);
    if (instance.state === 'DELETED') return instance;
    if (instance.state === 'PROVISIONING') {
      throw new Fault('INSTANCE_NOT_READY', 'The instance is still being made', {
        hint: 'Wait until it is ACTIVE, or cancel the recovery that makes it.',
      });
    }
    const { catalog, archiver, clock } = this.options;
    await archiver.release(id);
    await catalog.write(async (writer) => {
      await writer.updateInstance(id, { state: 'DELETED', deletedAt: clock(), endpoint: null, identity: null });
      const stretch = await writer.newestStretch(id);
      if (stretch && stretch.endsBecause === null) {
        await writer.updateStretch(stretch.id, { endsBecause: 'SOURCE_DELETED' });
      }
    });
    await this.dismantle(instance);
    return this.require(caller, id);
  }

  async recoveryWindows(ids: readonly string[]): Promise<Map<string, RecoveryWindow[]>> {
    const windows = await loadWindows(this.options.catalog.read, ids);
    return new Map(ids.map((id) => [id, windows.get(id) ?? []]));
  }

  async logArchives(ids: readonly string[]): Promise<Map<string, LogArchiveFacts>> {
    const { catalog, archiver } = this.options;
    const [instances, stretches] = await Promise.all([catalog.read.instancesByIds(ids), catalog.read.stretches(ids)]);
    return new Map(
      instances.map((instance) => {
        const own = stretches.filter((stretch) => stretch.instanceId === instance.id);
        return [
          instance.id,
          {
            segments: own.reduce((sum, stretch) => sum + stretch.segments, 0),
            bytes: own.reduce((sum, stretch) => sum + stretch.bytes, 0),
            lagSeconds: instance.state === 'ACTIVE' ? archiver.lagOf(instance.id) : null,
            healthy: instance.archiveHealthy,
            message: instance.archiveMessage,
          },
        ];
      }),
    );
  }

  private async inspect(datastore: Datastore, connectionUri: string): Promise<InstanceFacts> {
    if (await this.options.places.owns(connectionUri)) {
      throw invalidArgument(
        'connectionUri',
        'This file belongs to the service itself',
        'Register databases of applications; the instances that were made here are kept recoverable without that.',
      );
    }
    return datastore.inspect(connectionUri);
  }

  /** Reserve the row, do the work, and only then show the instance; on any fault nothing is left. */
  private async establish(
    caller: Caller,
    input: NewInstanceInput | RegisterInput,
    origin: InstanceOrigin,
    inspected: InstanceFacts | null,
    work: (instance: InstanceRecord) => Promise<InstanceFacts>,
  ): Promise<InstanceRecord> {
    const { catalog, archiver, places, clock } = this.options;
    const instance: InstanceRecord = {
      id: input.id ?? uuidv7(),
      tenantId: caller.tenantId,
      name: input.name,
      origin,
      datastore: input.datastore,
      datastoreVersion: inspected?.datastoreVersion ?? '',
      flavor: input.flavor,
      volumeSizeGiB: input.volumeSizeGiB,
      state: 'PROVISIONING',
      endpoint: null,
      connectionUri: inspected?.connectionUri ?? null,
      identity: inspected?.identity ?? null,
      driverState: inspected?.state ?? {},
      recoveredFromId: null,
      createdByRecoveryId: null,
      archiveHealthy: true,
      archiveMessage: null,
      createdAt: clock(),
      deletedAt: null,
    };
    await catalog.write(async (writer) => {
      await refuseTaken(writer, instance);
      await writer.insertInstance(instance);
    });
    try {
      await mkdir(places.instanceHome(instance.id), { mode: 0o700 });
    } catch (error) {
      // Its directory was not made here, as when an older catalog was put back: what is in it is not ours to remove.
      await catalog.write((writer) => writer.deleteInstance(instance.id));
      throw homeTaken(error, places.instanceHome(instance.id));
    }
    try {
      const facts = await work(instance);
      await catalog.write((writer) => writer.updateInstance(instance.id, { state: 'ACTIVE', ...published(facts) }));
    } catch (error) {
      await this.forget(instance);
      throw error;
    }
    const established = await this.require(caller, instance.id);
    await archiver.follow(established);
    return established;
  }

  private async forget(instance: InstanceRecord): Promise<void> {
    const { catalog, datastores, places } = this.options;
    const datastore = datastores.get(instance.datastore);
    const handle = handleOf(places, instance);
    if (instance.origin === 'REGISTERED') await datastore.release(handle).catch(() => {});
    else await datastore.destroy(handle);
    await rm(handle.home, { recursive: true, force: true });
    await catalog.write((writer) => writer.deleteInstance(instance.id));
  }

  /** After the row says DELETED; the connection URI stays in the catalog until this is through. */
  private async dismantle(instance: InstanceRecord): Promise<void> {
    const { catalog, datastores, places, logger } = this.options;
    const datastore = datastores.get(instance.datastore);
    const handle = handleOf(places, instance);
    try {
      if (instance.origin === 'REGISTERED') await datastore.release(handle);
      else await datastore.destroy(handle);
    } catch (error) {
      // The instance is gone for its owner either way; the next start tries again.
      logger.warn({ instanceId: instance.id, err: error }, 'instance was not let go cleanly');
      return;
    }
    await rm(handle.home, { recursive: true, force: true });
    await catalog.write((writer) => writer.updateInstance(instance.id, { connectionUri: null }));
  }

  /** A database that is an instance of its own, such as a recovered copy, is never another one's continuation. */
  private async leadsToSame(instance: InstanceRecord, found: string): Promise<boolean> {
    if (instance.identity === null || found === instance.identity) return found === instance.identity;
    const { catalog, datastores } = this.options;
    if ((await catalog.read.instanceByIdentity(instance.datastore, found)) !== null) return false;
    return datastores.get(instance.datastore).continues?.(instance.identity, found) ?? false;
  }

  private async require(caller: Caller, id: string): Promise<InstanceRecord> {
    const instance = await this.options.catalog.read.instance(id);
    if (instance?.tenantId === caller.tenantId) return instance;
    throw notFound(id);
  }
}

async function refuseTaken(writer: CatalogWriter, instance: InstanceRecord): Promise<void> {
  const taken = (await writer.instance(instance.id)) !== null;
  const adopted =
    instance.identity !== null && (await writer.instanceByIdentity(instance.datastore, instance.identity)) !== null;
  if (!taken && !adopted) return;
  throw new Fault(
    'INSTANCE_EXISTS',
    taken ? 'There is an instance with this id' : 'This database is registered already',
    { hint: taken ? 'Leave the id out to have one made up.' : 'Use the instance that it is registered as.' },
  );
}

function homeTaken(error: unknown, home: string): unknown {
  if ((error as NodeJS.ErrnoException).code !== 'EEXIST') return error;
  return new Fault('INSTANCE_EXISTS', 'The directory of an instance with this id is there already', {
    hint: `Leave the id out to have one made up, or look into ${home}.`,
    cause: error,
  });
}

function published(facts: InstanceFacts): Partial<InstanceRecord> {
  return {
    datastoreVersion: facts.datastoreVersion,
    endpoint: facts.endpoint,
    connectionUri: facts.connectionUri,
    identity: facts.identity,
    driverState: facts.state,
  };
}

export function notFound(id: string): Fault {
  return new Fault('INSTANCE_NOT_FOUND', `There is no instance ${JSON.stringify(id.slice(0, 128))}`, {
    hint: 'The query instances lists those that you can see.',
  });
}
