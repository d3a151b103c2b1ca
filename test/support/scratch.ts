/** A directory per test, gone when the test ends. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { TestContext } from 'node:test';

export async function scratchDir(t: Pick<TestContext, 'after'>): Promise<string> {
  const dir = await mkdtemp(path.join(tmpdir(), 'pitr-test-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  return dir;
}
