/** Instances: made, adopted, changed, let go; and what their owners see of their archive. */
import { mkdir, rm } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import { uuidv7 } from 'uuidv7';
import type { Archiver } from '../backup/archiver.js';
import type { Catalog, CatalogWriter, InstanceRecord, Page } from '../catalog/records.js';
import type { Datastore, InstanceFacts } from '../datastores/datastore.js';
import { inParallel } from '../datastores/inParallel.js';
import type { DatastoreRegistry } from '../datastores/registry.js';
import { Fault, invalidArgument } from '../errors.js';
import type { Clock } from '../instant.js';
import type { InstanceOrigin, RecoveryWindow } from '../model.js';
import { checkQuotas, type Quotas } from '../quotas.js';
import { loadWindows } from '../recovery/planning.js';
import type {
  Caller,
  InstanceChange,
  InstanceOperations,
  LogArchiveFacts,
  NewInstanceInput,
  RegisterInput,
} from '../services.js';
import type { FileBounds } from './fileBounds.js';
import { handleOf } from './handle.js';
import type { Places } from './places.js';

export interface InstanceServiceOptions {
  catalog: Catalog;
  datastores: DatastoreRegistry;
  archiver: Archiver;
  places: Places;
  fileBounds: FileBounds;
  quotas: Quotas;
  clock: Clock;
  logger: Logger;
  /** An instance is deleted, and its database is about to be let go or removed. */
  onDeleted(instanceId: string): void;
}

/** An id becomes the name of a directory, and twice as long at most where it holds `_` or `:`. */
const LONGEST_NAME_BYTES = 255;

/** Deleted instances that the start lets go side by side. */
const DISMANTLED_AT_ONCE = 4;
/** A part of what the whole service has to stop. */
const CLOSE_LIMIT_MS = 2_000;

export class InstanceService implements InstanceOperations {
  /** The last change of each instance in line: one that lets a source go must not meet one that follows it again. */
  private readonly turns = new Map<string, Promise<unknown>>();
  private closing = false;
  private dismantling: Promise<void> = Promise.resolve();

  constructor(private readonly options: InstanceServiceOptions) {}

