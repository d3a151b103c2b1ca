/** Finds PostgreSQL's programs of one major version: tools of another refuse the server or do not fit its files. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { Fault } from '../../errors.js';
import { run } from './processes.js';

/** What this driver has been proven with; others are refused rather than tried on a user's data. */
export const supportedMajors: readonly number[] = [15];

export type Program = 'initdb' | 'postgres' | 'pg_controldata';

export class Binaries {
  private readonly found = new Map<string, string>();

  /** @param directories searched first */
  constructor(private readonly directories: readonly string[]) {}

  /** The absolute path of a program. @throws Fault DATASTORE_NOT_SUPPORTED where it is not installed */
  async find(program: Program, major: number): Promise<string> {
    const key = `${program} ${major}`;
    const known = this.found.get(key);
    if (known) return known;
    for (const directory of this.candidates(major)) {
      const file = path.join(directory, program);
      if (!existsSync(file)) continue;
      // "initdb (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"
      const version = await run(file, ['--version'], { runAs: null, timeoutMs: 10_000 });
      if (Number(/\(PostgreSQL\) (\d+)/.exec(version)?.[1]) !== major) continue;
      this.found.set(key, file);
      return file;
    }
    throw new Fault('DATASTORE_NOT_SUPPORTED', `${program} of PostgreSQL ${major} is not installed here`, {
      hint: `Install PostgreSQL ${major} beside the service, or name its directory in PITR_POSTGRESQL_BIN.`,
    });
  }

  /** The full version of the programs, such as 15.18. */
  async version(major: number): Promise<string> {
    const file = await this.find('postgres', major);
    const said = await run(file, ['--version'], { runAs: null, timeoutMs: 10_000 });
    return /\(PostgreSQL\) ([\d.]+)/.exec(said)?.[1] ?? String(major);
  }

  private candidates(major: number): string[] {
    return [
      ...this.directories,
      `/usr/lib/postgresql/${major}/bin`,
      `/usr/pgsql-${major}/bin`,
      `/opt/homebrew/opt/postgresql@${major}/bin`,
      ...(process.env.PATH ?? '').split(':').filter((directory) => directory !== ''),
    ];
  }
}
