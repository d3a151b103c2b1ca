/**
 * Tablespaces of a copy. The directories of the source's are the source's own, and on the same machine a server that was
 * not kept from it would write there. So until it serves a copy has each one as a plain directory in `pg_tblspc`, which
 * PostgreSQL takes with `allow_in_place_tablespaces`; then they are moved below the instance's home.
 */
import { lchown, mkdir, readdir, rename, symlink } from 'node:fs/promises';
import path from 'node:path';
import { crc32c } from '../formats/crc32c.js';
import { dataAt, RECORD_HEADER, WalFormatError, type WalRecord } from '../formats/walRecord.js';
import { handOver, type RunAs } from './processes.js';

const CREATE = 0x00;

/** Where a copy's tablespace is unpacked, `data` being its data directory. */
export function tablespaceIn(data: string, tablespace: number): string {
  return path.join(data, 'pg_tblspc', String(tablespace));
}

/** Where an instance's tablespaces are. */
export function tablespacesOf(home: string): string {
  return path.join(home, 'tablespaces');
}

/**
 * Moves the tablespaces of a stopped server out of its data directory and links them as PostgreSQL does. Where an earlier
 * attempt was interrupted, goes on from there.
 */
export async function settleTablespaces(data: string, home: string, runAs: RunAs | null): Promise<void> {
  const links = path.join(data, 'pg_tblspc');
  const place = tablespacesOf(home);
  const entries = await readdir(links, { withFileTypes: true });
  const inside = entries.filter((entry) => entry.isDirectory());
  const linked = new Set(entries.filter((entry) => entry.isSymbolicLink()).map((entry) => entry.name));
  if (inside.length > 0) {
    await mkdir(place, { recursive: true });
    await handOver(place, runAs);
  }
  for (const { name } of inside) await rename(path.join(links, name), path.join(place, name));
  for (const name of await readdir(place).catch(() => [])) {
    if (linked.has(name)) continue;
    const link = path.join(links, name);
    await symlink(path.join(place, name), link);
    if (runAs) await lchown(link, runAs.uid, runAs.gid);
  }
}

/**
 * The record of a CREATE TABLESPACE with the directory left out, which makes PostgreSQL's replay create the tablespace
 * inside the data directory; null for every other record. Its length stays what it was.
 */
export function withoutLocation({ header, body }: WalRecord): Buffer | null {
  if (((header[16] ?? 0) & 0xf0) !== CREATE) return null;
  // Behind the tablespace's object id.
  const directory = dataAt(body) + 4;
  if (directory >= body.length) throw new WalFormatError('a tablespace without a directory');
  const record = Buffer.concat([header, body]);
  record.writeUInt8(0, RECORD_HEADER + directory);
  record.writeUInt32LE(crc32c(record.subarray(RECORD_HEADER), record.subarray(0, 20)), 20);
  return record;
}
