/** Makes one backup: the driver's part of it, its objects and its manifest, and at last the record that it is COMPLETED. */
import type { BackupRecord, Catalog, InstanceRecord } from '../catalog/records.js';
import type { BackupFacts, BackupSink } from '../datastores/datastore.js';
import type { DatastoreRegistry } from '../datastores/registry.js';
import { Fault } from '../errors.js';
import type { Clock, Instant } from '../instant.js';
import type { InstanceHandle, RecoveryPlan, StoredObject } from '../model.js';
import type { ObjectPipeline } from '../storage/pipeline.js';
import type { Storage } from '../storage/storage.js';
import { archivedLog } from './archivedLog.js';
import type { Archiver } from './archiver.js';
import { writeManifest } from './manifest.js';
import { backupPrefix } from './objectKeys.js';
import { openFull, openParent } from './parents.js';

export interface MakingOptions {
  catalog: Catalog;
  storage: Storage;
  pipeline: ObjectPipeline;
  datastores: DatastoreRegistry;
  archiver: Archiver;
  handleOf(instance: InstanceRecord): InstanceHandle;
  clock: Clock;
}

/** How a full backup is made of an older one: as a recovery would be that goes along `plan`, to where `at` leads. */
export interface RollPlan {
  plan: RecoveryPlan;
  at: Instant;
}

const PERCENT_EVERY_MS = 1_000;

export class Making {
  constructor(
    private readonly options: MakingOptions,
    private readonly run: { instance: InstanceRecord; backup: BackupRecord; scratch: string; signal: AbortSignal },
  ) {}

  /** Of the database itself. */
  async take(): Promise<void> {
    const { catalog, pipeline, datastores, archiver, handleOf } = this.options;
    const { instance, backup, scratch, signal } = this.run;
    const { sink, parts } = this.storing();
    const facts = await datastores.get(instance.datastore).backup(
      {
        instance: handleOf(instance),
        capture: archiver.captureOf(instance.id),
        type: backup.type,
        parent: await openParent({ read: catalog.read, pipeline }, backup, signal),
        scratch,
        signal,
        progress: this.progress(),
      },
      sink,
    );
    // Whoever sees the backup completed finds its window open. Where the source has gone meanwhile it opens later.
    await archiver.cover(instance.id, facts.consistentAt);
    await this.complete(facts, parts());
  }

  /** Touches nothing but the archive and its own scratch directory. */
  async rollForward({ plan, at }: RollPlan): Promise<void> {
    const { catalog, pipeline, datastores } = this.options;
    const { instance, scratch, signal } = this.run;
    const driver = datastores.get(instance.datastore).rollForward;
    if (!driver || plan.incrementalIds.length > 0) throw new Fault('INTERNAL', 'No driver for such a backup');
    const archive = { read: catalog.read, pipeline };
    const progress = this.progress();
    let done = 0;
    let total: number | null = null;
    const passed = (plainBytes: number) => {
      done += plainBytes;
      progress(done, total);
    };
    const base = await openFull(archive, plan.baseId, signal, passed);
    // Read, replayed, and stored again: about as much as it was.
    total = 2 * base.facts.sizeBytes + plan.logBytes;
    const range = { after: plan.replayAfter, last: plan.cut.position.ordinal };
    const { sink, parts } = this.storing(passed);
    const facts = await driver.make(
      {
        base,
        cut: plan.cut,
        at,
        segments: (order) => archivedLog(archive, plan.stretchId, range, order, signal, passed),
        scratch,
        signal,
      },
      sink,
    );
    await this.complete(facts, parts());
  }

  /** Where a backup's content goes, and the parts that it became. */
  private storing(passed: (plainBytes: number) => void = () => {}) {
    const { pipeline } = this.options;
    const { backup, signal } = this.run;
    let stored: StoredObject[] = [];
    async function* watched(content: AsyncIterable<Buffer>): AsyncIterable<Buffer> {
      for await (const chunk of content) {
        passed(chunk.length);
        yield chunk;
      }
    }
    const sink: BackupSink = {
      write: async (content, partBytes) => {
        const key = `${backupPrefix(backup.instanceId, backup.id)}/parts`;
        stored = await pipeline.writeParts(key, watched(content), { partBytes, signal });
      },
    };
    return { sink, parts: () => stored };
  }

  private progress(): (done: number, total: number | null) => void {
    const { id } = this.run.backup;
    let reportedMs = performance.now();
    return (done, total) => {
      if (total === null || total <= 0 || performance.now() - reportedMs < PERCENT_EVERY_MS) return;
      reportedMs = performance.now();
      const percent = Math.min(99, (100 * done) / total);
      void this.options.catalog.write((writer) => writer.updateBackup(id, { percent })).catch(() => {});
    };
  }

  private async complete(facts: BackupFacts, parts: StoredObject[]): Promise<void> {
    const { catalog, pipeline, storage, clock } = this.options;
    const { instance, backup, signal } = this.run;
    signal.throwIfAborted();
    const manifest = await writeManifest(pipeline, {
      instanceId: instance.id,
      backupId: backup.id,
      datastore: instance.datastore,
      facts,
      parts,
    });
    await catalog.write(async (writer) => {
      const stretch = await writer.stretchByName(instance.id, facts.consistent.stretch);
      if (!stretch || !covers(stretch, facts)) throw notJoined();
      await writer.updateBackup(backup.id, {
        state: 'COMPLETED',
        percent: 100,
        stretchId: stretch.id,
        consistentAt: facts.consistentAt,
        consistentOrdinal: facts.consistent.ordinal,
        consistentText: facts.consistent.text,
        replayAfterOrdinal: facts.replayAfter.ordinal,
        manifest,
        sizeBytes: facts.sizeBytes,
        storedBytes: parts.reduce((sum, part) => sum + part.storedBytes, manifest.storedBytes),
        location: `${storage.uri}/${backupPrefix(instance.id, backup.id)}`,
        completedAt: clock(),
      });
    });
  }
}

/** The archive holds the log from where the backup needs it to where it is consistent. */
function covers(stretch: { startOrdinal: number; lastOrdinal: number }, facts: BackupFacts): boolean {
  return stretch.startOrdinal <= facts.replayAfter.ordinal && facts.consistent.ordinal <= stretch.lastOrdinal;
}

function notJoined(): Fault {
  return new Fault('DATASTORE_UNAVAILABLE', 'The log that makes the backup consistent is not in the archive', {
    hint: 'The log was interrupted while the backup ran; take it again.',
  });
}