  /** Brings everything up that ran before, and finishes what a sudden end left half done. */
  async start(): Promise<void> {
    const { catalog, datastores, archiver, logger } = this.options;
    for (const instance of await catalog.read.instancesInStates(['PROVISIONING'])) {
      if (instance.createdByRecoveryId !== null) continue; // A recovery unwinds its own.
      await this.forget(instance).catch((error: unknown) =>
        logger.error({ instanceId: instance.id, err: error }, 'a half-made instance was not cleared away'),
      );
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
    // Last, and without waiting for it: each may take as long as a server that is gone takes not to answer.
    this.dismantling = this.dismantleLeft().catch((error: unknown) =>
      logger.warn({ err: error }, 'deleted instances were not let go'),
    );
  }

  /** Begins nothing more, and waits a moment for the deleted instances that are being let go: the next start goes on. */
  async close(): Promise<void> {
    this.closing = true;
    const waited = new AbortController();
    await Promise.race([this.dismantling, delay(CLOSE_LIMIT_MS, undefined, { signal: waited.signal }).catch(() => {})]);
    waited.abort();
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
    const facts = await this.inspect(caller, datastore, input.connectionUri);
    return this.establish(caller, input, 'REGISTERED', facts, (instance) =>
      datastore.adopt(handleOf(this.options.places, instance)),
    );
  }

  update(caller: Caller, id: string, change: InstanceChange): Promise<InstanceRecord> {
    return this.inTurn(id, () => this.updateNow(caller, id, change));
  }

  remove(caller: Caller, id: string): Promise<InstanceRecord> {
    return this.inTurn(id, () => this.removeNow(caller, id));
  }

  /** A recovery has made this instance: its log is captured from now on, unless it is gone already. */
  activated(id: string): Promise<void> {
    return this.inTurn(id, async () => {
      const instance = await this.options.catalog.read.instance(id);
      if (instance?.state === 'ACTIVE') await this.options.archiver.follow(instance);
    });
  }

  private async updateNow(caller: Caller, id: string, change: InstanceChange): Promise<InstanceRecord> {
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
    const facts = await this.inspect(caller, datastores.get(instance.datastore), connectionUri);
    if (!(await this.leadsToSame(instance, facts.identity))) {
      throw invalidArgument(
        'connectionUri',
        'The new connection URI leads to a different database',
        'Register the other database as an instance of its own.',
      );
    }
    try {
      await archiver.release(id);
      if (facts.identity !== instance.identity && facts.endpoint !== instance.endpoint) {
        // The server that the instance moves away from may still be up, and must not keep log for nobody. One that has become
        // another where it is needs what it keeps.
        const left = datastores.get(instance.datastore).release(handleOf(this.options.places, instance));
        await left.catch((error: unknown) => logger.warn({ instanceId: id, err: error }, 'old server not let go'));
      }
      await catalog.write((writer) => writer.updateInstance(id, { ...plain, ...published(facts) }));
    } finally {
      await archiver.follow(await this.require(caller, id));
    }
    return this.require(caller, id);
  }

  private async removeNow(caller: Caller, id: string): Promise<InstanceRecord> {
    const instance = await this.require(caller, id);
    if (instance.state === 'DELETED') return instance;
    if (instance.state === 'PROVISIONING') {
      throw new Fault('INSTANCE_NOT_READY', 'The instance is still being made', {
        hint: 'Wait until it is ACTIVE, or cancel the recovery that makes it.',
      });
    }
    const { catalog, archiver, clock } = this.options;
    try {
      await archiver.release(id);
      await catalog.write(async (writer) => {
        await writer.updateInstance(id, { state: 'DELETED', deletedAt: clock(), endpoint: null, identity: null });
        const stretch = await writer.newestStretch(id);
        if (stretch && stretch.endsBecause === null) {
          await writer.updateStretch(stretch.id, { endsBecause: 'SOURCE_DELETED' });
        }
      });
    } catch (error) {
      if (instance.state === 'ACTIVE') await archiver.follow(instance); // It is not deleted after all.
      throw error;
    }
    this.options.onDeleted(id);
    await this.dismantle(instance);
    return this.require(caller, id);
  }

  async recoveryWindows(caller: Caller, ids: readonly string[]): Promise<Map<string, RecoveryWindow[]>> {
    const own = (await this.byIds(caller, ids)).map(({ id }) => id);
    const windows = await loadWindows(this.options.catalog.read, own);
    return new Map(own.map((id) => [id, windows.get(id) ?? []]));
  }

  async logArchives(caller: Caller, ids: readonly string[]): Promise<Map<string, LogArchiveFacts>> {
    const { catalog, archiver } = this.options;
    const [instances, stretches] = await Promise.all([this.byIds(caller, ids), catalog.read.stretches(ids)]);
    return new Map(
      instances.map((instance) => {
        const own = stretches.filter((stretch) => stretch.instanceId === instance.id);
        const health = archiver.healthOf(instance);
        return [
          instance.id,
          {
            segments: own.reduce((sum, stretch) => sum + stretch.segments, 0),
            bytes: own.reduce((sum, stretch) => sum + stretch.bytes, 0),
            lagSeconds: health.lagSeconds,
            retainedBytes: health.retainedBytes ?? null,
            healthy: health.healthy,
            message: health.message,
          },
        ];
      }),
    );
  }

  /** Checked before, so that nothing outside the bounds is looked at, and after, for what the driver really found. */
  private async inspect(caller: Caller, datastore: Datastore, connectionUri: string): Promise<InstanceFacts> {
    const { fileBounds, places } = this.options;
    await fileBounds.check(caller.tenantId, connectionUri);
    if (await places.isLinkToOwn(connectionUri)) {
      throw invalidArgument(
        'connectionUri',
        'This file belongs to the service itself',
        'Register databases of applications; the instances that were made here are kept recoverable without that.',
      );
    }
    const facts = await datastore.inspect(connectionUri, caller.tenantId);
    await fileBounds.check(caller.tenantId, facts.connectionUri);
    return facts;
  }

  /** Reserve the row, do the work, and only then show the instance; on any fault nothing is left. */
  private async establish(
    caller: Caller,
    input: NewInstanceInput | RegisterInput,
    origin: InstanceOrigin,
    inspected: InstanceFacts | null,
    work: (instance: InstanceRecord) => Promise<InstanceFacts>,
  ): Promise<InstanceRecord> {
    const { catalog, archiver, places, quotas, clock, logger } = this.options;
    checkDirectoryName(input.id);
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
      notices: inspected?.notices ?? [],
      recoveredFromId: null,
      createdByRecoveryId: null,
      archiveHealthy: true,
      archiveMessage: null,
      createdAt: clock(),
      deletedAt: null,
    };
    await catalog.write(async (writer) => {
      const wanted = { instances: 1, volumeSizeGiB: input.volumeSizeGiB ?? 0 };
      checkQuotas(quotas, await writer.usage(caller.tenantId), wanted);
      await refuseTaken(writer, instance, inspected);
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
      await this.forget(instance).catch((cause: unknown) =>
        logger.error({ instanceId: instance.id, err: cause }, 'a half-made instance is left to the next start'),
      );
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

  /** What could not be let go when it was deleted. */
  private async dismantleLeft(): Promise<void> {
    const { catalog, logger } = this.options;
    const deleted = await catalog.read.instancesInStates(['DELETED']);
    const left = deleted.filter(({ connectionUri }) => connectionUri !== null);
    await inParallel(left, DISMANTLED_AT_ONCE, async (instance) => {
      if (this.closing) return;
      await this.dismantle(instance).catch((error: unknown) =>
        logger.warn({ instanceId: instance.id, err: error }, 'what is left of an instance was not cleared away'),
      );
    });
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

  private inTurn<T>(id: string, work: () => Promise<T>): Promise<T> {
    const turn = (this.turns.get(id) ?? Promise.resolve()).then(work, work);
    this.turns.set(id, turn);
    const ended = () => {
      if (this.turns.get(id) === turn) this.turns.delete(id);
    };
    turn.then(ended, ended);
    return turn;
  }

  private async require(caller: Caller, id: string): Promise<InstanceRecord> {
    const instance = await this.options.catalog.read.instance(id);
    if (instance?.tenantId === caller.tenantId) return instance;
    throw notFound(id);
  }
}

/** `.` and `..` would lead to other directories than the instance's own, which goes with everything in it. */
function checkDirectoryName(id: string | null): void {
  if (id === null) return;
  const longest = id.length + id.replaceAll(/[^_:]/g, '').length;
  if (id !== '.' && id !== '..' && longest <= LONGEST_NAME_BYTES) return;
  throw invalidArgument('id', 'This id cannot be the name of a directory', 'Leave the id out to have one made up.');
}

/**
 * Ids and databases are unique in the whole service, because stored objects and log capture go by them. So an admin who
 * guesses one learns that it is taken, in the same words for one's own as for another tenant's. What is reached at the
 * endpoint of another instance is that instance's, also where it was replaced and no capture has met it yet.
 */
async function refuseTaken(
  writer: CatalogWriter,
  { id, datastore }: InstanceRecord,
  inspected: InstanceFacts | null,
): Promise<void> {
  const taken = (await writer.instance(id)) !== null;
  const adopted =
    inspected &&
    ((await writer.instanceByIdentity(datastore, inspected.identity)) ??
      (await writer.instanceByEndpoint(datastore, inspected.endpoint)));
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
    notices: facts.notices,
  };
}

export function notFound(id: string): Fault {
  return new Fault('INSTANCE_NOT_FOUND', `There is no instance ${JSON.stringify(id.slice(0, 128))}`, {
    hint: 'The query instances lists those that you can see.',
  });
}
