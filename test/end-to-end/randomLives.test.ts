/**
 * The one promise through the whole service, over random lives of several databases: the capture and the service killed
 * and stopped while applications write and checkpoint, files removed, put back and cut short, storage full and gone, the
 * clock set, backups and recoveries at any moment. A recovery that succeeds is exact by the applications' own logs; what
 * was promised in a quiet moment keeps; and an instant is refused only where log can have been lost.
 */
import { test } from 'node:test';
import { tinyDisk } from '../storage/tinyDisk.js';
import { LivingService } from '../support/livingService.js';
import { scratchDir } from '../support/scratch.js';
import { seeded, seeds } from '../support/seed.js';
import { costly, harmless, quietly, ServiceLife } from '../support/serviceLife.js';

const long = process.env.PITR_TEST_LONG === '1';
const disk = tinyDisk();
const [lives, databases, acts, transactions, recoveries] = long ? [10, 3, 6, 80, 6] : [1, 2, 1, 25, 1];

test('random lives through the whole service: exact, kept, and refused only with reason', {
  timeout: 3_600_000,
}, async (t) => {
  for (const first of seeds(t)) {
    for (let seed = first; seed < first + lives; seed++) {
      await t.test(`seed ${seed}`, async (t) => {
        const random = seeded(seed);
        const pick = <T>(from: readonly T[]): T => from[Math.floor(random() * from.length)] as T;
        const living = await LivingService.start(t, disk);
        const life = new ServiceLife(t, living, random, () => scratchDir(t));
        try {
          await life.begin(databases);
          for (let act = 0; act < acts; act++) {
            const from = random() < 0.35 ? harmless : [...harmless, ...costly];
            await life.act(transactions, [pick(from), pick(from), pick(from), pick(from)]);
            await life.between(pick(quietly));
          }
          await life.end(recoveries);
          let judged = 0;
          for (const database of life.databases) judged += await database.assertExact(t, living.timed);
          living.assertNoFaultOfItsOwn();
          const refusals = [...life.refusals].map(([code, times]) => `${times} ${code}`).join(', ');
          t.diagnostic(`${judged} exact recoveries; refused: ${refusals || 'nothing'}; ${life.events.join(', ')}`);
        } catch (error) {
          t.diagnostic(`it happened: ${life.events.join(', ')}`);
          for (const line of living.service.log.slice(-12)) t.diagnostic(JSON.stringify(line));
          throw error;
        }
      });
    }
  }
});
