/** The SQLite driver: one file per instance, its write-ahead log captured transaction by transaction. */
import { chmod, rm } from 'node:fs/promises';
import { Fault } from '../../errors.js';
import type { InstanceHandle } from '../../model.js';
import type { Datastore, InstanceFacts, RecoveryDriver } from '../datastore.js';
import { fullBackup } from './backup/fullBackup.js';
import { pageBackup } from './backup/pageBackup.js';
import { SqliteCapture } from './capture/capture.js';
import { Engine, type SqliteLogger } from './engine/engine.js';
import type { CaptureTuning } from './follower/captureTerms.js';
import { parsePosition } from './formats/position.js';
import { activateCopy } from './recovery/activateCopy.js';
import { locateCut } from './recovery/locateCut.js';
import { SqliteRecovery } from './recovery/recovery.js';
import { verifyCopy } from './recovery/verifyCopy.js';
import { databaseFile, managedFile, spoolDirectory, uriOfFile } from './source/databasePaths.js';
import { inspectFile } from './source/inspectFile.js';

export interface SqliteOptions {
  logger?: SqliteLogger;
  capture?: Partial<CaptureTuning>;
  /** The engine's program, for tests that give it another clock. */
  engineProgram?: string;
}

const defaults: CaptureTuning = {
  pollMs: 1000,
  pauseMs: 2,
  busyPauseMs: 8,
  sealBytes: 8 << 20,
  sealEveryMs: 1000,
  sealAgeMs: 5000,
  restartBytes: 4 << 20,
  idleRestartBytes: 256 << 10,
  heldTellMs: 60_000,
  retainBytes: 1 << 30,
  hangMs: 30_000,
};

const silent: SqliteLogger = { warn: () => {}, info: () => {} };

/** The datastore and, for tests that kill it, its engine. */
export interface SqliteDatastore extends Datastore {
  readonly engine: Engine;
}

export function createSqliteDatastore(options: SqliteOptions = {}): SqliteDatastore {
  const logger = options.logger ?? silent;
  const tuning = { ...defaults, ...options.capture };
  const engine = new Engine(logger, tuning.hangMs, options.engineProgram);
  let version: string | null = null;
  const libraryVersion = async () => {
    version ??= await engine.call('version', {});
    return version;
  };
  const factsOf = async (file: string): Promise<InstanceFacts> => inspectFile(uriOfFile(file), await libraryVersion());

  const rebuilding = new SqliteRecovery();
  const recovery: RecoveryDriver = {
    order: ['REPLAY_LOG', 'APPLY_INCREMENTALS', 'RESTORE_BASE'],
    replayLog: (context) => rebuilding.replayLog(context),
    applyIncrementals: (context) => rebuilding.applyIncrementals(context),
    restoreBase: (context) => rebuilding.restoreBase(context),
    verify: (context) => verifyCopy(context, engine),
    activate: async (context) => ({ ...(await factsOf(await activateCopy(context))), notices: [] }),
    async discard(target) {
      rebuilding.forget(target);
    },
  };

  return {
    name: 'sqlite',
    backupTypes: ['FULL', 'DIFFERENTIAL', 'INCREMENTAL'],
    engine,
    recovery,
    parsePosition,

    async inspect(connectionUri) {
      return inspectFile(connectionUri, await libraryVersion());
    },

    // Earlier releases noted no time of birth.
    continues: (known, found) => found.startsWith(`${known}:`),

    async adopt(instance) {
      const file = databaseFile(instance);
      // Said before it is done: afterwards the file is as if it had always been so.
      const { notices } = await factsOf(file);
      await engine.call('useWal', { file, create: false });
      return { ...(await factsOf(file)), notices };
    },

    async provision({ home, datastoreVersion }) {
      const atHand = await libraryVersion();
      if (datastoreVersion !== null && !`${atHand}.`.startsWith(`${datastoreVersion}.`)) {
        throw new Fault('DATASTORE_NOT_SUPPORTED', `SQLite ${datastoreVersion} is not at hand; ${atHand} is`, {
          hint: `Leave datastoreVersion out, or ask for ${atHand}.`,
        });
      }
      const file = managedFile(home);
      await engine.call('useWal', { file, create: true });
      await chmod(file, 0o600);
      return { ...(await factsOf(file)), notices: [] };
    },

    // A file needs nobody to run it.
    async start() {},
    async stop() {},

    async release(instance) {
      await rm(spoolDirectory(instance), { recursive: true, force: true });
    },

    async destroy(instance: InstanceHandle) {
      await rm(spoolDirectory(instance), { recursive: true, force: true });
      if (instance.origin === 'REGISTERED') return;
      for (const ending of ['', '-wal', '-shm', '-journal']) {
        await rm(`${managedFile(instance.home)}${ending}`, { force: true });
      }
    },

    capture: (instance, resume, sink) => SqliteCapture.start(engine, instance, resume, sink, tuning, logger),
    backup: (request, sink) => (request.type === 'FULL' ? fullBackup : pageBackup)(request, sink),
    locate: (target, around) => locateCut(target, around),
    close: () => engine.close(),
  };
}
