/** The only wiring: configuration -> catalog, storage, datastores, services, gateway; up in this order, down in reverse. */
import { type Logger, pino } from 'pino';
import { Archiver } from './backup/archiver.js';
import { BackupService } from './backup/backupService.js';
import { DamageBook } from './backup/damageBook.js';
import { openCatalog } from './catalog/catalog.js';
import type { Catalog, InstanceRecord } from './catalog/records.js';
import { type Config, ConfigError, readConfig } from './config.js';
import { createPostgresqlDatastore } from './datastores/postgresql/postgresql.js';
import { NetworkBounds } from './datastores/postgresql/source/networks.js';
import { DatastoreRegistry } from './datastores/registry.js';
import { createSqliteDatastore, type SqliteOptions } from './datastores/sqlite/sqlite.js';
import { freeBytes } from './diskSpace.js';
import { Fault } from './errors.js';
import { Delivery } from './events/delivery.js';
import { catalogOutbox, noOutbox } from './events/outbox.js';
import { readSecrets } from './events/signature.js';
import { type Authenticator, createAuthenticator } from './gateway/identity/authenticator.js';
import type { Limits } from './gateway/limits/limits.js';
import { readSafelist } from './gateway/limits/persistedOperations.js';
import { readMetricsToken, startMetricsListener } from './gateway/metricsEndpoint.js';
import { startGateway } from './gateway/server.js';
import { Gauges } from './gauges.js';
import { lockHome } from './homeLock.js';
import { FileBounds } from './instances/fileBounds.js';
import { handleOf } from './instances/handle.js';
import { InstanceService } from './instances/instanceService.js';
import { Places } from './instances/places.js';
import { sweepScratch } from './instances/scratchSweep.js';
import { systemClock } from './instant.js';
import { planToEnd } from './recovery/planning.js';
import { ProgressHub } from './recovery/progress.js';
import { RecoveryService } from './recovery/recoveryService.js';
import { TaskManager, type TaskManagerOptions } from './recovery/taskManager.js';
import { requestFacts } from './requestScope.js';
import { secretKey } from './secretKey.js';
import { describeStartProblem } from './startProblem.js';
import { FileStorage } from './storage/fileStorage.js';
import { ObjectPipeline } from './storage/pipeline.js';
import { Telemetry } from './telemetry/telemetry.js';

export interface RunningService {
  url: string;
  stop(): Promise<void>;
}

/** A stop that takes longer than this after the notice to balancers ends the process anyway; recoveries go on at the next start. */
const STOP_LIMIT_MS = 10_000;

