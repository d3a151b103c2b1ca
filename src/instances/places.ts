/**
 * Where things are under PITR_HOME. Directories on the way to an instance are 0711: nobody else may look around in
 * them, but a database server that runs as another user reaches its own directory.
 */
import { chmod, mkdir } from 'node:fs/promises';
import path from 'node:path';

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

  async prepare(): Promise<void> {
    for (const [directory, mode] of [
      [this.root, 0o711],
      [this.instances, 0o711],
      [this.scratch, 0o711],
      [this.storage, 0o700],
    ] as const) {
      await mkdir(directory, { recursive: true, mode });
      await chmod(directory, mode);
    }
  }
}
