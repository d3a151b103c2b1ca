/** A PostgreSQL database as the demo's processes use it. */
import pg from 'pg';
import type { Database } from './database.js';

/** `uri` is `postgresql://user:password@host:port/database`. */
export async function openPostgresql(uri: string): Promise<Database> {
  const client = new pg.Client({ connectionString: uri });
  await client.connect();
  return {
    query: async (sql, values = []) => (await client.query(sql, values)).rows,
    tables: "SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public'",
    close: () => client.end(),
  };
}
