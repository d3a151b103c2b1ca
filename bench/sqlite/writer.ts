/**
 * The application: a process of its own that writes to a database for a while.
 *   writer.js FILE full|normal|bulk SECONDS   as fast as it can; prints the rows per second
 *   writer.js FILE paced COMMITS              one row now and then; prints when each commit had returned, in microseconds
 */
import { setTimeout as delay } from 'node:timers/promises';
import { Database } from './workload.js';

/** Rows of one transaction, and what a commit waits for. */
const modes: Record<string, { rows: number; synchronous: string; batch: number }> = {
  full: { rows: 1, synchronous: 'FULL', batch: 20 },
  normal: { rows: 1, synchronous: 'NORMAL', batch: 200 },
  bulk: { rows: 2_000, synchronous: 'NORMAL', batch: 1 },
};
const PACE_MS = { least: 40, most: 160 };

const [file = '', mode = '', amount = ''] = process.argv.slice(2);
const database = await Database.open(file, '1:1');
await database.run('CREATE TABLE IF NOT EXISTS written (id INTEGER PRIMARY KEY, body BLOB NOT NULL)');
// Random ones, so that the log repeats nothing but the pages that were written before.
const row = 'INSERT INTO written (body) VALUES (randomblob(200));';

if (mode === 'paced') {
  const returned: number[] = [];
  for (let commit = 0; commit < Number(amount); commit++) {
    await delay(PACE_MS.least + Math.random() * (PACE_MS.most - PACE_MS.least));
    await database.run(row);
    returned.push((performance.timeOrigin + performance.now()) * 1000);
  }
  console.log(JSON.stringify(returned));
} else {
  const { rows, synchronous, batch } = modes[mode] ?? { rows: 1, synchronous: 'FULL', batch: 1 };
  await database.run(`PRAGMA synchronous = ${synchronous}`);
  // Many statements per call, so that SQLite is measured and not the way to it.
  const statements = rows === 1 ? row.repeat(batch) : `BEGIN;${row.repeat(rows)}COMMIT;`;
  const start = performance.now();
  let written = 0;
  for (; performance.now() - start < Number(amount) * 1000; written += rows * batch) await database.script(statements);
  console.log(JSON.stringify(written / ((performance.now() - start) / 1000)));
}
await database.close();
