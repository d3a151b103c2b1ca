/**
 * The service is down for a while and the application is not: what was written meanwhile is archived where its log is
 * still there; where it is not, the windows say so, instants in between are refused with the nearest ones, and a full
 * backup is taken by itself.
 */
import assert from 'node:assert/strict';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { widestBracket } from '../../src/datastores/sqlite/capture/segmentShipper.js';
import { createInstance, instance, plan, recover, recoveryEnded, takeBackup } from '../support/apiCalls.js';
import { type Service, startService } from '../support/service.js';
import { holding } from '../support/sqliteHistory.js';
import { ask, start, until } from '../support/sqlitePrograms.js';
import { readLog } from '../support/sqliteWriters.js';
import { assertToldGap } from '../support/toldGap.js';
import { assertPrefix, contentOf, type Story } from '../support/writtenStory.js';

interface World {
  t: TestContext;
  service: Service;
  id: string;
  story: Story;
  /** Another program that writes some transactions. */
  write(count: number): Promise<void>;
}

async function world(t: TestContext): Promise<World> {
  const service = await startService(t);
  const { id, file } = await createInstance(service, 'source');
  await ask(t, 'setup', file);
  await takeBackup(service, id);
  const logs: string[] = [];
  const write = async (count: number) => {
    const log = path.join(service.dir, `${logs.length + 1}.log`);
    logs.push(log);
    await start(t, 'write', file, log, String(logs.length), String(count), '7').done;
  };
  await write(15);
  await plan(service, id);
  return { t, service, id, story: { file, logs } as Story, write };
}

/** Takes the service down, lets `meanwhile` happen, and answers with an instant before and one after that, both inside. */
async function outage(
  service: Service,
  down: () => Promise<unknown>,
  meanwhile: () => Promise<unknown>,
): Promise<[string, string]> {
  await down();
  await delay(20);
  const from = new Date().toISOString();
  await delay(20);
  await meanwhile();
  await delay(20);
  const to = new Date().toISOString();
  await delay(20);
  await service.start();
  return [from, to];
}

async function recovered({ t, service, id, story }: World, pointInTime: string): Promise<number> {
  return assertPrefix(t, story, await recoveryEnded(service, (await recover(service, id, { pointInTime })).id));
}

async function assertLatestIsWhole({ t, service, id, story }: World): Promise<void> {
  const ended = await recoveryEnded(service, (await recover(service, id)).id);
  assert.equal(await assertPrefix(t, story, ended), (await contentOf(t, story.file)).n);
}

/** What was seen last before it may be a while older; the rest of the bracket's width is for that. */
const shortOutageMs = widestBracket / 1000 - 500;

const ways: [string, (service: Service) => Promise<unknown>][] = [
  ['stopped', (service) => service.stop()],
  ['killed', (service) => service.kill()],
];

for (const [how, take] of ways) {
  test(`${how}, and the log was restarted meanwhile: an honest gap`, { timeout: 120_000 }, async (t) => {
    const here = await world(t);
    const { service, id, story, write } = here;
    const [from, to] = await outage(
      service,
      () => take(service),
      async () => {
        await write(10);
        await ask(t, 'run', story.file, 'PRAGMA wal_checkpoint(TRUNCATE)');
        await write(10);
        await ask(t, 'run', story.file, 'PRAGMA wal_checkpoint(RESTART)');
        await write(5);
      },
    );
    await until('a full backup was taken by itself', async () => {
      const { backups } = await instance(service, id);
      return backups.filter(({ state }) => state === 'COMPLETED').length === 2;
    });
    const { before, after } = await assertToldGap(service, id, [from, to]);
    assert.equal(await recovered(here, before.to), newestBefore(here, from));
    assert.equal(await recovered(here, after.from), (await contentOf(t, story.file)).n);
    await write(5);
    await assertLatestIsWhole(here);
  });

  test(`${how}, and the log went on: nothing is lost and nothing is refused`, { timeout: 300_000 }, async (t) => {
    let here: World;
    let inside: [string, string];
    let lastedMs: number;
    // Of an outage that is longer than a bracket may be wide no instant can be chosen (below), and a busy machine makes one.
    let attempts = 0;
    do {
      assert.ok(attempts++ < 5, 'the machine is too busy for a short outage');
      here = await world(t);
      const { service, id, story, write } = here;
      const began = performance.now();
      inside = await outage(
        service,
        () => take(service),
        async () => {
          // The last program to close a database copies its log and deletes it; this one reads on.
          const reader = await holding(t, { file: story.file });
          await write(10);
          await reader.kill();
        },
      );
      await plan(service, id);
      lastedMs = performance.now() - began;
    } while (lastedMs > shortOutageMs);
    await assertLatestIsWhole(here);
    const { recoveryWindows, backups } = await instance(here.service, here.id);
    assert.equal(recoveryWindows.length, 1, JSON.stringify(recoveryWindows));
    assert.equal(backups.length, 1);
    for (const pointInTime of inside) await recovered(here, pointInTime);
  });
}

test('stopped while the application rests: the window goes on', { timeout: 120_000 }, async (t) => {
  const here = await world(t);
  const { service, id } = here;
  const n = (await contentOf(t, here.story.file)).n;
  const inside = await outage(
    service,
    () => service.stop(),
    async () => {},
  );
  await plan(service, id);
  for (const pointInTime of inside) assert.equal(await recovered(here, pointInTime), n);
  const { recoveryWindows, backups } = await instance(service, id);
  assert.equal(recoveryWindows.length, 1, JSON.stringify(recoveryWindows));
  assert.equal(backups.length, 1);
});

test('down for long while the log went on: no instant of it can be chosen, every position can', {
  timeout: 120_000,
}, async (t) => {
  const here = await world(t);
  const { service, id, story, write } = here;
  const kept = (await plan(service, id)).cut ?? '';
  const [from, to] = await outage(
    service,
    () => service.stop(),
    async () => {
      const reader = await holding(t, { file: story.file });
      await write(10);
      await reader.kill();
      // Longer than a bracket may be wide.
      await delay(5500);
    },
  );
  await assertLatestIsWhole(here);
  for (const pointInTime of [from, to]) {
    const { code, details } = await plan(service, id, { pointInTime });
    assert.equal(code, 'TARGET_IN_LOG_GAP');
    assert.ok(Date.parse(String(details?.nearestBefore)) <= Date.parse(from));
    assert.ok(Date.parse(String(details?.nearestAfter)) >= Date.parse(to));
  }
  const [generation, ordinal] = kept.split('/').map(Number) as [number, number];
  const position = `${generation}/${ordinal + 5}`;
  const ended = await recoveryEnded(service, (await recover(service, id, { position })).id);
  const n = await assertPrefix(t, story, ended);
  assert.ok(n > 0 && n < (await contentOf(t, story.file)).n);
  assert.equal((await instance(service, id)).backups.length, 1, 'the log is complete: no new base is needed');
});

/** The last transaction that was acknowledged before an instant, by the programs' own logs. */
function newestBefore({ story }: World, at: string): number {
  const numbers = story.logs
    .flatMap(readLog)
    .flatMap((line) => ('acknowledged' in line && line.acknowledged / 1000 < Date.parse(at) ? [line.n] : []));
  return Math.max(0, ...numbers);
}
