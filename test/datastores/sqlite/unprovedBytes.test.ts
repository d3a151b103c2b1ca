/**
 * Content is looked at before its last byte proves it. Where it makes no sense, the storage has the first word: damage
 * to a stored object is named, so that the next recovery does without the object.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { BackupFacts, StoredBackup, StoredSegment } from '../../../src/datastores/datastore.js';
import { addPages } from '../../../src/datastores/sqlite/backup/pageBackup.js';
import type { NewerPages } from '../../../src/datastores/sqlite/replay/newerPages.js';
import { segmentHead } from '../../../src/datastores/sqlite/replay/storedSegment.js';
import { Fault } from '../../../src/errors.js';

const pageSize = 512;

/** Bytes as they come from storage; `damage` is told at their end. */
async function* stored(bytes: Buffer, damage: Fault | null): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += 1000) yield bytes.subarray(at, at + 1000);
  if (damage) throw damage;
}

function backupOf(pages: number[], damage: Fault | null): StoredBackup {
  const content = Buffer.alloc(4 + pages.length * (4 + pageSize) + 4);
  for (const [i, page] of [pages.length, ...pages].entries()) content.writeUInt32LE(page, 4 * i);
  return {
    facts: {
      state: { version: 1, kind: 'pages', pageSize, dbPages: 100, after: 0, pages: pages.length },
    } as never as BackupFacts,
    parts: [
      {
        offset: 0,
        plainBytes: content.length,
        read: () => stored(content, damage),
        pour: () => Promise.reject(new Error('it is read')),
      },
    ],
  };
}

test('pages in no order: damage to a part is named, and where there is none the backup is refused', async () => {
  const damage = new Fault('BACKUP_CORRUPT', 'the object is damaged', { details: { object: 'parts/00000000' } });
  const kept: number[] = [];
  const newer = { claim: () => true, put: (page: number) => kept.push(page) } as never as NewerPages;
  const { signal } = new AbortController();
  await assert.rejects(addPages(backupOf([29, 60, 30], damage), newer, signal), damage);
  await assert.rejects(addPages(backupOf([29, 60, 30], null), newer, signal), {
    code: 'BACKUP_CORRUPT',
    message: /page 30 comes after page 60/,
    details: {},
  });
  kept.length = 0;
  await addPages(backupOf([29, 30, 60], null), newer, signal);
  assert.deepEqual(kept, [29, 30, 60]);
});

test('no segment: damage to its object is named, and where there is none the log is refused', async () => {
  const damage = new Fault('LOG_CORRUPT', 'the object is damaged', { details: { object: 'log/1/9' } });
  const segment = (why: Fault | null) =>
    ({ after: 0, last: 9, read: () => stored(Buffer.alloc(5000, 7), why) }) as never as StoredSegment;
  await assert.rejects(segmentHead(segment(damage), '1'), damage);
  await assert.rejects(segmentHead(segment(null), '1'), {
    code: 'LOG_CORRUPT',
    message: /transactions 1 to 9 cannot be used: it is not a piece of SQLite log/,
    details: {},
  });
});
