/** Says what a failing file system means to whoever asked for an object. */
import { Fault, invalidArgument, type JsonObject } from '../errors.js';

/** The code of a system error, such as ENOENT; null for any other thing thrown. */
export function systemCode(thrown: unknown): string | null {
  if (!(thrown instanceof Error) || !('code' in thrown) || !('syscall' in thrown)) return null;
  return String(thrown.code);
}

/** A system error as a Fault; everything else, Faults and a signal's reason among them, as it was. */
export function fileFault(thrown: unknown, doing: string, dir: string, details: JsonObject = {}): unknown {
  const code = systemCode(thrown);
  if (code === null) return thrown;
  const said = `${doing} failed: ${code}`;
  switch (code) {
    case 'ENOSPC':
    case 'EDQUOT':
      return new Fault('STORAGE_FULL', said, {
        hint: `Free space under ${dir} or raise its quota, then try again.`,
        cause: thrown,
      });
    case 'ENAMETOOLONG':
      return invalidArgument('key', said, 'Use shorter segments: most file systems take 255 characters.');
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
      return unavailable(`Give the service's user the right to read and write under ${dir}, then try again.`);
    case 'EMFILE':
    case 'ENFILE':
      return unavailable('Raise the limit of open files for the service, then try again.');
    case 'ENOENT':
      return unavailable(`Check that ${dir} is there and mounted, then try again.`);
    default:
      return unavailable(`Check the disk under ${dir} and the system's log, then try again.`);
  }

  function unavailable(hint: string): Fault {
    return new Fault('STORAGE_UNAVAILABLE', said, { hint, details, cause: thrown });
  }
}

/** The same of reading an object, with whatever it says of the object itself. */
export function readingFault(thrown: unknown, key: string, dir: string): unknown {
  return fileFault(thrown, `Reading ${key}`, dir, unreadable(key, systemCode(thrown)));
}

/**
 * Facts for a read that failed with this code: a disk that answers EIO may be dead, or have lost just these bytes. So it
 * is told of which object it was, for whoever can find that out.
 */
export function unreadable(key: string, code: string | null): JsonObject {
  return code === 'EIO' ? { object: key, problem: 'unreadable' } : {};
}

/** What giving an object its name may fail with where it has the name of another object's directory, or runs through an object. */
const CLASHES = ['EISDIR', 'ENOTDIR', 'ENOTEMPTY', 'EEXIST'];

export function nameClash(thrown: unknown, key: string): unknown {
  if (!CLASHES.includes(systemCode(thrown) ?? '')) return thrown;
  return invalidArgument(
    'key',
    `${key} and the name of a stored object are prefixes of each other`,
    'In a directory that cannot be: use another key.',
  );
}
