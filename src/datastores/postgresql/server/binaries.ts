/**
 * Finds PostgreSQL's programs of one major version, of which several may be installed side by side: programs of another
 * refuse the server or do not fit its files.
 */
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { Fault } from '../../../errors.js';
import { supportedInWords, supportedMajors } from '../formats/majors.js';
import { type RunAs, run } from './processes.js';

/** All that a major needs beside the service. */
const programs = ['postgres', 'initdb'] as const;
export type Program = (typeof programs)[number];

interface Found {
  file: string;
  /** As the program says it: 15.18, 18beta1. */
  version: string;
  /** Changes when something else is put in its place. */
  stamp: string;
}

export class Binaries {
  /** By file, as it was when it was asked. */
  private readonly asked = new Map<string, Found & { major: number }>();

  /** @param directories searched first */
  constructor(private readonly directories: readonly string[]) {}

  /**
   * The absolute path of a program that the user may run.
   * @throws Fault DATASTORE_NOT_SUPPORTED where it is not installed
   */
  async find(program: Program, major: number, runAs: RunAs | null): Promise<string> {
    return (await this.look(program, major, runAs)).file;
  }

  /** The full version of the programs, such as 15.18. @throws Fault DATASTORE_NOT_SUPPORTED as find */
  async version(major: number, runAs: RunAs | null): Promise<string> {
    return (await this.look('postgres', major, runAs)).version;
  }

  /** @throws Fault DATASTORE_NOT_SUPPORTED where a program of the major is missing */
  async demand(major: number, runAs: RunAs | null): Promise<void> {
    for (const program of programs) await this.find(program, major, runAs);
  }

  /** The newest supported major whose programs are here. @throws Fault DATASTORE_NOT_SUPPORTED where there is none */
  async newest(runAs: RunAs | null): Promise<number> {
    for (const major of [...supportedMajors].reverse()) {
      const there = await this.demand(major, runAs).then(
        () => true,
        () => false,
      );
      if (there) return major;
    }
    throw new Fault('DATASTORE_NOT_SUPPORTED', 'No PostgreSQL is installed beside the service', {
      hint: `Install PostgreSQL ${supportedInWords}, or name its directory in PITR_POSTGRESQL_BIN.`,
    });
  }

  private async look(program: Program, major: number, runAs: RunAs | null): Promise<Found> {
    const failures: string[] = [];
    for (const directory of this.candidates(major)) {
      const file = path.join(directory, program);
      const { mtimeMs, size, ino } = (await stat(file).catch(() => null)) ?? {};
      if (ino === undefined) continue;
      const stamp = `${mtimeMs} ${size} ${ino} ${runAs?.uid}`;
      const known = this.asked.get(file);
      if (known?.stamp === stamp) {
        if (known.major === major) return known;
        continue;
      }
      try {
        // "initdb (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"
        const said = await run(file, ['--version'], { runAs, timeoutMs: 10_000 });
        const version = /\(PostgreSQL\) (\d\S*)/.exec(said)?.[1];
        if (version === undefined) throw new Error(`it says ${JSON.stringify(said.slice(0, 100))}`);
        const found = { file, version, stamp, major: Number.parseInt(version, 10) };
        this.asked.set(file, found);
        if (found.major === major) return found;
      } catch (error) {
        failures.push(`${file} does not run${error instanceof Error ? `: ${error.message}` : ''}`);
      }
    }
    throw new Fault('DATASTORE_NOT_SUPPORTED', missing(program, major, failures), {
      hint: `Install PostgreSQL ${major} beside the service, or name its directory in PITR_POSTGRESQL_BIN.`,
    });
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

function missing(program: Program, major: number, failures: string[]): string {
  const why = failures.length > 0 ? ` (${failures.join('; ')})` : '';
  return `${program} of PostgreSQL ${major} is not installed here${why}`;
}
