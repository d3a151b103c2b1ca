/** The services behind the edge, in memory and just large enough to test the edge with: rows, recorded calls, a feed of progress. */
import { EventEmitter, once } from 'node:events';
import type { BackupRecord, InstanceRecord, Page, RecoveryRecord, StepRecord } from '../../src/catalog/records.js';
import { Fault } from '../../src/errors.js';
import type { RecoveryWindow } from '../../src/model.js';
import type { Assessment, InstanceChange, ProgressEvent, Services } from '../../src/services.js';

export class MemoryServices implements Services {
  readonly instanceRows: InstanceRecord[] = [];
  readonly backupRows: BackupRecord[] = [];
  readonly recoveryRows: RecoveryRecord[] = [];
  readonly stepRows: StepRecord[] = [];
  readonly windows = new Map<string, RecoveryWindow[]>();
  /** What the edge asked for, in order, with its arguments but for the caller. */
  readonly calls: { name: string; with: unknown[] }[] = [];
  /** Signals of the watchers, in the order in which they came. */
  readonly watchers: AbortSignal[] = [];
  assessment: Assessment | null = null;
  isReady = true;
  /** Called and awaited by instances.list, so that a test can make it throw or wait. */
  onList: () => Promise<void> | void = () => undefined;
  /** `progress` carries ProgressEvents, `watching` says that a watcher has come. */
  readonly feed = new EventEmitter();

  callsOf(name: string): unknown[][] {
    return this.calls.filter((call) => call.name === name).map((call) => call.with);
  }

  readonly instances: Services['instances'] = {
    byIds: async (_caller, ids) => this.rows('instances.byIds', this.instanceRows, ids),
    list: async (_caller, filter, page) => {
      this.note('instances.list', filter, page);
      await this.onList();
      return pageOf(this.instanceRows, page);
    },
    create: async (_caller, input) => {
      this.note('instances.create', input);
      return this.first(this.instanceRows, 'INSTANCE_NOT_FOUND');
    },
    register: async (_caller, input) => {
      this.note('instances.register', input);
      return this.first(this.instanceRows, 'INSTANCE_NOT_FOUND');
    },
    update: async (_caller, id: string, change: InstanceChange) => {
      this.note('instances.update', id, change);
      return this.named(this.instanceRows, id, 'INSTANCE_NOT_FOUND');
    },
    remove: async (_caller, id) => this.named(this.instanceRows, id, 'INSTANCE_NOT_FOUND'),
    recoveryWindows: async (_caller, ids) => {
      this.note('instances.recoveryWindows', ids);
      return new Map(ids.map((id) => [id, this.windows.get(id) ?? []]));
    },
    logArchives: async (_caller, ids) => {
      this.note('instances.logArchives', ids);
      const facts = {
        segments: 3,
        bytes: 2 ** 40,
        lagSeconds: 0.5,
        retainedBytes: 2 ** 30,
        healthy: true,
        message: null,
      };
      return new Map(ids.map((id) => [id, facts]));
    },
  };

  readonly backups: Services['backups'] = {
    byIds: async (_caller, ids) => this.rows('backups.byIds', this.backupRows, ids),
    list: async (_caller, instanceId, filter, page) => {
      this.note('backups.list', instanceId, filter, page);
      return this.backupRows.filter((row) => row.instanceId === instanceId);
    },
    listAll: async (_caller, filter, page) => {
      this.note('backups.listAll', filter, page);
      return pageOf(this.backupRows, page);
    },
    startingPoints: async (_caller, instanceId, before, page) => {
      this.note('backups.startingPoints', instanceId, before, page);
      return this.backupRows.filter((row) => row.instanceId === instanceId);
    },
    take: async (_caller, instanceId, type) => {
      this.note('backups.take', instanceId, type);
      return this.first(this.backupRows, 'INSTANCE_NOT_FOUND');
    },
    takeFromArchive: async (_caller, instanceId) => {
      this.note('backups.takeFromArchive', instanceId);
      return this.first(this.backupRows, 'INSTANCE_NOT_FOUND');
    },
    remove: async (_caller, id) => this.named(this.backupRows, id, 'BACKUP_NOT_FOUND'),
  };

  readonly recoveries: Services['recoveries'] = {
    byIds: async (_caller, ids) => this.rows('recoveries.byIds', this.recoveryRows, ids),
    list: async (_caller, filter, page) => {
      this.note('recoveries.list', filter, page);
      return pageOf(this.recoveryRows, page);
    },
    steps: async (_caller, ids) => {
      this.note('recoveries.steps', ids);
      return new Map(ids.map((id) => [id, this.stepRows.filter((row) => row.recoveryId === id)]));
    },
    assess: async (_caller, instanceId, target) => {
      this.note('recoveries.assess', instanceId, target);
      this.named(this.instanceRows, instanceId, 'INSTANCE_NOT_FOUND');
      if (!this.assessment) throw new Error('The test gave no assessment');
      return this.assessment;
    },
    estimateSeconds: async () => 12.5,
    recover: async (_caller, input) => {
      this.note('recoveries.recover', input);
      return this.first(this.recoveryRows, 'INSTANCE_NOT_FOUND');
    },
    cancel: async (_caller, id) => this.named(this.recoveryRows, id, 'RECOVERY_NOT_FOUND'),
    watch: (_caller, id, signal) => this.watch(id, signal),
  };

  async ready(): Promise<boolean> {
    return this.isReady;
  }

  private async *watch(id: string, signal: AbortSignal): AsyncGenerator<ProgressEvent> {
    this.watchers.push(signal);
    const { state, progress } = this.named(this.recoveryRows, id, 'RECOVERY_NOT_FOUND');
    let next = once(this.feed, 'progress', { signal });
    next.catch(() => undefined);
    yield { recoveryId: id, state, progress };
    this.feed.emit('watching');
    for (;;) {
      // Throws when the signal fires, as a source well may.
      const [event] = (await next) as [ProgressEvent];
      next = once(this.feed, 'progress', { signal });
      next.catch(() => undefined);
      yield event;
      if (['SUCCEEDED', 'FAILED', 'CANCELLED', 'STUCK'].includes(event.state)) return;
    }
  }

  private note(name: string, ...args: unknown[]): void {
    this.calls.push({ name, with: args });
  }

  private rows<Row extends { id: string }>(name: string, rows: Row[], ids: readonly string[]): Row[] {
    this.note(name, ids);
    return rows.filter((row) => ids.includes(row.id));
  }

  private named<Row extends { id: string }>(rows: Row[], id: string, code: Fault['code']): Row {
    const row = rows.find((one) => one.id === id);
    if (!row) throw new Fault(code, `There is nothing called ${id}`);
    return row;
  }

  private first<Row extends { id: string }>(rows: Row[], code: Fault['code']): Row {
    return this.named(rows, rows[0]?.id ?? 'the first row', code);
  }
}

function pageOf<Row>(rows: Row[], { first }: Page): Row[] {
  return rows.slice(0, first);
}
