/**
 * Where things are under PITR_HOME. Directories on the way to an instance are 0711: nobody else may look around in
 * them, but a database server that runs as another user reaches its own directory.
 */
import { chmod, mkdir, readdir, realpath, stat } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { invalidArgument } from '../errors.js';

/** What a fresh volume may hold that nobody put there. */
const IGNORED = ['lost+found'];

export class Places {
  /** `root` is absolute. */
  constructor(readonly root: string) {}

  get catalogFile(): string {
    return path.join(this.root, 'catalog.db');
  }
  get lockFile(): string {
    return path.join(this.root, 'lock.db');
  }
  get holderFile(): string {
    return path.join(this.root, 'service.json');
  }
  get keyFile(): string {
    return path.join(this.root, 'secret.key');
  }
  get storage(): string {
    return path.join(this.root, 'storage');
  }
  get instances(): string {
    return path.join(this.root, 'instances');
  }
  get scratch(): string {
    return path.join(this.root, 'scratch');
  }

  /** What stands here is removed with everything in it, so a name that leads anywhere else is a defect. */
  instanceHome(id: string): string {
    const home = path.join(this.instances, id);
    if (path.dirname(home) !== this.instances) throw new Error(`not an instance's name: ${JSON.stringify(id)}`);
    return home;
  }
  /** On the same filesystem as the instances: what is finished here is renamed there. */
  recoveryScratch(recoveryId: string): string {
    return path.join(this.scratch, `recovery-${recoveryId}`);
  }
  backupScratch(backupId: string): string {
    return path.join(this.scratch, `backup-${backupId}`);
  }

  /**
   * Makes the directories that are missing and closes them to others.
   * @throws Fault INVALID_ARGUMENT where the directory holds somebody else's files, and what the file system answers
   */
  async prepare(): Promise<void> {
    await makeDirectory(this.root);
    await this.refuseForeign();
    for (const [directory, mode] of [
      [this.root, 0o711],
      [this.instances, 0o711],
      [this.scratch, 0o711],
      [this.storage, 0o700],
    ] as const) {
      await makeDirectory(directory);
      await chmod(directory, mode);
    }
  }

  /**
   * Whether a connection URI names a hard link to a file that the service has locked; FileBounds refuses the names inside
   * the home. Opens nothing: closing any handle on the catalog or the lock would drop the locks that this process holds.
   */
  async isLinkToOwn(connectionUri: string): Promise<boolean> {
    const file = await fileNamedBy(connectionUri);
    if (file === null) return false;
    const found = await stat(file);
    for (const own of [this.catalogFile, this.lockFile]) {
      const { dev, ino } = await stat(own);
      if (dev === found.dev && ino === found.ino) return true;
    }
    return false;
  }

  /** Before any mode is changed: the setting may name /tmp or somebody's home directory by mistake. */
  private async refuseForeign(): Promise<void> {
    const found = (await readdir(this.root)).filter((name) => !IGNORED.includes(name));
    const own = [this.lockFile, this.keyFile, this.holderFile, this.storage, this.instances, this.scratch];
    // With what SQLite and an interrupted first start leave beside them.
    const isOwn = (name: string) => own.some((file) => name.startsWith(path.basename(file)));
    if (found.includes(path.basename(this.catalogFile)) || found.every(isOwn)) return;
    throw invalidArgument(
      'PITR_HOME',
      `${this.root} holds files that are not pitr-gateway's`,
      'Set PITR_HOME to an empty directory, or to one that does not exist yet.',
    );
  }
}

/** The real path of an existing file that a URI without a host names; null for every other URI. */
async function fileNamedBy(connectionUri: string): Promise<string | null> {
  if (!/^[a-z]+:\/\/\//i.test(connectionUri)) return null;
  try {
    return await realpath(fileURLToPath(connectionUri.replace(/^[a-z]+:/i, 'file:')));
  } catch {
    return null; // The driver says what is wrong with it.
  }
}

/**
 * Node's own recursive mkdir never returns below a directory that takes no new ones (/proc), and calls a read-only file
 * system a missing file.
 */
async function makeDirectory(directory: string): Promise<void> {
  if (await tryToMake(directory)) return;
  await makeDirectory(path.dirname(directory));
  await mkdir(directory, { mode: 0o711 });
}

/** False where the directory above is missing. */
async function tryToMake(directory: string): Promise<boolean> {
  try {
    await mkdir(directory, { mode: 0o711 });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' && directory !== path.dirname(directory)) return false;
    // A file of that name is told apart by whoever looks into the directory next.
    if (code !== 'EEXIST') throw error;
  }
  return true;
}
