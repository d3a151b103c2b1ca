/**
 * Where things are under PITR_HOME. Directories on the way to an instance are 0711: nobody else may look around in
 * them, but a database server that runs as another user reaches its own directory.
 */
import { chmod, mkdir, readdir } from 'node:fs/promises';
import path from 'node:path';
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

  instanceHome(id: string): string {
    return path.join(this.instances, id);
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
