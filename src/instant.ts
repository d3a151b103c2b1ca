/**
 * Instants: whole microseconds since 1970-01-01T00:00:00Z, the precision of PostgreSQL's commit records and the finest
 * that the API promises. A JavaScript number holds them exactly until the year 2255.
 */
import { Fault } from './errors.js';

declare const brand: unique symbol;
/** Microseconds since the Unix epoch; a whole number between 0 and 2^53 - 1. */
export type Instant = number & { readonly [brand]: 'Instant' };

/** The service's view of time. Injected everywhere, so that tests can stop it. */
export type Clock = () => Instant;

/** RFC 3339 with a mandatory offset and at most six decimals; `T`, `t` or a space between date and time as the RFC allows. */
const RFC3339 = /^(\d{4})-(\d{2})-(\d{2})[Tt ](\d{2}):(\d{2}):(\d{2})(?:\.(\d{1,6}))?(?:([Zz])|([+-])(\d{2}):(\d{2}))$/;

/** Wraps a number that is already known to be microseconds since the epoch. */
export function instant(micros: number): Instant {
  if (!Number.isSafeInteger(micros) || micros < 0) throw new RangeError(`not an instant: ${micros}`);
  return micros as Instant;
}

/** The operating system's wall clock. Node offers whole milliseconds of it and no more. */
export const systemClock: Clock = () => instant(Date.now() * 1000);

/**
 * Reads an instant as a user writes it: RFC 3339 with an explicit offset and up to six decimals.
 * @throws Fault INVALID_POINT_IN_TIME for anything else: no offset, a seventh decimal, 30 February, a leap second.
 */
export function parseInstant(text: string): Instant {
  const match = RFC3339.exec(text);
  if (!match) throw invalid(text);
  const [, year, month, day, hour, minute, second, fraction = '', , sign, offsetHour = '0', offsetMinute = '0'] = match;
  const [y, mo, d, h, mi, s] = [year, month, day, hour, minute, second].map(Number) as [
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  if (mo < 1 || mo > 12 || d < 1 || d > daysInMonth(y, mo) || h > 23 || mi > 59 || s > 59) throw invalid(text);
  if (Number(offsetHour) > 23 || Number(offsetMinute) > 59) throw invalid(text);
  const offsetMinutes = (Number(offsetHour) * 60 + Number(offsetMinute)) * (sign === '-' ? -1 : 1);
  const seconds = Date.UTC(y, mo - 1, d, h, mi, s) / 1000 - offsetMinutes * 60;
  const micros = seconds * 1_000_000 + Number(fraction.padEnd(6, '0'));
  if (y < 1970 || micros < 0 || !Number.isSafeInteger(micros)) throw invalid(text);
  return micros as Instant;
}

/** The one way instants are written in answers: UTC, six decimals, `Z`. */
export function formatInstant(at: Instant): string {
  const seconds = Math.floor(at / 1_000_000);
  const fraction = String(at - seconds * 1_000_000).padStart(6, '0');
  return `${new Date(seconds * 1000).toISOString().slice(0, 19)}.${fraction}Z`;
}

function daysInMonth(year: number, month: number): number {
  return new Date(Date.UTC(year, month, 0)).getUTCDate();
}

function invalid(text: string): Fault {
  const shown = text.length > 64 ? `${text.slice(0, 64)}…` : text;
  return new Fault('INVALID_POINT_IN_TIME', `${JSON.stringify(shown)} is not a point in time`, {
    hint: 'Write one since 1970, with an explicit offset and at most six decimals, such as 2026-11-22T17:05:01.123456Z.',
  });
}
