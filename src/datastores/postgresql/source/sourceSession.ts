/** The one ordinary connection that a capture keeps to its source: for fences, its slot, and the source's clock. */
import type pg from 'pg';
import { Fault } from '../../../errors.js';
import { type Instant, instant } from '../../../instant.js';
import { serverLsn } from '../formats/lsn.js';
import type { ServerAddress } from './address.js';
import { connect, connectionFault, hangUp } from './session.js';

export interface SlotState {
  /** The server's commits wait for what goes through the slot. */
  synchronous: boolean;
  /** The server's `synchronous_standby_names` may mean the slot's user, so that commits wait or soon could. */
  named: boolean;
  /** Bytes of log that the server keeps for it; 0 without a slot. */
  retainedBytes: number;
}

export class SourceSession {
  private client: pg.Client | null = null;
  private turn: Promise<void> = Promise.resolve();
  private closed = false;

  constructor(
    private readonly address: ServerAddress,
    private readonly applicationName: string,
  ) {}

  /** Runs `work` on the connection, one after another. @throws Fault INVALID_ARGUMENT, DATASTORE_UNAVAILABLE */
  run<T>(work: (client: pg.Client) => Promise<T>): Promise<T> {
    const done = this.turn.then(() => this.attempt(work));
    this.turn = done.then(
      () => {},
      () => {},
    );
    return done;
  }

  /**
   * Writes a commit record and answers with an LSN behind it. The message, which nobody reads, is what makes the server
   * flush the commit before it answers: one that follows no other record of its transaction is flushed some time later,
   * and the log's end on disk would then say nothing about it.
   */
  async markCommit(): Promise<number> {
    return await this.run(async (client) => {
      await client.query("select pg_logical_emit_message(true, 'pitr', 'fence')");
      const { rows } = await client.query('select pg_current_wal_flush_lsn()::text as lsn');
      return serverLsn(rows[0].lsn);
    });
  }

  /** The size of a WAL file in bytes, and the source's clock. */
  async describe(): Promise<{ segmentSize: number; now: Instant }> {
    return await this.run(async (client) => {
      const { rows } = await client.query(
        `select setting::bigint as bytes, (extract(epoch from clock_timestamp()) * 1000000)::bigint as now
           from pg_settings where name = 'wal_segment_size'`,
      );
      return { segmentSize: Number(rows[0].bytes), now: instant(Number(rows[0].now)) };
    });
  }

  /**
   * Who is only named counts as waited for where the server does not say which it is: while nothing streams through the
   * slot, and to a user without `pg_read_all_stats`.
   */
  async slotState(slot: string): Promise<SlotState> {
    return await this.run(async (client) => {
      const { rows } = await client.query(
        `select coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::bigint as retained,
                coalesce((select sync_state in ('sync', 'quorum') from pg_stat_replication where pid = active_pid), named) as sync,
                named
           from pg_replication_slots,
                lateral (select current_setting('synchronous_standby_names') ~* ('[*]|' || slot_name) as named) as naming
           where slot_name = $1`,
        [slot],
      );
      const { retained, sync, named } = rows[0] ?? { retained: 0, sync: false, named: false };
      return { synchronous: sync, named, retainedBytes: Math.max(0, Number(retained)) };
    });
  }

  /** Cuts off what runs: a server that has fallen silent would not let it end. */
  async close(): Promise<void> {
    this.closed = true;
    if (this.client) hangUp(this.client);
    await this.turn;
  }

  /** A connection that has died since it was last used is replaced once. */
  private async attempt<T>(work: (client: pg.Client) => Promise<T>): Promise<T> {
    for (let attempt = 0; ; attempt++) {
      const kept = this.client;
      try {
        return await work(this.client ?? (await this.open()));
      } catch (error) {
        void this.client?.end().catch(() => {});
        this.client = null;
        if (kept === null || attempt > 0) throw connectionFault(error, this.address);
      }
    }
  }

  private async open(): Promise<pg.Client> {
    if (this.closed) throw new Fault('DATASTORE_UNAVAILABLE', 'The connection to PostgreSQL was closed');
    const client = await connect(this.address, { applicationName: this.applicationName });
    this.client = client;
    if (this.closed) hangUp(client);
    // Flushed when answered, and never waiting for a standby.
    await client.query('set synchronous_commit = local');
    return client;
  }
}
