/**
 * Reads a cluster's control file (catalog/pg_control.h), so that no program beside the server itself is needed. What is
 * read stands in the same place in all supported versions; only the checksum behind everything has moved.
 */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { crc32c } from './crc32c.js';
import { formatOf } from './majors.js';

/** Where the checksum stands, by PG_CONTROL_VERSION. */
const CHECKSUM_AT: ReadonlyMap<number, number> = new Map([
  [1300, 288],
  [1700, 288],
  [1800, 292],
]);

/** In the order of the enum DBState. */
const states = [
  'starting up',
  'shut down',
  'shut down in recovery',
  'shutting down',
  'in crash recovery',
  'in archive recovery',
  'in production',
] as const;

export interface ControlFile {
  systemId: string;
  state: (typeof states)[number];
  /** The timeline of the latest checkpoint, and where a replay from it begins. */
  timeline: number;
  redo: number;
  /** How far the log has to be replayed before the files are consistent; 0 outside recovery. */
  minRecovery: { lsn: number; timeline: number };
  /** Where the base backup began and ended that a replay has not yet got over; 0 where there is none. */
  backup: { start: number; end: number; endRequired: boolean };
}

/** The bytes are not a whole control file of the major. */
export class ControlFileError extends Error {}

/** @throws ControlFileError; what reading the file throws */
export async function readControlFile(data: string, major: number): Promise<ControlFile> {
  return parseControlFile(await readFile(path.join(data, 'global/pg_control')), major);
}

export function parseControlFile(bytes: Buffer, major: number): ControlFile {
  const version = bytes.length >= 12 ? bytes.readUInt32LE(8) : 0;
  const checksumAt = CHECKSUM_AT.get(version);
  if (checksumAt === undefined || version !== formatOf(major)?.controlVersion) {
    throw new ControlFileError(`its control file is of version ${version}, which is not PostgreSQL ${major}'s`);
  }
  if (bytes.length < checksumAt + 4 || crc32c(bytes.subarray(0, checksumAt)) !== bytes.readUInt32LE(checksumAt)) {
    throw new ControlFileError('its control file is damaged');
  }
  const state = states[bytes.readUInt32LE(16)];
  if (state === undefined) throw new ControlFileError('its control file tells an unknown state');
  const lsn = (at: number) => Number(bytes.readBigUInt64LE(at));
  return {
    systemId: String(bytes.readBigUInt64LE(0)),
    state,
    timeline: bytes.readUInt32LE(48),
    redo: lsn(40),
    minRecovery: { lsn: lsn(136), timeline: bytes.readUInt32LE(144) },
    backup: { start: lsn(152), end: lsn(160), endRequired: bytes.readUInt8(168) !== 0 },
  };
}
