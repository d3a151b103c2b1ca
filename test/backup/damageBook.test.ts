/** What a disk that cannot read an object means: the object is lost where others can be read, and nothing is proved where none can. */
import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { type TestContext, test } from 'node:test';
import { pino } from 'pino';
import { DamageBook } from '../../src/backup/damageBook.js';
import { writeManifest } from '../../src/backup/manifest.js';
import { backupPrefix, segmentKey } from '../../src/backup/objectKeys.js';
import { Fault } from '../../src/errors.js';
import { readingFault } from '../../src/storage/fileFaults.js';
import { FileStorage } from '../../src/storage/fileStorage.js';
import { ObjectPipeline } from '../../src/storage/pipeline.js';
import type { ObjectStream } from '../../src/storage/storage.js';
import { aBackup, anInstance, aSegment, aStretch, at, completion, scratchCatalog } from '../catalog/examples.js';
import { inPieces } from '../storage/objects.js';
import { scratchDir } from '../support/scratch.js';

/** A stretch of two segments with a full backup before them, on a disk of which any object can be made unreadable. */
async function bench(t: TestContext) {
  const { catalog } = await scratchCatalog(t);
  const storage = await FileStorage.open(await scratchDir(t));
  /** The objects that the disk cannot read. */
  const bad = new Set<string>();
  const get = storage.get.bind(storage);
  storage.get = async (key, signal): Promise<ObjectStream | null> => {
    if (!bad.has(key)) return get(key, signal);
    const eio = Object.assign(new Error('EIO: i/o error, read'), { code: 'EIO', syscall: 'read' });
    return new Readable({ read() {} }).destroy(readingFault(eio, key, '/storage') as Error);
  };
  const pipeline = new ObjectPipeline(storage, { workers: 1 });
  t.after(() => pipeline.close());
  const write = (key: string) => pipeline.write(key, inPieces(Buffer.from(key)));
  const ends = [10, 20];
  const position = (ordinal: number) => ({ stretch: 's', ordinal, text: `s/${ordinal}` });
  const segments = await Promise.all(
    ends.map((last) => write(segmentKey('i', { after: position(last - 10), last: position(last) }))),
  );
  const part = await write(`${backupPrefix('i', 'b')}/parts/00000000`);
  const facts = { consistent: position(7), consistentAt: at(0), replayAfter: position(5), sizeBytes: 1, state: {} };
  const manifest = await writeManifest(pipeline, {
    ...{ instanceId: 'i', backupId: 'b', datastore: 'sqlite', facts, parts: [part] },
  });
  await catalog.write(async (writer) => {
    await writer.insertInstance(anInstance({ id: 'i' }));
    await writer.insertStretch(aStretch({ id: 's', instanceId: 'i' }));
    for (const [number, object] of segments.entries()) {
      const last = ends[number] ?? 0;
      await writer.insertSegment(aSegment({ stretchId: 's', after: last - 10, last, object }));
    }
    await writer.insertBackup(aBackup({ id: 'b', instanceId: 'i' }));
    await writer.updateBackup('b', { ...completion('s'), manifest });
  });
  const lost: string[] = [];
  const logger = pino({ level: 'silent' });
  const book = new DamageBook({ catalog, storage, pipeline, logger, onLost: (id) => lost.push(id) });
  /** As a recovery meets it. */
  const meet = async (object: typeof part, code: 'BACKUP_CORRUPT' | 'LOG_CORRUPT'): Promise<Fault> => {
    try {
      for await (const _bytes of pipeline.read(object, code));
    } catch (error) {
      return Fault.from(error);
    }
    throw new Error('it can be read');
  };
  const all = [...segments, part, manifest];
  return { catalog, bad, book, segment: segments[1] as typeof part, part, all, lost, meet };
}

test('a segment that the disk cannot read while it reads others is lost', async (t) => {
  const { catalog, bad, book, segment, lost, meet } = await bench(t);
  bad.add(segment.key);
  const fault = await meet(segment, 'LOG_CORRUPT');
  assert.deepEqual(
    [fault.code, fault.details],
    ['STORAGE_UNAVAILABLE', { object: segment.key, problem: 'unreadable' }],
  );
  await book.remember(fault);
  const gaps = await catalog.read.gaps(['s']);
  assert.deepEqual(
    gaps.map(({ after, last, because }) => [after, last, because]),
    [[10, 20, 'CORRUPT_LOG']],
  );
  assert.deepEqual(lost, ['i']);
});

test('a part of a backup that the disk cannot read while it reads others is lost, and the backup with it', async (t) => {
  const { catalog, bad, book, part, lost, meet } = await bench(t);
  bad.add(part.key);
  await book.remember(await meet(part, 'BACKUP_CORRUPT'));
  const backup = await catalog.read.backup('b');
  assert.deepEqual([backup?.state, backup?.error?.code], ['FAILED', 'BACKUP_CORRUPT']);
  assert.deepEqual(backup?.error?.details, { object: part.key, problem: 'unreadable' });
  assert.deepEqual(lost, ['i']);
});

test('a disk that reads nothing, and one that reads the object the next time, has lost nothing', async (t) => {
  const { catalog, bad, book, segment, part, all, lost, meet } = await bench(t);
  for (const { key } of all) bad.add(key);
  const [inLog, inBackup] = [await meet(segment, 'LOG_CORRUPT'), await meet(part, 'BACKUP_CORRUPT')];
  await book.remember(inLog);
  await book.remember(inBackup);
  bad.clear();
  await book.remember(inLog);
  await book.remember(inBackup);
  assert.deepEqual(await catalog.read.gaps(['s']), []);
  assert.equal((await catalog.read.backup('b'))?.state, 'COMPLETED');
  assert.deepEqual(lost, []);
});
