/**
 * The PostgreSQL driver. A cut is the end of a commit record; the log is received by streaming replication; a recovery is
 * PostgreSQL's own, fed and fenced in by the service.
 */
import { mkdir, rm } from 'node:fs/promises';
import { Fault, type JsonObject } from '../../errors.js';
import type { InstanceHandle } from '../../model.js';
import type { Datastore, InstanceFacts, RecoveryDriver } from '../datastore.js';
import { baseState, takeBackup } from './backup/backup.js';
import { WalCapture } from './capture/capture.js';
import { parsePosition } from './formats/lsn.js';
import { supportedInWords, supportedMajors } from './formats/majors.js';
import { activateCopy, discardCopy, verifyCopy } from './recovery/activate.js';
import { locateCut } from './recovery/locate.js';
import { replayLog } from './recovery/replay.js';
import { requireMajor, restoreBase, scratchPlaces } from './recovery/restore.js';
import { discardRoll, rollForward } from './recovery/rollForward.js';
import { Binaries } from './server/binaries.js';
import { type RunAs, resolveRunAs } from './server/processes.js';
import { dataDirectory, managedState, provisionServer, serverPlace } from './server/provision.js';
import { endLeftover, ManagedServer, privateAddress, socketDirectory } from './server/server.js';
import { parseConnectionUri, type ServerAddress, type SourceBounds } from './source/address.js';
import type { NetworkBounds } from './source/networks.js';
import { continuesIdentity, inspectSource, leaveSource, slotName } from './source/source.js';

export interface PostgresqlOptions {
  /** Where to look for PostgreSQL's programs first. */
  binDirectories?: readonly string[];
  /** Who PostgreSQL runs as where the service is root; a user's name or its ids. `postgres` unless given. */
  runAs?: RunAs | string;
  /** Bytes of log that a source may have to keep while the archive takes none; 1 GiB unless given. */
  retainBytes?: number;
  /**
   * Milliseconds for which the stream of a source's log is ended whenever everything is received, unless somebody waits;
   * 0, to stay in it, unless given. Longer than ten seconds is of no use.
   */
  streamRestMs?: number;
  /** Where registered servers may be. */
  bounds: NetworkBounds;
  /** Where a file really is that a tenant's connection URI names; null where the tenant may not name it. */
  realPath: (tenantId: string, file: string) => Promise<string | null>;
}

