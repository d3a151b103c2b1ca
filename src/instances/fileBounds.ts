/**
 * Which files callers may register. Registering changes a file (its journal mode) and tells whether it exists, and the
 * service's user may write more than a caller may: so a tenant is confined to directories that the operator names.
 */
import { realpath } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { invalidArgument } from '../errors.js';

export interface FileBoundsOptions {
  /** An absolute directory, in which {tenant} stands for the caller's tenant; null for none, '*' for everywhere. */
  allowed: string | '*' | null;
  /** The service's own directory, which nobody may ever register from. */
  home: string;
}

export class FileBounds {
  constructor(private readonly options: FileBoundsOptions) {}

  /**
   * Nothing to check for a URI that names no file; one that can't be read is left to its datastore to refuse.
   * @throws Fault INVALID_ARGUMENT (connectionUri), in the same words whether there is such a file or not
   */
  async check(tenantId: string, connectionUri: string): Promise<void> {
    for (const named of filesNamed(connectionUri)) {
      if ((await this.realPath(tenantId, named)) === null) throw refusal();
    }
  }

  /**
   * Where a file is that a tenant names, with all links on the way followed as they are now; as it is named where nothing
   * is. Null where it may not be registered.
   */
  async realPath(tenantId: string, file: string): Promise<string | null> {
    const { allowed, home } = this.options;
    const named = path.resolve(file);
    const root = allowed === null || allowed === '*' ? allowed : path.resolve(allowed.replaceAll('{tenant}', tenantId));
    if (!isAllowed(named, root, home)) return null;
    // Only now is the disk looked at: links must not lead out of where they stand.
    const real = await realpath(named).catch(() => named);
    const realRoot = root === null || root === '*' ? root : await realpath(root).catch(() => root);
    return isAllowed(real, realRoot, await realpath(home).catch(() => home)) ? real : null;
  }
}

function isAllowed(file: string, root: string | '*' | null, home: string): boolean {
  if (root === null || isInside(file, home)) return false;
  return root === '*' || isInside(file, root);
}

function isInside(file: string, directory: string): boolean {
  const relative = path.relative(directory, file);
  return relative !== '..' && !relative.startsWith(`..${path.sep}`) && !path.isAbsolute(relative);
}

/** Databases that are files, and the certificates and keys that a server's URI has the service present as its own. */
const FILE_PARAMETERS = ['sslrootcert', 'sslcert', 'sslkey'];

function filesNamed(connectionUri: string): string[] {
  if (/^postgres(ql)?:/i.test(connectionUri) && URL.canParse(connectionUri)) {
    const { searchParams } = new URL(connectionUri);
    return FILE_PARAMETERS.flatMap((name) => searchParams.getAll(name));
  }
  const [, rest] = /^(?:sqlite|file):\/\/(\/.*)$/is.exec(connectionUri) ?? [];
  if (rest === undefined) return [];
  try {
    return [fileURLToPath(`file://${rest}`)];
  } catch {
    return [];
  }
}

function refusal() {
  return invalidArgument(
    'connectionUri',
    'Files there may not be registered',
    'Name one in a directory that the service allows; its operator sets PITR_REGISTER_FILES.',
  );
}
