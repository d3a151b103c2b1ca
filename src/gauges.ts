/** What metrics say of the present: read from the catalog, the captures and the file system whenever they are asked for. */

import type { Archiver } from './backup/archiver.js';
import type { Catalog } from './catalog/records.js';
import { freeBytes } from './diskSpace.js';
import type { Clock, Instant } from './instant.js';
import { instanceStates, recoveryStates, recoverySteps } from './model.js';
import { loadWindows } from './recovery/planning.js';
import type { Telemetry } from './telemetry/telemetry.js';

/** More ACTIVE instances than this, in the order of their ids, have no series of their own. */
const MOST_INSTANCES = 1_000;

export interface GaugesOptions {
  telemetry: Telemetry;
  catalog: Catalog;
  archiver: Archiver;
  clock: Clock;
  /** Absolute path of PITR_HOME. */
  home: string;
  mostInstances?: number;
}

export class Gauges {
  private reading: Promise<string> | null = null;

  constructor(private readonly options: GaugesOptions) {}

  readonly contentType = 'text/plain; version=0.0.4; charset=utf-8';

  /** All metrics in Prometheus' text format. Who asks while somebody else is being answered gets the same answer. */
  text(): Promise<string> {
    this.reading ??= this.read().finally(() => {
      this.reading = null;
    });
    return this.reading;
  }

  private async read(): Promise<string> {
    const { metrics } = this.options.telemetry;
    await Promise.all([this.recoveries(), this.instances(), this.outbox(), this.disk()]);
    // prom-client writes Nan for what has no sample yet; the format's NaN is what every reader of it takes.
    return (await metrics.registry.metrics()).replaceAll(/ Nan$/gm, ' NaN');
  }

  private async recoveries(): Promise<void> {
    const { catalog, telemetry } = this.options;
    const { recoveries, recoveriesAtStep } = telemetry.metrics;
    const [counts, running] = await Promise.all([
      catalog.read.recoveryCounts(),
      catalog.read.recoveriesInStates(['RUNNING']),
    ]);
    for (const state of recoveryStates) recoveries.set({ state }, counts.get(state) ?? 0);
    for (const step of recoverySteps) {
      recoveriesAtStep.set({ step }, running.filter(({ progress }) => progress.step === step).length);
    }
  }

  private async instances(): Promise<void> {
    const { catalog, archiver, clock, telemetry, mostInstances = MOST_INSTANCES } = this.options;
    const { metrics } = telemetry;
    const present = instanceStates.filter((state) => state !== 'DELETED');
    const found = await catalog.read.instancesInStates(present);
    for (const state of present) {
      metrics.instances.set({ state }, found.filter((instance) => instance.state === state).length);
    }
    const active = found.filter(({ state }) => state === 'ACTIVE').sort((a, b) => (a.id < b.id ? -1 : 1));
    const healthOf = new Map(active.map((instance) => [instance.id, archiver.healthOf(instance)]));
    metrics.unhealthyArchives.set(active.filter(({ id }) => !healthOf.get(id)?.healthy).length);
    const shown = active.slice(0, mostInstances);
    metrics.instancesWithoutSeries.set(active.length - shown.length);

    const windows = await loadWindows(
      catalog.read,
      shown.map(({ id }) => id),
    );
    // Of instances that are gone nothing may stay; from here on nothing waits.
    for (const each of [metrics.archiveHealthy, metrics.archiveLag, metrics.windows, metrics.windowEndAge])
      each.reset();
    for (const instance of shown) {
      const labels = { tenant: instance.tenantId, instance: instance.id };
      const health = healthOf.get(instance.id);
      metrics.archiveHealthy.set(labels, health?.healthy ? 1 : 0);
      const lag = health?.lagSeconds ?? null;
      if (lag !== null) metrics.archiveLag.set(labels, lag);
      const own = windows.get(instance.id) ?? [];
      metrics.windows.set(labels, own.length);
      const latest = own.reduce<Instant | null>((end, { to }) => (end === null || to > end ? to : end), null);
      if (latest !== null) metrics.windowEndAge.set(labels, secondsSince(latest, clock()));
    }
  }

  private async outbox(): Promise<void> {
    const { catalog, clock, telemetry } = this.options;
    const { waiting, oldestAt } = await catalog.read.outboxBacklog();
    telemetry.metrics.outboxWaiting.set(waiting);
    telemetry.metrics.outboxOldestAge.set(oldestAt === null ? 0 : secondsSince(oldestAt, clock()));
  }

  private async disk(): Promise<void> {
    this.options.telemetry.metrics.homeFree.set(await freeBytes(this.options.home));
  }
}

function secondsSince(at: Instant, now: Instant): number {
  return Math.max(0, (now - at) / 1_000_000);
}