export function createPostgresqlDatastore(options: PostgresqlOptions): Datastore {
  const binaries = new Binaries(options.binDirectories ?? []);
  // Looked up when needed: a machine without PostgreSQL needs no such user.
  const runAs = () => resolveRunAs(options.runAs);
  const servers = new Map<string, ManagedServer>();
  const captures = new Set<WalCapture>();
  const boundsOf = (tenantId: string): SourceBounds => ({
    networks: options.bounds,
    files: (file) => options.realPath(tenantId, file),
  });

  const recovery: RecoveryDriver = {
    order: ['RESTORE_BASE', 'APPLY_INCREMENTALS', 'REPLAY_LOG'],
    requireFor: (base) => requireMajor(binaries, baseState(base).major, runAs()),
    restoreBase: (context) => restoreBase(context, binaries, runAs()),
    async applyIncrementals(context) {
      if (context.incrementals.length > 0) {
        throw new Fault('VERSION_MISMATCH', 'This release takes no incremental backups of PostgreSQL');
      }
    },
    replayLog: (context) => replayLog(context, binaries, runAs()),
    verify: (context) => verifyCopy(context),
    async activate(context) {
      const { id } = context.target;
      const { server, facts } = await activateCopy(context, binaries, runAs(), servers.get(id));
      servers.set(id, server);
      return facts;
    },
    async discard(target) {
      await takeDown(target.id);
      await discardCopy(target);
      await rm(scratchPlaces(target.scratch).data, { recursive: true, force: true });
    },
  };

  /** Of the version asked for, or the newest one here. @throws Fault DATASTORE_NOT_SUPPORTED with those to choose from */
  async function chooseMajor(wanted: string | null): Promise<number> {
    if (wanted === null) return await binaries.newest(runAs());
    const major = majorOf(wanted);
    if (!/^\d+(\.\d+)?$/.test(wanted) || !supportedMajors.includes(major)) {
      throw new Fault('DATASTORE_NOT_SUPPORTED', `PostgreSQL ${wanted} is not offered here`, {
        hint: `Ask for ${supportedInWords}.`,
      });
    }
    await binaries.demand(major, runAs());
    const installed = await binaries.version(major, runAs());
    if (wanted !== String(major) && wanted !== installed) {
      throw new Fault('DATASTORE_NOT_SUPPORTED', `PostgreSQL ${wanted} is not installed here`, {
        hint: `Ask for ${installed}, or for ${major}.`,
      });
    }
    return major;
  }

  async function takeDown(id: string): Promise<void> {
    await servers.get(id)?.stop();
    servers.delete(id);
  }

  return {
    name: 'postgresql',
    backupTypes: ['FULL'],
    recovery,

    async inspect(connectionUri, tenantId) {
      const facts = await inspectSource(parseConnectionUri(connectionUri, boundsOf(tenantId)), null);
      // What can't be recovered here is not taken.
      await binaries.demand(majorOf(facts.datastoreVersion), runAs());
      return facts;
    },

    continues: continuesIdentity,

    async adopt(instance) {
      return await inspectSource(parseConnectionUri(instance.connectionUri, boundsOf(instance.tenantId)), instance.id);
    },

    async provision(place, signal): Promise<InstanceFacts> {
      const major = await chooseMajor(place.datastoreVersion);
      const { server, facts } = await provisionServer(place.home, major, binaries, runAs(), signal);
      servers.set(place.id, server);
      return facts;
    },

    async start(instance, signal) {
      const state = managedState(instance.state);
      if (!state || servers.has(instance.id)) return;
      const server = new ManagedServer(await serverPlace(instance.home, state, binaries, runAs()));
      servers.set(instance.id, server);
      try {
        await server.start(signal);
      } catch (error) {
        // Its port may be taken, or its disk full: a passing trouble must not need a restart of the service.
        server.keepTrying();
        throw error;
      }
    },

    async stop(instance) {
      await takeDown(instance.id);
    },

    async release(instance) {
      await leaveSource(addressOf(instance, boundsOf(instance.tenantId)), slotName(instance.id));
    },

    async destroy(instance) {
      await takeDown(instance.id);
      await endLeftover(dataDirectory(instance.home));
      await rm(socketDirectory(instance.home), { recursive: true, force: true });
      await rm(instance.home, { recursive: true, force: true });
      // The directory itself is the caller's.
      await mkdir(instance.home, { recursive: true });
    },

    async capture(instance, resume, sink) {
      const capture = new WalCapture({
        address: addressOf(instance, boundsOf(instance.tenantId)),
        slot: slotName(instance.id),
        systemId: typeof instance.state.systemId === 'string' ? instance.state.systemId : null,
        resume,
        sink,
        retainBytes: options.retainBytes ?? 2 ** 30,
        streamRestMs: options.streamRestMs ?? 0,
      });
      captures.add(capture);
      return capture;
    },

    backup: takeBackup,
    rollForward: {
      make: (request, sink) => rollForward(request, sink, binaries, runAs()),
      discard: discardRoll,
    },
    parsePosition,
    locate: locateCut,

    async close() {
      await Promise.all([...captures].map((capture) => capture.stop()));
      captures.clear();
      await Promise.all([...servers.keys()].map(takeDown));
    },
  };
}

/** 15.18 is of 15. */
function majorOf(version: string): number {
  return Number.parseInt(version, 10);
}

/** A server of the service's own is reached through its private socket, whatever its users did to passwords. */
function addressOf(instance: InstanceHandle, bounds: SourceBounds): ServerAddress {
  const state: JsonObject = instance.state;
  const managed = managedState(state);
  if (managed) return privateAddress(socketDirectory(instance.home), managed.port, managed.user);
  return parseConnectionUri(instance.connectionUri, bounds);
}
