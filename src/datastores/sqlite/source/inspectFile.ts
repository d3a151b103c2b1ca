/**
 * Looks at a database file without SQLite, so that really nothing changes (opening a database in WAL mode would make
 * files beside it). The header is the one of https://www.sqlite.org/fileformat2.html#the_database_header.
 */
import { type BigIntStats, constants } from 'node:fs';
import { access, open, realpath, stat } from 'node:fs/promises';
import path from 'node:path';
import { invalidArgument } from '../../../errors.js';
import type { InstanceFacts } from '../../datastore.js';
import { foreignFileFlags } from '../../foreignFile.js';
import { fileOfUri, noFileBeside, notAFileHint, refuseEmptied, uriOfFile } from './databasePaths.js';
import { identityOf } from './mainFile.js';

const headerBytes = 100;
const magic = Buffer.from('SQLite format 3\0', 'latin1');

/** @throws Fault INVALID_ARGUMENT (connectionUri), DATASTORE_UNAVAILABLE while another content is put in its place */
export async function inspectFile(connectionUri: string, datastoreVersion: string): Promise<InstanceFacts> {
  const { file, found } = await locate(fileOfUri(connectionUri));
  if (!found.isFile()) throw invalidArgument('connectionUri', `${file} is not a file`);
  await mayWrite(file, 'The service may not write to the database file');
  await mayWrite(
    path.dirname(file),
    'The service may not write to the directory of the database, where SQLite keeps its log',
  );
  await refuseLog(file);
  const strange = await noFileBeside(file);
  if (strange) throw invalidArgument('connectionUri', `${strange} is not a file`, notAFileHint);
  refuseEmptied(file);
  if (found.size > 0n) await checkHeader(file);
  const notices = [
    'Capture keeps a read transaction open, so the write-ahead log grows to a few megabytes before it is restarted.',
    'The service takes over restarting the write-ahead log; checkpoints of the application stay harmless.',
    'When the database is let go of, it stays in WAL mode and nothing of it is removed.',
  ];
  if (!(await isInWalMode(file))) notices.unshift('The journal mode of the database is set to WAL, for good.');
  return {
    datastoreVersion,
    endpoint: uriOfFile(file),
    connectionUri: uriOfFile(file),
    identity: identityOf(found),
    state: {},
    notices,
  };
}

async function locate(named: string): Promise<{ file: string; found: BigIntStats }> {
  try {
    const file = await realpath(named);
    return { file, found: await stat(file, { bigint: true }) };
  } catch (error) {
    const missing = ['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '');
    throw invalidArgument(
      'connectionUri',
      missing ? `There is no file ${named}` : `${named} cannot be looked at: ${(error as Error).message}`,
      'The path is one on the machine where the service runs.',
    );
  }
}

async function mayWrite(what: string, message: string): Promise<void> {
  await access(what, constants.R_OK | constants.W_OK).catch(() => {
    throw invalidArgument(
      'connectionUri',
      message,
      'Give the user that the service runs as read and write permission.',
    );
  });
}

/**
 * What lies beside a database under its name and one of these endings is that database's: an empty log looks like an empty
 * database, and to make one of it would write over what an application is about to commit.
 */
async function refuseLog(file: string): Promise<void> {
  const owner = /^(.+)-(?:wal|shm|journal)$/s.exec(file)?.[1];
  if (owner === undefined || !(await stat(owner).catch(() => null))?.isFile()) return;
  throw invalidArgument('connectionUri', `${file} belongs to the database ${owner}`, 'Name the database itself.');
}

/** An empty file is an empty database, as SQLite itself sees it; anything else must begin as SQLite's files do. */
async function checkHeader(file: string): Promise<void> {
  const header = await readHeader(file);
  const pageSize = header.length === headerBytes ? header.readUInt16BE(16) : 0;
  const validSize = pageSize === 1 || (pageSize >= 512 && (pageSize & (pageSize - 1)) === 0);
  if (header.subarray(0, magic.length).equals(magic) && validSize) return;
  throw invalidArgument(
    'connectionUri',
    `${file} is no SQLite database: its header is that of another format, damaged or encrypted`,
    'Name the file that the application opens.',
  );
}

async function isInWalMode(file: string): Promise<boolean> {
  const header = await readHeader(file);
  return header[18] === 2 && header[19] === 2;
}

async function readHeader(file: string): Promise<Buffer> {
  const handle = await open(file, foreignFileFlags);
  try {
    const bytes = Buffer.alloc(headerBytes);
    const { bytesRead } = await handle.read(bytes, 0, headerBytes, 0);
    return bytes.subarray(0, bytesRead);
  } finally {
    await handle.close();
  }
}
