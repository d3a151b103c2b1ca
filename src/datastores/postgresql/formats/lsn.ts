/**
 * Log sequence numbers, names of WAL files, and how PostgreSQL's log is spoken of in the service.
 *
 * A stretch is one timeline captured without a break, named `tl<timeline>-<UTC time at which it began>`; an ordinal is an
 * LSN as a number; a position's text is `<LSN>@<stretch>`, because the same LSN means different things on two timelines.
 */
import type { Instant } from '../../../instant.js';
import { formatInstant } from '../../../instant.js';
import type { LogPosition } from '../../../model.js';

const LSN = /^([0-9A-Fa-f]{1,8})\/([0-9A-Fa-f]{1,8})$/;
const TWO_32 = 2 ** 32;

/** An LSN as a number of bytes since the cluster's beginning; null where the text is none or exceeds 2^53 - 1 (8 PiB). */
export function parseLsn(text: string): number | null {
  const match = LSN.exec(text);
  if (!match) return null;
  const value = Number.parseInt(match[1] ?? '', 16) * TWO_32 + Number.parseInt(match[2] ?? '', 16);
  return Number.isSafeInteger(value) ? value : null;
}

/** As parseLsn, for text that the server itself wrote. */
export function serverLsn(text: string): number {
  const value = parseLsn(text);
  if (value === null) throw new RangeError(`not an LSN that fits: ${text}`);
  return value;
}

export function formatLsn(lsn: number): string {
  return `${hex(Math.floor(lsn / TWO_32))}/${hex(lsn % TWO_32)}`;
}

/** The first byte of the WAL file that holds `lsn`. */
export function segmentFloor(lsn: number, segmentSize: number): number {
  return lsn - (lsn % segmentSize);
}

/** As PostgreSQL names the WAL file in which `lsn` lies: timeline, then the file's number in two parts. */
export function walFileName(timeline: number, lsn: number, segmentSize: number): string {
  const number = Math.floor(lsn / segmentSize);
  const perId = TWO_32 / segmentSize;
  return [timeline, Math.floor(number / perId), number % perId].map((part) => hex(part).padStart(8, '0')).join('');
}

export function historyFileName(timeline: number): string {
  return `${hex(timeline).padStart(8, '0')}.history`;
}

/** Milliseconds tell two stretches apart: a new one never begins before the one before it was connected and failed. */
export function stretchName(timeline: number, at: Instant): string {
  return `tl${timeline}-${formatInstant(at).slice(0, 23).replace(/[-:]/g, '')}Z`;
}

export function positionAt(stretch: string, lsn: number): LogPosition {
  return { stretch, ordinal: lsn, text: `${formatLsn(lsn)}@${stretch}` };
}

/**
 * `0/1A2B3C4@tl1-20261122T170501.123Z`, or a bare `0/1A2B3C4` as PostgreSQL prints it: that one has the empty stretch,
 * which is the name of none, and it is for the caller to find the only stretch that it can mean.
 */
export function parsePosition(text: string): LogPosition | null {
  const [lsnText = '', stretch, ...rest] = text.trim().split('@');
  const lsn = parseLsn(lsnText);
  if (lsn === null || rest.length > 0) return null;
  if (stretch === undefined) return { stretch: '', ordinal: lsn, text: formatLsn(lsn) };
  return /^tl\d+-[0-9TZ.]+$/.test(stretch) ? positionAt(stretch, lsn) : null;
}

function hex(value: number): string {
  return value.toString(16).toUpperCase();
}
