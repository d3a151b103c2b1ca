/** A real small disk to fill, where this process may mount one. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { requirement } from '../support/requirement.js';
import { scratchDir } from '../support/scratch.js';

const mountArguments = (size: string) => ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs'];

export interface TinyDisk {
  /** Why there can be none; false where there can. */
  skip: string | false;
  /** Mounts one of 1 MiB, or of a size as mount takes it, until the test ends; answers its directory. */
  mount(t: Pick<TestContext, 'after'>, size?: string): Promise<string>;
  /** Mounts one over an existing directory; answers what unmounts it. */
  mountAt(dir: string, size: string): () => void;
}

/** Finds out by trying. With PITR_TEST_REQUIRE=all it throws where there can be none. */
export function tinyDisk(): TinyDisk {
  const probe = mkdtempSync(path.join(tmpdir(), 'pitr-test-'));
  try {
    return {
      skip: requirement('mount', [...mountArguments('1m'), probe], 'it needs the right to mount a tmpfs: run as root'),
      mount,
      mountAt,
    };
  } finally {
    spawnSync('umount', [probe], { stdio: 'ignore' });
    rmSync(probe, { recursive: true, force: true });
  }
}

async function mount(t: Pick<TestContext, 'after'>, size = '1m'): Promise<string> {
  // Hooks run in the order in which they are added: unmount first, then remove the directory.
  let mounted = '';
  t.after(() => spawnSync('umount', ['-l', mounted], { stdio: 'ignore' }));
  const dir = await scratchDir(t);
  const done = spawnSync('mount', [...mountArguments(size), dir], { encoding: 'utf8' });
  if (done.status !== 0) throw new Error(`mount failed: ${done.stderr}`);
  mounted = dir;
  return dir;
}

function mountAt(dir: string, size: string): () => void {
  const done = spawnSync('mount', [...mountArguments(size), dir], { encoding: 'utf8' });
  if (done.status !== 0) throw new Error(`mount failed: ${done.stderr}`);
  return () => void spawnSync('umount', ['-l', dir], { stdio: 'ignore' });
}
