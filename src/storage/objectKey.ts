/** What may be the name of an object, the same for every storage; storage.ts states the rule. */
import { invalidArgument } from '../errors.js';
import type { ObjectKey } from './storage.js';

const KEY = /^(?!\.{1,2}(?:\/|$))[A-Za-z0-9._-]+(?:\/(?!\.{1,2}(?:\/|$))[A-Za-z0-9._-]+)*$/;
const MAX_KEY_CHARACTERS = 512;

/** @throws Fault INVALID_ARGUMENT (key) */
export function checkKey(key: ObjectKey): void {
  if (key.length <= MAX_KEY_CHARACTERS && KEY.test(key)) return;
  const shown = key.length > 64 ? `${key.slice(0, 64)}…` : key;
  throw invalidArgument(
    'key',
    `${JSON.stringify(shown)} cannot be the name of a stored object`,
    `Use segments of letters, digits, '.', '_' and '-' joined by '/', at most ${MAX_KEY_CHARACTERS} characters.`,
  );
}
