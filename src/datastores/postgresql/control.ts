/** The control file of a stopped server, as pg_controldata tells it. */
import type { Binaries } from './binaries.js';
import { type RunAs, run } from './processes.js';

export type ControlFile = (name: string) => string | undefined;

/** @param data the data directory @throws Fault DATASTORE_NOT_SUPPORTED, INTERNAL where it cannot be read */
export async function readControl(
  data: string,
  major: number,
  binaries: Binaries,
  runAs: RunAs | null,
): Promise<ControlFile> {
  const text = await run(await binaries.find('pg_controldata', major), [data], { runAs, timeoutMs: 30_000 });
  return (name) => new RegExp(`^${name}:\\s+(.*)$`, 'm').exec(text)?.[1];
}