/** @throws ConfigError, HomeInUse, Fault */
export async function startService(
  config: Config,
  logger: Logger,
  parts: Pick<TaskManagerOptions, 'steps'> & { sqlite?: SqliteOptions } = {},
): Promise<RunningService> {
  const clock = systemClock;
  const places = new Places(config.PITR_HOME);
  await places.prepare();
  // What was started, to be ended in reverse order: also when a later part does not start.
  const releasers: (() => Promise<void>)[] = [];
  const stop = async (): Promise<void> => {
    for (let release = releasers.pop(); release; release = releasers.pop()) {
      await release().catch((error: unknown) => logger.error({ err: error }, 'did not stop cleanly'));
    }
  };
  try {
    // First of all: with a wrong one nothing must start.
    const authenticator = await authenticatorOf(config, logger);
    releasers.push(async () => authenticator.close());
    const limits = await limitsOf(config);
    const networks = networksOf(config, authenticator.required);
    const settings = await secretSettings(config);
    const telemetry = await telemetryOf(config, logger);
    telemetry.addProcess();
    releasers.push(() => telemetry.close());
    const lock = await lockHome(places);
    releasers.push(() => lock.release());
    const catalog = await openCatalog({ file: places.catalogFile, secretKey: await secretKey(places) });
    releasers.push(() => catalog.close());
    const storage = await FileStorage.open(places.storage);
    await storage.sweep();
    const pipeline = new ObjectPipeline(storage, { onStored: ({ storedBytes }) => telemetry.stored(storedBytes) });
    releasers.push(() => pipeline.close());
    const allowed = config.PITR_REGISTER_FILES ?? (authenticator.required ? null : '*');
    const fileBounds = new FileBounds({ allowed, home: places.root });
    const datastores = new DatastoreRegistry([
      createSqliteDatastore({
        logger,
        ...parts.sqlite,
        capture: { ...parts.sqlite?.capture, retainBytes: config.PITR_RETAINED_LOG_MIB * 2 ** 20 },
      }),
      createPostgresqlDatastore({
        binDirectories: config.PITR_POSTGRESQL_BIN,
        runAs: config.PITR_POSTGRESQL_USER,
        retainBytes: config.PITR_RETAINED_LOG_MIB * 2 ** 20,
        streamRestMs: config.PITR_POSTGRESQL_STREAM_REST_MS,
        bounds: networks,
        realPath: (tenantId, file) => fileBounds.realPath(tenantId, file),
      }),
    ]);
    releasers.push(() => datastores.close());

    const handle = (instance: InstanceRecord) => handleOf(places, instance);
    const quotas = {
      instances: config.PITR_QUOTA_INSTANCES,
      volumeSizeGiB: config.PITR_QUOTA_VOLUME_GIB,
      backups: config.PITR_QUOTA_BACKUPS,
      recoveries: config.PITR_QUOTA_RECOVERIES,
    };
    const url = config.PITR_WEBHOOK_URL;
    const delivery =
      url === null ? null : new Delivery({ catalog, clock, logger, telemetry, url, secrets: settings.secrets });
    const outbox = delivery
      ? catalogOutbox({ source: config.PITR_WEBHOOK_SOURCE, clock, onNoted: () => delivery.wake() })
      : noOutbox;
    if (delivery) releasers.push(() => delivery.stop());
    // Nobody is left to be told.
    else await catalog.write((writer) => writer.pruneOutbox(clock()));
    const shared = {
      catalog,
      pipeline,
      datastores,
      places,
      handleOf: handle,
      quotas,
      clock,
      logger,
      outbox,
      telemetry,
    };
    const archiver = new Archiver({ ...shared, onInterrupted: (id) => void backups.mend(id) });
    releasers.push(() => archiver.close());
    const onFault = (fault: Fault) => damage.remember(fault);
    const backups = new BackupService({
      ...shared,
      storage,
      archiver,
      scratchOf: (id) => places.backupScratch(id),
      planToEnd: (instance) => planToEnd(shared, datastores.get(instance.datastore), instance),
      rollByItself: config.PITR_SYNTHETIC_BACKUPS === 'on',
      freeBytes: () => freeBytes(places.root),
      onFault,
    });
    releasers.push(() => backups.close());
    const damage = new DamageBook({ ...shared, storage, onLost: (id) => void backups.mend(id) });
    const onDeleted = (id: string) => backups.instanceDeleted(id);
    const instances = new InstanceService({ ...shared, archiver, fileBounds, onDeleted });
    releasers.push(() => instances.close());
    const hub = new ProgressHub();
    const tasks = new TaskManager({
      ...shared,
      ...parts,
      hub,
      concurrency: config.PITR_CONCURRENT_RECOVERIES,
      onActivated: (id) => instances.activated(id),
      onFault,
    });
    releasers.push(() => tasks.stop());
    const cover = archiver.cover.bind(archiver);
    const recoveries = new RecoveryService({ ...shared, cover, tasks, hub, onFault });

    await backups.start();
    await sweepScratch(shared);
    await instances.start();
    for (const { id } of await catalog.read.instancesInStates(['ACTIVE'])) void backups.mend(id);
    await tasks.start();
    delivery?.start();
    const gauges = new Gauges({ telemetry, catalog, archiver, clock, home: places.root });
    const metricsAt = config.PITR_METRICS_LISTEN;
    if (metricsAt) {
      const listener = await startMetricsListener({
        ...metricsAt,
        token: settings.metricsToken,
        allowedHosts: config.PITR_ALLOWED_HOSTS,
        exposition: gauges,
        logger,
      });
      releasers.push(() => listener.close());
      logger.info({ url: listener.url }, 'metrics are served');
    }
    const gateway = await startGateway({
      services: { instances, backups, recoveries, ready: () => answers(catalog) },
      authenticator,
      host: config.HOST,
      port: config.PORT,
      logger,
      limits,
      allowedHosts: config.PITR_ALLOWED_HOSTS,
      allowedOrigins: config.PITR_ALLOWED_ORIGINS,
      telemetry,
      exposition: authenticator.required || metricsAt !== null ? null : gauges,
      noticeMs: config.PITR_DRAIN_SECONDS * 1000,
    });
    releasers.push(() => gateway.close());
    lock.publish({ url: gateway.url });
    logger.info(
      { url: gateway.url, home: places.root },
      authenticator.required
        ? 'ready; callers need a token'
        : 'ready; without authentication: everyone who reaches this address administers the tenant local',
    );
    return { url: gateway.url, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Every capture was started before the gateway; what can still fail later is the catalog. */
async function answers(catalog: Catalog): Promise<boolean> {
  await catalog.read.recoveriesInStates(['QUEUED'], 1);
  return true;
}

/** @throws ConfigError */
function networksOf({ PITR_REGISTER_NETWORKS: given }: Config, authenticated: boolean): NetworkBounds {
  const usual = ['public', 'private', ...(authenticated ? [] : ['loopback', 'sockets'])];
  try {
    return new NetworkBounds(given ?? usual);
  } catch (error) {
    return unusable('PITR_REGISTER_NETWORKS')(error);
  }
}

/** @throws ConfigError */
export async function limitsOf(config: Config): Promise<Limits> {
  const { PITR_OPERATIONS_FILE: file } = config;
  return {
    depth: config.PITR_LIMIT_DEPTH,
    aliases: config.PITR_LIMIT_ALIASES,
    cost: config.PITR_LIMIT_COST,
    introspection: config.PITR_INTROSPECTION === 'on',
    operationMs: config.PITR_LIMIT_OPERATION_SECONDS * 1000,
    rate: config.PITR_LIMIT_RATE,
    connections: config.PITR_LIMIT_CONNECTIONS,
    subscriptions: config.PITR_LIMIT_SUBSCRIPTIONS,
    safelist: file === null ? null : await readSafelist(file).catch(unusable('PITR_OPERATIONS_FILE')),
  };
}

/** @throws ConfigError */
async function authenticatorOf(config: Config, logger: Logger): Promise<Authenticator> {
  const { PITR_OIDC_ISSUER: issuer, PITR_TOKENS_FILE: tokensFile } = config;
  try {
    return await createAuthenticator({
      tokensFile,
      issuer:
        issuer === null
          ? null
          : {
              issuer,
              audience: config.PITR_OIDC_AUDIENCE,
              jwksUri: config.PITR_OIDC_JWKS_URI,
              tenantClaim: config.PITR_OIDC_TENANT_CLAIM,
              roleClaim: config.PITR_OIDC_ROLE_CLAIM,
              clockToleranceSeconds: config.PITR_OIDC_CLOCK_TOLERANCE,
            },
      logger,
    });
  } catch (error) {
    return unusable('PITR_TOKENS_FILE')(error);
  }
}

function unusable(setting: string) {
  return (error: unknown): never => {
    if (!(error instanceof Fault)) throw error;
    throw new ConfigError(`These settings are not usable:\n  ${setting}: ${error.message}`);
  };
}

/** What settings hold in files, read before anything starts. @throws ConfigError */
async function secretSettings(config: Config): Promise<{ secrets: Buffer[]; metricsToken: string | null }> {
  const { PITR_WEBHOOK_SECRET_FILE: secretFile, PITR_METRICS_TOKEN_FILE: tokenFile } = config;
  try {
    return {
      secrets: secretFile === null ? [] : await readSecrets(secretFile),
      metricsToken: tokenFile === null ? null : await readMetricsToken(tokenFile),
    };
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    throw new ConfigError(`These settings are not usable:\n  ${error.message}`);
  }
}

/** The SDK of traces is loaded only where it is used. */
async function telemetryOf(config: Config, logger: Logger): Promise<Telemetry> {
  const base = config.OTEL_EXPORTER_OTLP_ENDPOINT;
  const url = config.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT ?? (base && `${base.replace(/\/+$/, '')}/v1/traces`);
  const wanted = config.OTEL_SDK_DISABLED.toLowerCase() !== 'true' && config.OTEL_TRACES_EXPORTER.includes('otlp');
  if (url === null || !wanted) return new Telemetry();
  const { startTracing } = await import('./telemetry/openTelemetry.js');
  const warn = (message: string) => logger.warn({ reason: message }, 'traces could not be sent');
  return new Telemetry(startTracing({ url, serviceName: config.OTEL_SERVICE_NAME, warn }));
}

async function main(): Promise<void> {
  const config = readConfig(process.env);
  const logger = pino({ level: config.LOG_LEVEL, mixin: requestFacts });
  // A signal may come at any moment: before everything is up it waits for that, and then takes it all down.
  const started = startService(config, logger);
  const stop = (signal: NodeJS.Signals): void => {
    logger.info({ signal }, 'stopping');
    setTimeout(() => process.exit(1), STOP_LIMIT_MS + config.PITR_DRAIN_SECONDS * 1000).unref();
    void started.then((service) => service.stop()).then(() => process.exit(0));
  };
  process.once('SIGTERM', stop);
  process.once('SIGINT', stop);
  await started;
}

if (import.meta.filename === process.argv[1]) {
  main().catch((error: unknown) => {
    process.stderr.write(`${error instanceof ConfigError ? error.message : describeStartProblem(error)}\n`);
    process.exit(1);
  });
}
