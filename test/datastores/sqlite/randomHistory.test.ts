/**
 * The one promise over a random life: acts of concurrent writers, checkpoints and vacuums, in which the capture is killed,
 * stopped, refused its archive and has its clock set; between them outages, other journal modes, lost tails, files
 * removed, made anew and put back. Whatever a generation's windows offer must be exact, and what was promised must keep.
 */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { instant } from '../../../src/instant.js';
import { windowHolding } from '../../../src/recovery/windows.js';
import { scratchDir } from '../../support/scratch.js';
import { seeded, seeds } from '../../support/seed.js';
import { skewedEngine } from '../../support/skewedEngine.js';
import { sqliteBench } from '../../support/sqliteBench.js';
import { randomShape } from '../../support/sqliteFileLife.js';
import { busyEvents, HistoryTeller, quietEvents } from '../../support/sqliteHistoryTeller.js';
import { type Asked, assertRecoveriesExact, assertTimesRise } from '../../support/sqliteOracle.js';
import { readLog } from '../../support/sqliteWriters.js';

const long = process.env.PITR_TEST_LONG === '1';
const [acts, transactions, recoveries] = long ? [12, 150, 60] : [3, 30, 14];

test('a random life: every recovery is exact, and every promise is kept', { timeout: 1_800_000 }, async (t) => {
  for (const seed of seeds(t)) {
    await t.test(`seed ${seed}`, async (t) => {
      const random = seeded(seed);
      const pick = <T>(from: readonly T[]): T => from[Math.floor(random() * from.length)] as T;
      const dir = await scratchDir(t);
      const clockFile = path.join(dir, 'clock');
      await writeFile(clockFile, '0');
      const bench = await sqliteBench(t, dir, {
        pragmas: randomShape(random),
        capture: {
          restartBytes: 128 << 10,
          idleRestartBytes: 16 << 10,
          sealBytes: 256 << 10,
          sealAgeMs: 200,
          retainBytes: 1 << 20,
        },
        engineProgram: await skewedEngine(dir, clockFile),
      });
      const { archive, datastore } = bench;
      // What is committed while the clock is set back is given earlier times than the writers'.
      const clockIsSet = random() < 0.5;
      const happenings = clockIsSet ? busyEvents : busyEvents.filter((event) => event !== 'clock');
      const teller = new HistoryTeller(t, bench, dir, random, clockFile);
      try {
        await teller.begin();
        for (let act = 0; act < acts; act++) {
          await teller.act(transactions, [pick(happenings), pick(happenings), pick(happenings)]);
          await teller.between(pick(quietEvents));
        }
        await teller.end();

        const asked: Asked[] = [];
        /** Recovered to in any case: what is lost right after the end of a generation must not have been promised. */
        const ends: Asked[] = [];
        const windows = archive.windows();
        /** Instants that are not of the generation in which they were asked for. */
        let elsewhere = 0;
        for (const { stretch, coveredTo, position, history, acknowledged } of teller.promised) {
          const { position: now } = await archive.locate(datastore, { at: coveredTo }, stretch);
          assert.equal(now.text, position, `what ${coveredTo} in stretch ${stretch} means has changed`);
          const cut = await archive.locate(datastore, { position: now }, stretch);
          if (archive.baseFor(cut)) asked.push({ cut, at: null, history, atLeast: acknowledged });
        }
        for (const { stretch } of archive.stretches) {
          const facts = archive.backups.find(({ facts }) => facts.consistent.stretch === stretch)?.facts;
          const end = archive.coverage.get(stretch);
          if (!facts || !end || end < facts.consistentAt) continue;
          const history = teller.historyOf(stretch);
          const holes = archive.holes.filter((hole) => hole.stretch === stretch);
          const ask = async (micros: number, among = asked) => {
            const known = facts.consistentAt <= micros && micros <= end;
            const inside = known && !holes.some(({ from, to }) => from < micros && micros < to);
            const window = windowHolding(windows, instant(micros));
            assert.equal(window?.stretchId === stretch, inside, `${micros} in stretch ${stretch}`);
            if (!inside) elsewhere++;
            else {
              const cut = await archive.locate(datastore, { at: instant(micros) }, stretch);
              among.push({ cut, at: micros, history });
            }
          };
          await ask(facts.consistentAt);
          await ask(end, ends);
          for (const micros of [facts.consistentAt - 1, end + 1]) await ask(micros);
          for (const { from, to } of holes) for (const micros of [from + 1, to - 1]) await ask(micros);
          const times = history.logs
            .flatMap(readLog)
            .flatMap((line) => ('acknowledged' in line ? [line.acknowledged] : []));
          for (let i = 0; i < recoveries / 4 && times.length > 0; i++)
            await ask(pick(times) + Math.floor(random() * 3) - 1);
          const last = archive.ofStretch(stretch).at(-1)?.last ?? 0;
          for (let i = 0; i < recoveries / 4; i++) {
            const ordinal = facts.consistent.ordinal + Math.floor(random() * (last - facts.consistent.ordinal + 1));
            const position = datastore.parsePosition(`${stretch}/${ordinal}`);
            assert.ok(position);
            const cut = await archive.locate(datastore, { position }, stretch);
            asked.push({ cut, at: null, history });
          }
        }
        asked.sort(() => random() - 0.5);
        const chosen = [...ends, ...asked.slice(0, Math.max(0, recoveries - ends.length))];
        await assertRecoveriesExact(t, bench, chosen, { random, compareTimes: !clockIsSet });
        for (const { stretch } of archive.stretches) await assertTimesRise(archive, stretch);
        t.diagnostic(
          `${archive.stretches.length} generations, ${chosen.length} of ${ends.length + asked.length} recoveries, ${elsewhere} instants elsewhere: ${teller.events.join(', ')}`,
        );
      } catch (error) {
        t.diagnostic(`it happened: ${teller.events.join(', ')}; ${JSON.stringify(archive.stretches)}`);
        throw error;
      }
    });
  }
});
