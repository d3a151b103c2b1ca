/** pgBackRest beside the service, as a peer: its archive_command on the source, a backup, and whole recoveries. */
import { spawnSync } from 'node:child_process';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { handOver, run } from '../../src/datastores/postgresql/server/processes.js';
import type { ServerPlace } from '../../src/datastores/postgresql/server/server.js';
import { privateAddress } from '../../src/datastores/postgresql/server/server.js';
import { withSession } from '../../src/datastores/postgresql/source/session.js';

const LIMIT_MS = 600_000;

export class PgBackRest {
  /** Its version; null where it is not installed. */
  static version(): string | null {
    const said = spawnSync('pgbackrest', ['version'], { encoding: 'utf8' });
    return said.status === 0 ? said.stdout.trim() : null;
  }

  private constructor(
    private readonly source: ServerPlace,
    private readonly directory: string,
  ) {}

  /** @param directory one that PostgreSQL's user may write to */
  static async setUp(source: ServerPlace, directory: string): Promise<PgBackRest> {
    for (const part of ['', 'repo', 'log', 'lock', 'spool']) {
      await mkdir(path.join(directory, part), { recursive: true });
      await handOver(path.join(directory, part), source.runAs);
    }
    const config = `[global]
repo1-path=${directory}/repo
log-path=${directory}/log
lock-path=${directory}/lock
spool-path=${directory}/spool
log-level-console=warn
log-level-file=off
compress-type=lz4
process-max=2
archive-async=y
start-fast=y

[bench]
pg1-path=${source.data}
pg1-socket-path=${source.socketDir}
pg1-port=${source.port}
pg1-user=${source.user}
`;
    await writeFile(path.join(directory, 'pgbackrest.conf'), config);
    const peer = new PgBackRest(source, directory);
    await peer.call('stanza-create');
    await peer.archiving(true);
    return peer;
  }

  async archiving(on: boolean): Promise<void> {
    const command = on
      ? `pgbackrest --config=${this.directory}/pgbackrest.conf --stanza=bench archive-push %p`
      : 'true';
    await this.sql(`alter system set archive_command = '${command}'`);
    await this.sql('select pg_reload_conf()');
  }

  async backUp(): Promise<void> {
    await this.call('backup', '--type=full');
  }

  /** Waits until everything written so far is in its archive. */
  async archived(): Promise<void> {
    const [{ file }] = await this.sql('select pg_walfile_name(pg_current_wal_lsn()) as file');
    await this.sql('select pg_switch_wal()');
    for (const end = Date.now() + LIMIT_MS; ; await new Promise((resolve) => setTimeout(resolve, 100))) {
      const [{ last }] = await this.sql('select last_archived_wal as last from pg_stat_archiver');
      if (last !== null && last >= file) return;
      if (Date.now() > end) throw new Error('pgBackRest does not archive');
    }
  }

  /** Puts the newest backup into `data`, with a restore_command of its own. */
  async restore(data: string): Promise<void> {
    await rm(data, { recursive: true, force: true });
    await mkdir(data, { recursive: true });
    await handOver(data, this.source.runAs);
    await this.call('restore', `--pg1-path=${data}`);
  }

  private async call(command: string, ...args: string[]): Promise<void> {
    await run('pgbackrest', [`--config=${this.directory}/pgbackrest.conf`, '--stanza=bench', ...args, command], {
      runAs: this.source.runAs,
      timeoutMs: LIMIT_MS,
    });
  }

  private async sql(text: string) {
    const { socketDir, port, user } = this.source;
    return await withSession(privateAddress(socketDir, port, user), { applicationName: 'bench' }, async (client) => {
      return (await client.query(text)).rows;
    });
  }
}
