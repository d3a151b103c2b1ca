/**
 * What a full backup made of the archive saves: recoveries to the same data from it and, an instant before it is
 * consistent, from the backup that it was made of, in turns.
 */
import type pg from 'pg';
import { formatInstant, instant, parseInstant } from '../../src/instant.js';
import { backUp, plan, recover, remove } from '../../test/support/postgresql/postgresCalls.js';
import type { Service } from '../../test/support/service.js';

export interface Synthetic {
  making: number;
  fromOlder: number[];
  fromMade: number[];
}

/** Seconds. The log so far has to be archived or come by a fence. */
export async function measureSynthetic(
  client: pg.Client,
  service: Service,
  id: string,
  rounds: number,
): Promise<Synthetic> {
  // Servers make one every few minutes; without one in the log there is nothing to win.
  await client.query('checkpoint');
  await plan(service, id, {});
  const [making, made] = await seconds(() => backUp(service, id, true));
  const at = made.consistentAt;
  const before = formatInstant(instant(parseInstant(at) - 1));
  const older = made.madeFrom?.id;
  const fromOlder: number[] = [];
  const fromMade: number[] = [];
  for (let round = 0; round < rounds; round++) {
    for (const [pointInTime, base, figures] of [
      [before, older, fromOlder],
      [at, made.id, fromMade],
    ] as const) {
      if ((await plan(service, id, { pointInTime })).base !== base) throw new Error(`${pointInTime}: another base`);
      const [took, back] = await seconds(() => recover(service, id, { pointInTime }));
      figures.push(took);
      await remove(service, back.id);
    }
  }
  return { making, fromOlder, fromMade };
}

async function seconds<T>(work: () => Promise<T>): Promise<[number, T]> {
  const begun = performance.now();
  const result = await work();
  return [(performance.now() - begun) / 1000, result];
}
