/**
 * Whether what a recovery costs follows the size of the database or its history: one small database whose pages are written
 * over again and again, recovered from the full backup before all of that, and from an INCREMENTAL one after it.
 */
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { benchDirectory } from './benchDirectory.js';
import { seconds, spread } from './figures.js';
import { runProgram } from './program.js';
import { type Recovered, Service } from './service.js';
import { Database } from './workload.js';

const MIB = 1 << 20;
const DATABASE_MIB = 100;
/** Of log, in sizes of the database. */
const HISTORIES = [1, 5, 20];
const SETTLE_MS = 3_000;
const ROUNDS = Number(process.env.PITR_BENCH_ROUNDS ?? 5);

export async function run(): Promise<void> {
  const { dir, remove } = await benchDirectory();
  const service = await Service.start(path.join(dir, 'home'));
  try {
    const rows: Record<string, Record<string, string>> = {};
    for (const history of HISTORIES) {
      const file = path.join(dir, `history-${history}.db`);
      const database = await Database.open(file, '1:1');
      await database.fill(DATABASE_MIB * MIB);
      const id = await service.register(`history-${history}`, file);
      await service.backUp(id);
      await database.change(history * DATABASE_MIB * MIB);
      // The capture has let go of the log by then, so that the file is what a copy has to be.
      await delay(SETTLE_MS);
      await database.checkpoint();
      const full = await recoveries(service, id, file);
      const backup = await service.backUp(id, 'INCREMENTAL');
      rows[`${history * DATABASE_MIB} MiB of log`] = {
        'from the full backup': spread(full),
        'from an INCREMENTAL': spread(await recoveries(service, id, file)),
        'making that': backup.toFixed(2),
      };
      await database.close();
    }
    console.log(`\nSeconds of a recovery of a database of ${DATABASE_MIB} MiB, ${ROUNDS} rounds`);
    console.table(rows);
  } finally {
    await service.stop();
    remove();
  }
}

async function recoveries(service: Service, id: string, file: string): Promise<number[]> {
  const times: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    let recovered: Recovered | undefined;
    times.push(
      await seconds(async () => {
        recovered = await service.recover(id);
      }),
    );
    if (!recovered) continue;
    if (round === 0) await runProgram('cmp', [file, recovered.file]);
    await service.remove(recovered.instanceId);
  }
  return times;
}
