/**
 * Every metric of the service, in one table. Labels are bounded: fields of the schema, patterns of addresses, codes,
 * states and steps; only what is per instance grows, up to a limit (see Gauges).
 */
import { Counter, Gauge, Histogram, Registry } from 'prom-client';

const OPERATION_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];
const RECOVERY_SECONDS = [0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 14_400, 43_200];

export type Metrics = ReturnType<typeof createMetrics>;

export function createMetrics() {
  const registry = new Registry();
  const registers = [registry];
  const counter = <Label extends string>(name: string, help: string, labelNames: Label[] = []) =>
    new Counter({ name, help, labelNames, registers });
  const gauge = <Label extends string>(name: string, help: string, labelNames: Label[] = []) =>
    new Gauge({ name, help, labelNames, registers });
  const histogram = <Label extends string>(name: string, help: string, buckets: number[], labelNames: Label[]) =>
    new Histogram({ name, help, buckets, labelNames, registers });

  return {
    registry,
    operations: counter(
      'pitr_operations_total',
      'Operations answered, by root field of the schema (REST: pattern of the address); code OK or that of the error; field none where it was refused before one was known.',
      ['via', 'kind', 'field', 'code'],
    ),
    operationSeconds: histogram(
      'pitr_operation_duration_seconds',
      'Time from an operation to its whole answer; subscriptions are left out.',
      OPERATION_SECONDS,
      ['kind', 'field'],
    ),
    operationsRunning: gauge('pitr_operations_running', 'Operations being answered, open subscriptions among them.', [
      'via',
    ]),

    recoveriesEnded: counter('pitr_recoveries_ended_total', 'Recoveries that came to an end since the start.', [
      'state',
    ]),
    recoverySeconds: histogram(
      'pitr_recovery_duration_seconds',
      'Time from the claim of a recovery to its end, as far as this process worked on it.',
      RECOVERY_SECONDS,
      ['state'],
    ),
    stepSeconds: histogram(
      'pitr_recovery_step_duration_seconds',
      'Time of each step of a recovery, with its retries; code OK or that of the fault, or CANCELLED.',
      RECOVERY_SECONDS,
      ['step', 'code'],
    ),
    storedBytes: counter('pitr_storage_written_bytes_total', 'Bytes put into storage, after compression.'),
    storedObjects: counter('pitr_storage_written_objects_total', 'Objects put into storage.'),
    webhookAttempts: counter(
      'pitr_webhook_attempts_total',
      'Attempts to deliver an event; outcome delivered, failed (tried again), refused (410) or expired (given up).',
      ['outcome'],
    ),

    recoveries: gauge('pitr_recoveries', 'Recoveries in the catalog, all that ever were, by state.', ['state']),
    recoveriesAtStep: gauge('pitr_recoveries_at_step', 'Running recoveries by the step they are at.', ['step']),
    instances: gauge('pitr_instances', 'Instances that are not deleted, by state.', ['state']),
    unhealthyArchives: gauge('pitr_archives_unhealthy', 'ACTIVE instances whose log is not being archived now.'),
    instancesWithoutSeries: gauge(
      'pitr_instances_without_series',
      'ACTIVE instances that have no series of their own because there are too many.',
    ),
    archiveHealthy: gauge('pitr_archive_healthy', '1 where the log is being archived now, else 0.', [
      'tenant',
      'instance',
    ]),
    archiveLag: gauge('pitr_archive_lag_seconds', 'How far the archive is behind the log of the source.', [
      'tenant',
      'instance',
    ]),
    windows: gauge('pitr_recovery_windows', 'Recovery windows; more than one means a gap.', ['tenant', 'instance']),
    windowEndAge: gauge(
      'pitr_recovery_window_end_age_seconds',
      'Age of the latest instant that can be recovered; none where nothing can.',
      ['tenant', 'instance'],
    ),
    homeFree: gauge('pitr_home_free_bytes', 'Bytes that the file system of PITR_HOME has left for the service.'),
    outboxWaiting: gauge('pitr_webhook_events_waiting', 'Events that are still to be delivered.'),
    outboxOldestAge: gauge(
      'pitr_webhook_oldest_event_age_seconds',
      'Age of the oldest of them; 0 where there is none.',
    ),
  };
}
