/** A captured SQLite instance with everything a test of the driver needs around it. */
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import type { TestContext } from 'node:test';
import type { LogCapture, ResumePoint, StoredBackup } from '../../src/datastores/datastore.js';
import { uriOfFile } from '../../src/datastores/sqlite/source/databasePaths.js';
import { createSqliteDatastore, type SqliteDatastore, type SqliteOptions } from '../../src/datastores/sqlite/sqlite.js';
import type { InstanceHandle } from '../../src/model.js';
import { DirectoryArchive } from './directoryArchive.js';
import { ask } from './sqlitePrograms.js';

export interface SqliteBench {
  datastore: SqliteDatastore;
  archive: DirectoryArchive;
  instance: InstanceHandle;
  /** The database file. */
  file: string;
  capture(resume?: ResumePoint | null): Promise<LogCapture>;
  /** A FULL one, or one that stands on `parent`. */
  backup(capture: LogCapture, name: string, parent?: StoredBackup): Promise<StoredBackup>;
}

/** `pragmas` run before the schema is made. */
export async function sqliteBench(
  t: Pick<TestContext, 'after'>,
  dir: string,
  options: SqliteOptions & { pragmas?: string[]; file?: string } = {},
): Promise<SqliteBench> {
  const home = path.join(dir, 'home');
  const archiveDir = path.join(dir, 'archive');
  await mkdir(home);
  await mkdir(archiveDir);
  const file = path.join(dir, options.file ?? 'source.db');
  await mkdir(path.dirname(file), { recursive: true });
  const datastore = createSqliteDatastore(options);
  t.after(() => datastore.close());
  const archive = new DirectoryArchive(archiveDir);
  await ask(t, 'setup', file, ...(options.pragmas ?? []));
  const handle: InstanceHandle = {
    id: 'source',
    tenantId: 'tenant',
    origin: 'REGISTERED',
    connectionUri: uriOfFile(file),
    home,
    state: {},
  };
  const facts = await datastore.adopt(handle);
  const instance = { ...handle, connectionUri: facts.connectionUri, state: facts.state };
  return {
    datastore,
    archive,
    instance,
    file,
    capture: async (resume = null) => {
      const capture = await datastore.capture(instance, resume, archive);
      t.after(() => capture.stop());
      return capture;
    },
    backup: async (capture, name, parent) => {
      const { sink, done } = archive.backupSink(name, parent);
      const scratch = path.join(dir, `${name}.scratch`);
      await mkdir(scratch);
      const facts = await datastore.backup(
        {
          instance,
          capture,
          type: parent ? 'INCREMENTAL' : 'FULL',
          parent: parent ? archive.parent(parent) : null,
          scratch,
          signal: new AbortController().signal,
          progress: () => {},
        },
        sink,
      );
      return done(facts);
    },
  };
}
