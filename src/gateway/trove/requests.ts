/** What may stand in a request: pages, bodies and times. Whatever is not understood is refused, never overlooked. */
import type { Page } from '../../catalog/records.js';
import { invalidArgument } from '../../errors.js';
import { type Instant, parseInstant } from '../../instant.js';
import { checkText, isId } from '../arguments.js';

/** Also the default: the command line does not follow the pages of its list of instances. */
export const LARGEST_PAGE = 500;

const LARGEST_WHOLE = 2 ** 31 - 1;

/** Date and time as OpenStack writes them: no zone. */
const ZONELESS = /^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d{1,6})?$/;

type Fields = Record<string, unknown>;

/** One value of the query string; the last where it is given more than once. */
export function parameter(query: unknown, name: string): string | null {
  const value: unknown = (query as Fields)[name];
  const last: unknown = Array.isArray(value) ? value.at(-1) : value;
  return typeof last === 'string' ? last : null;
}

/** `limit`, cut down to 500 as Trove does with its own most, and `marker`. @throws Fault INVALID_ARGUMENT */
export function pageIn(query: unknown): Page {
  const limit = parameter(query, 'limit');
  if (limit !== null && !/^[1-9]\d*$/.test(limit))
    throw invalidArgument('limit', 'limit is not a whole number above 0');
  const marker = parameter(query, 'marker');
  if (marker !== null && !isId(marker)) {
    throw invalidArgument('marker', 'marker is not an id', 'Follow the link "next" of the page before.');
  }
  return { first: Math.min(Number(limit ?? LARGEST_PAGE), LARGEST_PAGE), after: marker };
}

/**
 * The object under `name`, with no fields but the known ones: a misspelt `point_in_time` must not become a recovery to
 * the latest point. @throws Fault INVALID_ARGUMENT
 */
export function objectIn(parent: unknown, name: string, known: readonly string[]): Fields {
  const value = isFields(parent) ? parent[name] : undefined;
  if (!isFields(value)) throw invalidArgument(name, `The body has no object "${name}"`);
  const stranger = Object.keys(value).find((key) => !known.includes(key) && present(value[key]));
  if (stranger !== undefined) {
    const shown = JSON.stringify(stranger.slice(0, 64));
    throw invalidArgument(
      name,
      `"${name}" has a field that is not served here: ${shown}`,
      `Known are ${known.join(', ')}.`,
    );
  }
  return value;
}

export function optionalObjectIn(parent: Fields, name: string, known: readonly string[]): Fields | null {
  return present(parent[name]) ? objectIn(parent, name, known) : null;
}

export function optionalTextIn(object: Fields, name: string, most = 255): string | null {
  const value = object[name];
  if (!present(value)) return null;
  if (typeof value !== 'string') throw invalidArgument(name, `${name} is not a text`);
  return checkText(name, value, most);
}

export function textIn(object: Fields, name: string, most = 255): string {
  const text = optionalTextIn(object, name, most);
  if (text === null) throw invalidArgument(name, `${name} is missing`);
  return text;
}

/** 1 to 2^31 - 1, as GraphQL's Int bounds the same argument. @throws Fault INVALID_ARGUMENT */
export function optionalWholeIn(object: Fields, name: string): number | null {
  const value = object[name];
  if (!present(value)) return null;
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 1 || value > LARGEST_WHOLE) {
    throw invalidArgument(name, `${name} is not a whole number from 1 to ${LARGEST_WHOLE}`);
  }
  return value;
}

/** Here, and nowhere else in the service, a time without a zone is one: it is UTC. @throws Fault INVALID_POINT_IN_TIME */
export function optionalTimeIn(object: Fields, name: string): Instant | null {
  const text = optionalTextIn(object, name, 64);
  if (text === null) return null;
  return parseInstant(ZONELESS.test(text) ? `${text}Z` : text);
}

/** OpenStack's clients send null for what was not given. */
export function present(value: unknown): boolean {
  return value !== undefined && value !== null;
}

function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
