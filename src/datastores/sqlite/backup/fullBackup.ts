/**
 * A full backup: the main database file read as it is, while its users go on. What a checkpoint writes into the file
 * meanwhile makes the copy a mixture of moments, but every page it writes is in the log from `replayAfter` on, and replaying
 * that log up to `consistent` or beyond replaces every one of them. Runs in the service's own process, which holds no
 * SQLite lock that closing the file could drop.
 */
import { type FileHandle, open, stat } from 'node:fs/promises';
import { Fault } from '../../../errors.js';
import { instant } from '../../../instant.js';
import type { BackupFacts, BackupRequest, BackupSink } from '../../datastore.js';
import { foreignFileFlags } from '../../foreignFile.js';
import { SqliteCapture } from '../capture/capture.js';
import type { FullBackupState } from '../formats/backupState.js';
import { position } from '../formats/position.js';
import { databaseFile, refuseLinks } from '../source/databasePaths.js';

const partBytes = 8 << 20;
const readBytes = 1 << 20;

export async function fullBackup(request: BackupRequest, sink: BackupSink): Promise<BackupFacts> {
  const { instance, signal } = request;
  const capture = captureOf(request);
  const start = await capture.fenceAfterRestart(signal);
  await refuseLinks(databaseFile(instance), instance.home);
  const file = await open(databaseFile(instance), foreignFileFlags);
  let bytes = 0;
  try {
    const { size, dev, ino } = await file.stat();
    const counted = async function* () {
      for await (const chunk of contentOf(file, signal)) {
        bytes += chunk.length;
        yield chunk;
        request.progress(Math.min(bytes, size), size);
      }
    };
    await sink.write(counted(), partBytes);
    const end = await capture.fenceReply(signal);
    // The capture finds its own file under this name before and after.
    const named = await stat(databaseFile(instance));
    if (end.generation !== start.generation || named.ino !== ino || named.dev !== dev) {
      throw new Fault('DATASTORE_UNAVAILABLE', 'The capture of the log broke during the backup, which is useless now', {
        hint: 'Take the backup again.',
      });
    }
    const state: FullBackupState = { version: 1, pageSize: end.pageSize, dbPages: end.dbPages, bytes };
    return {
      replayAfter: position(start.generation, start.copiedUpTo),
      consistent: position(end.generation, end.ordinal),
      consistentAt: instant(end.axis),
      sizeBytes: end.dbPages * end.pageSize,
      state,
    };
  } finally {
    await file.close();
  }
}

/** @throws Fault DATASTORE_NOT_SUPPORTED for the capture of another datastore */
export function captureOf({ capture }: BackupRequest): SqliteCapture {
  if (capture instanceof SqliteCapture) return capture;
  throw new Fault('DATASTORE_NOT_SUPPORTED', 'This is no captured SQLite database');
}

/** The file from its first byte to wherever it ends when the reading gets there. */
async function* contentOf(file: FileHandle, signal: AbortSignal): AsyncGenerator<Buffer> {
  const buffer = Buffer.allocUnsafeSlow(readBytes);
  for (let at = 0; ; ) {
    signal.throwIfAborted();
    const { bytesRead } = await file.read(buffer, 0, readBytes, at);
    if (bytesRead === 0) return;
    at += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
}
