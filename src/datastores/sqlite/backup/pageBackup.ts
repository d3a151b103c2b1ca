/**
 * INCREMENTAL and DIFFERENTIAL backups: the last version of every page that changed since the parent, made from the
 * archived log without reading the database. The plain format, version 1, integers u32 little-endian:
 *
 *   groups   n, n page numbers, n pages; page numbers rise from the first group to the last
 *   end      n = 0
 */
import { Fault } from '../../../errors.js';
import { instant } from '../../../instant.js';
import type { BackupFacts, BackupRequest, BackupSink, StoredBackup } from '../../datastore.js';
import { type PageBackupState, pageBackupState } from '../formats/backupState.js';
import { ByteReader } from '../formats/byteReader.js';
import { position } from '../formats/position.js';
import { BadSegment } from '../formats/segmentFormat.js';
import { gatherLog } from '../replay/gatherLog.js';
import type { NewerPages } from '../replay/newerPages.js';
import type { ReplayScope } from '../replay/replayScope.js';
import { captureOf } from './fullBackup.js';

const partBytes = 8 << 20;
/** Of one group. */
const groupBytes = 1 << 20;

/** @throws Fault NO_BACKUP where the log was interrupted since the parent; as the log is read */
export async function pageBackup(request: BackupRequest, sink: BackupSink): Promise<BackupFacts> {
  const { parent, scratch, signal } = request;
  if (!parent) throw new Fault('INTERNAL', `a ${request.type} backup without a parent`);
  const end = await captureOf(request).fenceReply(signal);
  const { replayAfter } = parent.facts;
  if (replayAfter.stretch !== String(end.generation)) {
    throw new Fault('NO_BACKUP', 'The log was interrupted since the backup that this one would stand on', {
      hint: 'Take a FULL backup; later ones can stand on it.',
    });
  }
  const { pageSize, dbPages } = end;
  const after = replayAfter.ordinal;
  const scope: ReplayScope = { stretch: replayAfter.stretch, replayAfter: after, cut: end.ordinal, pageSize, dbPages };
  const newer = await gatherLog(scratch, scope, parent.log(end.ordinal), signal);
  try {
    await sink.write(contentOf(newer, request), partBytes);
    const state: PageBackupState = { version: 1, kind: 'pages', pageSize, dbPages, after, pages: newer.size };
    const at = position(end.generation, end.ordinal);
    return { replayAfter: at, consistent: at, consistentAt: instant(end.axis), sizeBytes: dbPages * pageSize, state };
  } finally {
    newer.close();
  }
}

async function* contentOf(newer: NewerPages, { signal, progress }: BackupRequest): AsyncGenerator<Buffer> {
  const { pageSize } = newer;
  const perGroup = Math.max(1, Math.floor(groupBytes / pageSize));
  const group = Buffer.allocUnsafeSlow(4 + perGroup * (4 + pageSize));
  let done = 0;
  for (const pages of newer.groups(perGroup)) {
    signal.throwIfAborted();
    let at = group.writeUInt32LE(pages.length);
    for (const page of pages) at = group.writeUInt32LE(page, at);
    for (const page of pages) {
      newer.get(page, group.subarray(at, at + pageSize));
      at += pageSize;
    }
    yield group.subarray(0, at);
    done += pages.length;
    progress(done * pageSize, newer.size * pageSize);
  }
  yield Buffer.alloc(4);
}

/** Adds the backup's pages where there is no newer version yet. @throws Fault BACKUP_CORRUPT, and as the parts are read */
export async function addPages(backup: StoredBackup, newer: NewerPages, signal: AbortSignal): Promise<void> {
  const { pageSize, pages } = pageBackupState(backup.facts);
  const reader = new ByteReader(wholeContent(backup));
  let count = 0;
  let last = 0;
  try {
    for (;;) {
      signal.throwIfAborted();
      const inGroup = (await reader.exactly(4)).readUInt32LE();
      if (inGroup === 0) break;
      if (inGroup > pages - count) throw new BadSegment('it holds more pages than it should');
      const numbers = await reader.exactly(4 * inGroup);
      for (let i = 0; i < inGroup; i++) {
        const page = numbers.readUInt32LE(4 * i);
        if (page <= last) throw new BadSegment(`page ${page} comes after page ${last}`);
        last = page;
        const content = await reader.upTo(pageSize);
        if (content.length < pageSize) throw new BadSegment('its bytes ended early');
        if (newer.claim(page)) newer.put(page, content);
      }
      count += inGroup;
    }
    if ((await reader.drain()) > 0 || count < pages) throw new BadSegment(`it holds ${count} of its ${pages} pages`);
  } catch (error) {
    if (!(error instanceof BadSegment)) throw error;
    // Its bytes were not proved yet: damage to a stored part is the reason, and names it.
    await reader.drain();
    throw new Fault('BACKUP_CORRUPT', `The backup cannot be used: ${error.message}`, {
      hint: 'Recover from another backup.',
      cause: error,
    });
  } finally {
    await reader.close();
  }
}

async function* wholeContent({ parts }: StoredBackup): AsyncGenerator<Buffer> {
  for (const part of [...parts].sort((a, b) => a.offset - b.offset)) yield* part.read({ reuse: true });
}
