/** Litestream 0.3.13 as a peer, where its binary is installed for this platform. */
import { access, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { runProgram, start } from './program.js';

/** The default settings, and what makes it look and ship as often as it can. */
export type Pace = 'default' | 'fastest';
const intervals: Record<Pace, { monitor: string; sync: string }> = {
  default: { monitor: '1s', sync: '1s' },
  fastest: { monitor: '10ms', sync: '10ms' },
};

export class Litestream {
  private constructor(private readonly binary: string) {}

  /** Null where it is not installed. */
  static async find(): Promise<Litestream | null> {
    const name = `@flydotio/litestream-${process.platform}-${process.arch}/litestream`;
    try {
      const binary = fileURLToPath(import.meta.resolve(name));
      await access(binary);
      return new Litestream(binary);
    } catch {
      return null;
    }
  }

  /** Starts to replicate `file` into the directory `replica`; stop it with SIGTERM. */
  async replicate(file: string, replica: string, pace: Pace) {
    return start(this.binary, ['replicate', '-config', await this.configuration(file, replica, pace)]);
  }

  async restore(file: string, replica: string, output: string): Promise<void> {
    const configuration = await this.configuration(file, replica, 'default');
    await runProgram(this.binary, ['restore', '-config', configuration, '-o', output, file]);
  }

  private async configuration(file: string, replica: string, pace: Pace): Promise<string> {
    const { monitor, sync } = intervals[pace];
    const configuration = path.join(path.dirname(replica), `${path.basename(replica)}.json`);
    const dbs = [{ path: file, 'monitor-interval': monitor, replicas: [{ path: replica, 'sync-interval': sync }] }];
    // Every JSON text is YAML, too.
    await writeFile(configuration, JSON.stringify({ dbs }));
    return configuration;
  }
}
