/**
 * The kinds of column that the catalog's tables are made of. Types are always explicit, and 64-bit numbers are turned
 * back into numbers here, because PostgreSQL's client answers them as text and SQLite's as numbers.
 */
import type { EntitySchemaColumnOptions } from 'typeorm';
import type { Json } from '../errors.js';

export const text: EntitySchemaColumnOptions = { type: 'text' };
export const flag: EntitySchemaColumnOptions = { type: 'boolean' };

/** A whole number within ±(2^53 - 1): an ordinal, a size in bytes, an instant in microseconds. */
export const whole: EntitySchemaColumnOptions = {
  type: 'bigint',
  transformer: { to: (value: unknown) => value, from: nullableWhole },
};

/** Microseconds since the Unix epoch. */
export const instantColumn = whole;

/** A whole number that fits 32 bits. */
export const small: EntitySchemaColumnOptions = { type: 'integer' };

/** A number that need not be whole: a percentage, seconds. */
export const fraction: EntitySchemaColumnOptions = { type: 'double precision' };

/** JSON as text: nothing ever searches inside. */
export const json: EntitySchemaColumnOptions = {
  type: 'text',
  transformer: {
    to: (value: Json | undefined) => (value === null || value === undefined ? value : JSON.stringify(value)),
    from: (stored: string | null) => (stored === null ? null : JSON.parse(stored)),
  },
};

export function nullable(column: EntitySchemaColumnOptions): EntitySchemaColumnOptions {
  return { ...column, nullable: true };
}

/** For a part of a nested record, whose column carries the name of the whole too. */
export function named(name: string, column: EntitySchemaColumnOptions): EntitySchemaColumnOptions {
  return { ...column, name };
}

export function primary(column: EntitySchemaColumnOptions): EntitySchemaColumnOptions {
  return { ...column, primary: true };
}

/** The CHECK expression of a column that holds one of a few words. */
export function oneOf(column: string, words: readonly string[]): string {
  return `"${column}" IN (${words.map((word) => `'${word}'`).join(', ')})`;
}

/** The CHECK expression of a hash of 256 bits in lower-case hex; true for null. Written so that every SQL dialect reads it. */
export function hex256(column: string): string {
  return `length("${column}") = 64 AND trim("${column}", '0123456789abcdef') = ''`;
}

function nullableWhole(stored: number | string | null): number | null {
  return stored === null ? null : wholeNumber(stored);
}

/** @throws RangeError where it is none, or too large to be exact */
export function wholeNumber(stored: number | string): number {
  const value = Number(stored);
  // Rounding an ordinal or an instant would name another transaction: better no answer.
  if (!Number.isSafeInteger(value)) throw new RangeError(`the catalog holds ${stored} where a whole number belongs`);
  return value;
}
