/** The data directory of a stopped server as one tar archive, of what BASE_BACKUP would send of it and as it would. */
import type { Stats } from 'node:fs';
import { open, readdir, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { Fault } from '../../../errors.js';

/** Directories of which BASE_BACKUP sends no contents; statistics too, since they go with what is replayed again. */
const EMPTIED = [
  ...['pg_dynshmem', 'pg_notify', 'pg_replslot', 'pg_serial', 'pg_snapshots', 'pg_stat', 'pg_stat_tmp'],
  ...['pg_subtrans', 'pg_wal', 'pg_wal/archive_status'],
];
/** Kept, though empty. */
const KEPT = ['archive_status'];
const REMOVED = [
  ...['backup_label', 'backup_label.old', 'tablespace_map', 'tablespace_map.old', 'backup_manifest'],
  ...['postmaster.pid', 'postmaster.opts', 'recovery.signal', 'standby.signal'],
  // Those of the replay. A recovery writes its own.
  ...['postgresql.conf', 'postgresql.auto.conf', 'pg_hba.conf', 'pg_ident.conf'],
];

const BLOCK = 512;
const CHUNK_BYTES = 256 * 1024;
/** PostgreSQL itself refuses to send longer ones. */
const LONGEST_NAME = 99;
const MOST_OCTAL = 8 ** 11 - 1;

/** Removes what a backup does not hold. */
export async function trim(data: string): Promise<void> {
  for (const name of REMOVED) await rm(path.join(data, name), { force: true });
  for (const directory of EMPTIED) {
    for (const name of await readdir(path.join(data, directory))) {
      if (!KEPT.includes(name)) await rm(path.join(data, directory, name), { recursive: true, force: true });
    }
  }
}

/**
 * Nobody writes there meanwhile.
 * @throws Fault INTERNAL where something else than files and directories is found, and what reading throws
 */
export async function* archiveOf(data: string, signal: AbortSignal): AsyncGenerator<Buffer> {
  yield* directory(data, '', signal);
  yield Buffer.alloc(2 * BLOCK);
}

/** `within` is relative, its bytes as latin1, and ends with a slash where it is not empty. */
async function* directory(data: string, within: string, signal: AbortSignal): AsyncGenerator<Buffer> {
  const entries = await readdir(placeOf(data, within), { encoding: 'latin1', withFileTypes: true });
  for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    signal.throwIfAborted();
    const name = within + entry.name;
    if (entry.isDirectory()) {
      yield header(`${name}/`, await stat(placeOf(data, name)), 0);
      yield* directory(data, `${name}/`, signal);
    } else if (entry.isFile()) {
      yield* file(data, name, signal);
    } else {
      throw new Fault('INTERNAL', `${JSON.stringify(name)} in the data directory is neither a file nor a directory`);
    }
  }
}

async function* file(data: string, name: string, signal: AbortSignal): AsyncGenerator<Buffer> {
  const handle = await open(placeOf(data, name), 'r');
  try {
    const found = await handle.stat();
    yield header(name, found, found.size);
    for (let at = 0; at < found.size; ) {
      signal.throwIfAborted();
      const chunk = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, found.size - at));
      const { bytesRead } = await handle.read(chunk, 0, chunk.length, at);
      if (bytesRead === 0) throw new Fault('INTERNAL', `${JSON.stringify(name)} became shorter while it was read`);
      yield chunk.subarray(0, bytesRead);
      at += bytesRead;
    }
    const padding = (BLOCK - (found.size % BLOCK)) % BLOCK;
    if (padding > 0) yield Buffer.alloc(padding);
  } finally {
    await handle.close();
  }
}

function placeOf(data: string, name: string): Buffer {
  return Buffer.concat([Buffer.from(`${data}/`), Buffer.from(name, 'latin1')]);
}

/** As POSIX's ustar has it. Whose the files are is left to whoever unpacks them. */
function header(name: string, { mode, mtimeMs }: Stats, size: number): Buffer {
  if (name.length > LONGEST_NAME) throw new Fault('INTERNAL', `${JSON.stringify(name)} is too long for an archive`);
  const block = Buffer.alloc(BLOCK);
  block.write(name, 0, 'latin1');
  for (const [value, at, digits] of [
    [mode & 0o777, 100, 7],
    [0, 108, 7],
    [0, 116, 7],
    [Math.max(0, Math.floor(mtimeMs / 1000)), 136, 11],
  ] as const) {
    block.write(value.toString(8).padStart(digits, '0'), at);
  }
  if (size <= MOST_OCTAL) block.write(size.toString(8).padStart(11, '0'), 124);
  else {
    block.writeUInt8(0x80, 124);
    block.writeBigUInt64BE(BigInt(size), 128);
  }
  block.write(name.endsWith('/') ? '5' : '0', 156);
  block.write('ustar\0', 257);
  block.write('00', 263);
  // The sum is taken with its own field full of spaces.
  block.fill(' ', 148, 156);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return block;
}
