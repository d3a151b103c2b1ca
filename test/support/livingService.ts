/**
 * A whole service that lives through things together with the databases it follows: processes killed, storage full or
 * gone, its machine's clock set. What happens to one database's file is sqliteFileLife.ts.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { mkdir, mkdtemp, rename, rm, statfs, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { uriOfFile } from '../../src/datastores/sqlite/source/databasePaths.js';
import type { TinyDisk } from '../storage/tinyDisk.js';
import { Service } from './service.js';
import { skewedEngine } from './skewedEngine.js';
import { ask } from './sqlitePrograms.js';

export const hourMillis = 3_600_000;
/** Captured log that may wait for the storage, MiB. */
export const retainedMiB = 16;
const entry = fileURLToPath(new URL('./livedService.js', import.meta.url));

export class LivingService {
  /** When the clock was wrong, microseconds of the right one. */
  private readonly wrong: { from: number; to: number }[] = [];
  private skewed = false;

  private constructor(
    readonly service: Service,
    private readonly clockFile: string,
    readonly canFill: boolean,
  ) {}

  static async start(t: TestContext, disk: TinyDisk | null): Promise<LivingService> {
    const dir = await mkdtemp(path.join(tmpdir(), 'pitr-test-'));
    const clockFile = path.join(dir, 'clock');
    await writeFile(clockFile, '0');
    const env = {
      PITR_LIMIT_RATE: '0',
      PITR_RETAINED_LOG_MIB: String(retainedMiB),
      PITR_TEST_CLOCK: clockFile,
      PITR_TEST_ENGINE: await skewedEngine(dir, clockFile),
    };
    const service = new Service(dir, { entry, env });
    let unmount = () => {};
    t.after(async () => {
      await service.kill();
      unmount();
      await rm(dir, { recursive: true, force: true });
    });
    for (const each of ['home', 'disk']) await mkdir(path.join(dir, each));
    if (disk && !disk.skip) unmount = disk.mountAt(path.join(dir, 'disk'), '96m');
    await mkdir(path.join(dir, 'disk/storage'));
    await symlink(path.join(dir, 'disk/storage'), path.join(service.home, 'storage'));
    await service.start();
    return new LivingService(service, clockFile, disk?.skip === false);
  }

  /** A database of any shape under a path that is not easy. */
  async adopt(t: TestContext, name: string, shape: readonly string[]): Promise<{ id: string; file: string }> {
    const file = path.join(this.service.dir, `älter & neuer ${name}`, 'my data?#%20.db');
    await mkdir(path.dirname(file));
    await ask(t, 'setup', file, ...shape);
    const { registerInstance } = await this.service.graphql<{ registerInstance: { id: string } }>(
      `mutation ($name: String!, $uri: String!) {
        registerInstance(input: { name: $name, datastore: "sqlite", connectionUri: $uri }) { id } }`,
      { name, uri: uriOfFile(file) },
    );
    return { id: registerInstance.id, file };
  }

  killEngine(): void {
    for (const { pid } of this.service.children()) {
      if (readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('engine.mjs')) process.kill(pid, 'SIGKILL');
    }
  }

  /** Takes the service down while `meanwhile` happens. */
  async down(how: 'stop' | 'kill', meanwhile: () => Promise<unknown>): Promise<void> {
    await this.service[how]();
    await meanwhile();
    await this.service.start();
  }

  async storageGone(meanwhile: () => Promise<unknown>): Promise<void> {
    const storage = path.join(this.service.home, 'storage');
    await rename(storage, `${storage}.away`);
    await meanwhile();
    await rm(storage, { recursive: true, force: true });
    await rename(`${storage}.away`, storage);
  }

  async storageFull(meanwhile: () => Promise<unknown>): Promise<void> {
    const disk = path.join(this.service.dir, 'disk');
    const filler = path.join(disk, 'filler');
    const { bavail, bsize } = await statfs(disk);
    await writeFile(filler, Buffer.alloc(Math.max(0, bavail - 1) * bsize)).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOSPC') throw error;
    });
    await meanwhile();
    await rm(filler);
  }

  get clockIsRight(): boolean {
    return !this.skewed;
  }

  async setClock(millis: number): Promise<void> {
    const now = Date.now() * 1000;
    const last = this.wrong.at(-1);
    // What was committed just before is looked at after, and timed by the clock as it is then.
    if (millis !== 0 && !this.skewed) this.wrong.push({ from: now - 5_000_000, to: Number.MAX_SAFE_INTEGER });
    if (millis === 0 && this.skewed && last) last.to = now + 100_000;
    this.skewed = millis !== 0;
    await writeFile(`${this.clockFile}.part`, String(millis));
    await rename(`${this.clockFile}.part`, this.clockFile);
    if (millis === 0) await delay(100);
  }

  /** Whether the clock was right at a moment, so that times of then can be compared with the programs' own. */
  timed = (micros: number): boolean => this.wrong.every(({ from, to }) => micros < from || micros > to);

  assertNoFaultOfItsOwn(): void {
    const internal = this.service.log.filter((line) => JSON.stringify(line).includes('"INTERNAL"'));
    assert.deepEqual(internal, [], 'the service met something that it has no word for');
  }
}
