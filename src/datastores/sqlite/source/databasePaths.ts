/** Where an instance's files are. */
import { statSync } from 'node:fs';
import { lstat, realpath } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { Fault, invalidArgument } from '../../../errors.js';
import type { InstanceHandle } from '../../../model.js';

/** Captured log on its way to the archive; beside nothing of the user's. */
export function spoolDirectory(instance: InstanceHandle): string {
  return path.join(instance.home, 'log-spool');
}

/** The database that a managed instance consists of. */
export function managedFile(home: string): string {
  return path.join(home, 'database.db');
}

export function databaseFile(instance: InstanceHandle): string {
  return fileOfUri(instance.connectionUri);
}

/**
 * A registered file is known by the path that led nowhere else when it was registered. Whoever may write to its directory can
 * put a link there later, to a file that they could not have registered: it must not be followed.
 * @param home of the instance
 * @throws Fault DATASTORE_UNAVAILABLE
 */
export async function refuseLinks(file: string, home: string): Promise<void> {
  if (file === managedFile(home)) return;
  const real = await realpath(file).catch(() => file);
  if (real !== file) {
    throw new Fault('DATASTORE_UNAVAILABLE', `${file} is a link now, or behind one`, {
      hint: 'Put the database itself there, or register it where it is.',
    });
  }
  if (await isNoFile(file)) throw new Fault('DATASTORE_UNAVAILABLE', `${file} is not a file`);
  const strange = await noFileBeside(file);
  if (strange) throw new Fault('DATASTORE_UNAVAILABLE', `${strange} is not a file`, { hint: notAFileHint });
}

export const notAFileHint = 'SQLite keeps a file of its own under this name: remove what is there.';

/** What has the name of one of SQLite's files beside a database and is none, such as a pipe, on which SQLite would wait for ever. */
export async function noFileBeside(file: string): Promise<string | null> {
  for (const ending of ['-wal', '-shm', '-journal']) {
    if (await isNoFile(`${file}${ending}`)) return `${file}${ending}`;
  }
  return null;
}

/**
 * Whoever opens an empty file makes SQLite delete the log beside it (pagerOpenWalIfPresent), from under all who use it. It is
 * empty while another one is copied over it.
 * @throws Fault DATASTORE_UNAVAILABLE
 */
export function refuseEmptied(file: string): void {
  const bytesIn = (name: string) => statSync(name, { throwIfNoEntry: false })?.size;
  if (bytesIn(file) !== 0 || !bytesIn(`${file}-wal`)) return;
  throw new Fault('DATASTORE_UNAVAILABLE', `${file} is empty, and there is a log beside it`, {
    hint: 'Nothing opens it like this, because SQLite would delete that log. Put the database in its place again.',
  });
}

/** Something is there, and it is no file. */
async function isNoFile(name: string): Promise<boolean> {
  const found = await lstat(name).catch(() => null);
  return found !== null && !found.isFile();
}

/** `sqlite:///absolute/path`, with what a URI does not allow percent-encoded. */
export function uriOfFile(file: string): string {
  return `sqlite://${pathToFileURL(file).pathname}`;
}

/** @throws Fault INVALID_ARGUMENT (connectionUri) */
export function fileOfUri(uri: string): string {
  const hint = 'Write sqlite:// followed by an absolute path, for example sqlite:///var/lib/app/app.db.';
  if (!uri.startsWith('sqlite://')) throw invalidArgument('connectionUri', 'This is no sqlite:// URI', hint);
  const rest = uri.slice('sqlite://'.length);
  if (!rest.startsWith('/')) {
    throw invalidArgument('connectionUri', 'The URI names a host or a relative path', hint);
  }
  if (rest.includes('?') || rest.includes('#')) {
    throw invalidArgument(
      'connectionUri',
      'The URI has a query or a fragment',
      `${hint} Encode ? as %3F and # as %23.`,
    );
  }
  try {
    const file = fileURLToPath(`file://${rest}`);
    if (!file.includes('\0')) return file;
  } catch {
    // Answered below, as any other URI that names no file.
  }
  throw invalidArgument('connectionUri', 'The path in the URI is not properly percent-encoded', hint);
}
