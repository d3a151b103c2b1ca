/**
 * What a server says of its own log, record for record: the extension pg_walinspect, which reads it with PostgreSQL's
 * own code and comes with every server, also where pg_waldump does not.
 */
import type pg from 'pg';
import { serverLsn } from '../../../src/datastores/postgresql/formats/lsn.js';
import { type Instant, parseInstant } from '../../../src/instant.js';

export interface OracleRecord {
  start: number;
  end: number;
  /** Where the record is a commit. */
  commit: { xid: number; at: Instant } | null;
  /** Where the record is a checkpoint: where a replay from it begins. */
  redo: number | null;
}

interface Row {
  start: string;
  end: string;
  kind: string;
  xid: string;
  description: string;
}

/** Every record between two LSNs of the log that the server still has. The extension has to be there. */
export async function recordsOf(client: pg.Client, from: string, to: string): Promise<OracleRecord[]> {
  await client.query("set timezone = 'UTC'; set datestyle = 'ISO'");
  const { rows } = await client.query<Row>(
    `select start_lsn::text as start, end_lsn::text as end, resource_manager || ' ' || record_type as kind, xid::text,
            description
       from pg_get_wal_records_info($1, $2) order by start_lsn`,
    [from, to],
  );
  return rows.map(({ start, end, kind, xid, description }) => ({
    start: serverLsn(start),
    end: serverLsn(end),
    commit: kind.startsWith('Transaction COMMIT') ? commitIn(xid, description) : null,
    redo: /^XLOG CHECKPOINT_(ONLINE|SHUTDOWN)$/.test(kind) ? redoIn(description) : null,
  }));
}

/** `2026-11-22 14:03:07.25+00; …`, after the transaction's own number where another one committed it. */
function commitIn(xid: string, description: string): { xid: number; at: Instant } {
  const [, prepared, day, time] = /^(?:(\d+): )?(\S+) (\S+)\+00/.exec(description) ?? [];
  if (day === undefined) throw new Error(`no time in ${description}`);
  return { xid: Number(prepared ?? xid), at: parseInstant(`${day}T${time}Z`) };
}

/** `redo 0/2000028; tli 1; …` */
function redoIn(description: string): number {
  return serverLsn(/^redo ([^;]+);/.exec(description)?.[1] ?? '');
}
