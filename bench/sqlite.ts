/**
 * How fast the SQLite driver recovers, backs up and captures, beside what the machine allows and beside Litestream.
 * In the directory PITR_BENCH_DIR, else the system's temporary one, which needs room for six times the largest size;
 * PITR_BENCH_MIB sizes (300,1024), PITR_BENCH_KINDS kinds of data (1:1,4:1), PITR_BENCH_ROUNDS rounds (5),
 * PITR_BENCH_PARTS what to measure (recovery,history,capture), PITR_BENCH_MODES how an application writes
 * (full,normal,bulk). It may be interrupted.
 */
import { run as capture } from './sqlite/capture.js';
import { run as history } from './sqlite/history.js';
import { run as recovery } from './sqlite/recovery.js';

export async function run(): Promise<void> {
  const parts = (process.env.PITR_BENCH_PARTS ?? 'recovery,history,capture').split(',');
  if (parts.includes('recovery')) await recovery();
  if (parts.includes('history')) await history();
  if (parts.includes('capture')) await capture();
}
