/** The shape of every argument, checked once at the edge; the services trust it. */

import type { Page } from '../catalog/records.js';
import { Fault, type FaultCode, invalidArgument } from '../errors.js';
import type { Instant } from '../instant.js';
import type { RecoveryTarget } from '../model.js';

/** Ids are names of directories and parts of object keys, so what a path reads as "here" or "above" is none. */
const ID = /^(?!\.{1,2}$)[A-Za-z0-9._:-]{1,128}$/;
/** Control characters, and halves of surrogate pairs, which no database can store as text. */
const UNPRINTABLE = /[\p{Cc}\p{Cs}]/u;
export const LARGEST_PAGE = 500;

type Noun = 'instance' | 'backup' | 'recovery';
const notFoundCode: Record<Noun, FaultCode> = {
  instance: 'INSTANCE_NOT_FOUND',
  backup: 'BACKUP_NOT_FOUND',
  recovery: 'RECOVERY_NOT_FOUND',
};

export function isId(id: string): boolean {
  return ID.test(id);
}

export function notFound(noun: Noun, id: string): Fault {
  const shown = isId(id) ? id : 'of that id';
  return new Fault(notFoundCode[noun], `There is no ${noun} ${shown}`, {
    hint: noun === 'instance' ? 'List the query instances for those there are.' : 'Look it up on its instance.',
  });
}

/** The id of something that should exist: what can't be an id is simply not found. */
export function checkId(noun: Noun, id: string): string {
  if (!isId(id)) throw notFound(noun, id);
  return id;
}

/** An id for something new. @throws Fault INVALID_ARGUMENT */
export function checkNewId(id: string | null | undefined): string | null {
  if (id === null || id === undefined) return null;
  if (!isId(id)) {
    throw invalidArgument(
      'id',
      'An id is 1 to 128 characters of A-Z a-z 0-9 . _ : -, and neither . nor ..',
      'Leave the id out to have one made up.',
    );
  }
  return id;
}

/** A page as the services want it. @throws Fault INVALID_ARGUMENT */
export function checkPage(first: number, after: string | null | undefined): Page {
  checkFirst(first);
  if (after !== null && after !== undefined && !isId(after)) {
    throw invalidArgument('after', 'after is not an id', 'Give the id of the last item of the page before.');
  }
  return { first, after: after ?? null };
}

/** 1 to 500. @throws Fault INVALID_ARGUMENT */
export function checkFirst(first: number): number {
  if (!Number.isInteger(first) || first < 1 || first > LARGEST_PAGE) {
    throw invalidArgument('first', `first is ${first}`, `Ask for 1 to ${LARGEST_PAGE} items, and page on with after.`);
  }
  return first;
}

/** A name without the blanks around it: 1 to 255 characters. @throws Fault INVALID_ARGUMENT */
export function checkName(name: string): string {
  return checkText('name', name.trim(), 255);
}

/** `most` counts characters, not UTF-16 units. @throws Fault INVALID_ARGUMENT naming `argument`, never showing the value */
export function checkText(argument: string, text: string, most: number): string {
  // A text of n characters has at most 2n UTF-16 units; this spares spreading a huge one.
  if (text.length === 0 || text.length > 2 * most || [...text].length > most) {
    throw invalidArgument(argument, `${argument} has to have 1 to ${most} characters`);
  }
  if (UNPRINTABLE.test(text)) throw invalidArgument(argument, `${argument} holds control characters`);
  return text;
}

export function optionalText(argument: string, text: string | null | undefined, most: number): string | null {
  return text === null || text === undefined ? null : checkText(argument, text, most);
}

/** GiB, at least 1; GraphQL's Int bounds it above. */
export function checkVolume(sizeGiB: number | null | undefined): number | null {
  if (sizeGiB === null || sizeGiB === undefined) return null;
  if (sizeGiB < 1) throw invalidArgument('volumeSizeGiB', 'volumeSizeGiB has to be at least 1');
  return sizeGiB;
}

/** Values of an enumeration: a caller may list one as often as a body is long, and each becomes a parameter of a statement. */
export function distinct<Value>(values: readonly Value[]): Value[] {
  return [...new Set(values)];
}

/** One of the two, or neither for the latest recoverable point. @throws Fault INVALID_ARGUMENT for both */
export function checkTarget(
  pointInTime: Instant | null | undefined,
  position: string | null | undefined,
): RecoveryTarget {
  const target = { pointInTime: pointInTime ?? null, position: optionalText('position', position, 1024) };
  if (target.pointInTime !== null && target.position !== null) {
    throw invalidArgument(
      'position',
      'pointInTime and position exclude each other',
      'Give one of the two, or neither for the latest recoverable point.',
    );
  }
  return target;
}
