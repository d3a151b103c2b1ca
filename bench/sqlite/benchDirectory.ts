/** A directory for what a benchmark makes, removed also when the benchmark is interrupted. */
import { rmSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';

for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130));

/** In the directory PITR_BENCH_DIR, else in the system's temporary one. */
export async function benchDirectory(): Promise<{ dir: string; remove(): void }> {
  const dir = await mkdtemp(path.join(process.env.PITR_BENCH_DIR ?? tmpdir(), 'pitr-bench-'));
  const remove = () => rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
  process.once('exit', remove);
  return { dir, remove };
}
