/**
 * The majors of PostgreSQL that this release has been proven with, and what tells their files apart. Others are refused
 * rather than tried on a user's data: what a record of the log means is only known of these.
 */
export interface MajorFormat {
  /** XLOG_PAGE_MAGIC of access/xlog_internal.h: the first two bytes of every page of the log. */
  logMagic: number;
  /** PG_CONTROL_VERSION of catalog/pg_control.h. */
  controlVersion: number;
}

const formats: ReadonlyMap<number, MajorFormat> = new Map([
  [15, { logMagic: 0xd110, controlVersion: 1300 }],
  [16, { logMagic: 0xd113, controlVersion: 1300 }],
  [17, { logMagic: 0xd116, controlVersion: 1700 }],
  [18, { logMagic: 0xd118, controlVersion: 1800 }],
]);

export const supportedMajors: readonly number[] = [...formats.keys()];

/** `15, 16, 17 or 18` */
export const supportedInWords = supportedMajors.join(', ').replace(/, (\d+)$/, ' or $1');

/** The format of a major; null where it is not supported. */
export function formatOf(major: number): MajorFormat | null {
  return formats.get(major) ?? null;
}

/** Whose log has pages with this magic number; null where that is not known. */
export function majorOfLog(magic: number): number | null {
  for (const [major, { logMagic }] of formats) if (logMagic === magic) return major;
  return null;
}
