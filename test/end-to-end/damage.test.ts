/**
 * Stored objects are damaged after a recovery was planned and before it reads them: it ends naming the object, leaves
 * nothing, and what can't be recovered any more is advertised no more, while everything else still can.
 */
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import {
  backupEnded,
  fileOf,
  instance,
  plan,
  recover,
  recoveryEnded,
  recoveryIs,
  type Window,
} from '../support/apiCalls.js';
import { type Damage, damages } from '../support/damages.js';
import { seeded, seeds } from '../support/seed.js';
import { type Service, startService } from '../support/service.js';
import { until } from '../support/sqlitePrograms.js';
import { assertExact, assertPrefix, contentOf, type Story, tellStory, traces } from '../support/writtenStory.js';

const entry = fileURLToPath(new URL('../support/sweptService.js', import.meta.url));
const long = process.env.PITR_TEST_LONG === '1';

type Case = [object: 'manifest' | 'part' | 'first segment' | 'last segment', damage: Damage];

/** Every kind for every object in the long run; a few of each otherwise. */
const cases: Case[] = long
  ? (['manifest', 'part', 'first segment', 'last segment'] as const).flatMap((object) =>
      (Object.keys(damages) as Damage[]).map((damage): Case => [object, damage]),
    )
  : [
      ['manifest', 'deleted'],
      ['part', 'random bytes'],
      ['part', 'cut short'],
      ['first segment', 'last byte'],
      ['first segment', 'deleted'],
      ['last segment', 'extended'],
    ];

interface Segment {
  file: string;
  key: string;
  stretch: string;
  after: number;
  last: number;
}

/** As named in the storage, in log order. */
function segments(service: Service, instanceId: string): Segment[] {
  const storage = path.join(service.home, 'storage');
  const log = `instances/${instanceId}/log`;
  return readdirSync(path.join(storage, log)).flatMap((stretch) =>
    readdirSync(path.join(storage, log, stretch))
      .sort()
      .map((name) => {
        const [after = 0, last = 0] = name.split('-').map(Number);
        const key = `${log}/${stretch}/${name}`;
        return { file: path.join(storage, key), key, stretch, after, last };
      }),
  );
}

function ordinalOf(position: string | null | undefined): number {
  return Number(position?.split('/')[1]);
}

test('every kind of object, damaged in many ways', { timeout: long ? 600_000 : 120_000 }, async (t) => {
  const service = await startService(t, { entry });
  const random = seeded(seeds(t).at(-1) ?? 1);
  for (const [object, damage] of cases) {
    await t.test(`${object}: ${damage}`, () => damaged(t, service, object, damage, random));
  }
});

async function damaged(
  t: TestContext,
  service: Service,
  object: Case[0],
  damage: Damage,
  random: () => number,
): Promise<void> {
  const story = await tellStory(t, service, 12);
  const before = traces(service);
  const hold = path.join(service.dir, 'disturb.json');
  writeFileSync(hold, JSON.stringify([{ step: 'RESERVE', act: 'hold' }]));
  const asked = await recover(service, story.instanceId, { pointInTime: story.quiet });
  assert.equal(asked.plan.base.id, story.bases[1].id);

  const cut = ordinalOf(asked.plan.cut.position);
  const needed = segments(service, story.instanceId).filter(
    ({ after, last }) => after < cut && last > ordinalOf(story.bases[1].position),
  );
  const backup = `instances/${story.instanceId}/backups/${story.bases[1].id}`;
  const segment = object === 'first segment' ? needed[0] : needed.at(-1);
  assert.ok(segment);
  const key =
    object === 'manifest' ? `${backup}/manifest` : object === 'part' ? `${backup}/parts/00000000` : segment.key;
  damages[damage](path.join(service.home, 'storage', key), random);
  rmSync(hold);

  const ended = await recoveryEnded(service, asked.id);
  const ofLog = object.endsWith('segment');
  assert.equal(ended.state, 'FAILED');
  assert.equal(ended.error?.code, ofLog ? 'LOG_CORRUPT' : 'BACKUP_CORRUPT', JSON.stringify(ended.error));
  assert.equal(ended.error.details?.object, key);
  assert.ok(ended.error.hint);
  assert.equal(ended.instance, null);
  assert.deepEqual(traces(service), before);

  if (ofLog) await assertWindowSplit(t, service, story, segment, cut);
  else {
    assert.equal((await backupEnded(service, story.bases[1].id)).state, 'FAILED');
    const again = await recover(service, story.instanceId, { pointInTime: story.quiet });
    assert.equal(again.plan.base.id, story.bases[0].id, 'the older base serves');
    await assertExact(t, story, await recoveryEnded(service, again.id));
  }

  // A new full backup comes by itself where it is needed, and the present can be recovered again.
  await until('the present is covered', async () => {
    await plan(service, story.instanceId);
    const { recoveryWindows } = await instance(service, story.instanceId);
    return recoveryWindows.at(-1)?.endsBecause === 'LATEST_ARCHIVED';
  });
  const latest = await recoveryEnded(service, (await recover(service, story.instanceId)).id);
  assert.equal(latest.state, 'SUCCEEDED', JSON.stringify(latest.error));
  assert.deepEqual(await contentOf(t, fileOf(latest.instance?.endpoint)), await contentOf(t, story.file));
}

async function assertWindowSplit(
  t: TestContext,
  service: Service,
  story: Story,
  lost: Segment,
  cut: number,
): Promise<void> {
  const gone = await plan(service, story.instanceId, { pointInTime: story.quiet });
  assert.ok(
    gone.code === 'TARGET_TOO_LATE' || gone.code === 'TARGET_IN_LOG_GAP',
    `an instant that needs the lost segment: ${JSON.stringify(gone)}`,
  );
  const inside = await plan(service, story.instanceId, { position: `${lost.stretch}/${lost.last - 1}` });
  if (lost.last - 1 > lost.after) assert.equal(inside.code, 'LOG_CORRUPT');
  const { recoveryWindows } = await instance(service, story.instanceId);
  const split = recoveryWindows.find(({ endsBecause }) => endsBecause === 'CORRUPT_LOG');
  assert.ok(split, JSON.stringify(recoveryWindows));
  for (const at of ends(split)) {
    const { id } = await recover(service, story.instanceId, { pointInTime: at });
    await assertPrefix(t, story, await recoveryEnded(service, id));
  }
  // Just before the lost segment: its first transaction is not needed for that.
  const { id } = await recover(service, story.instanceId, { position: `${lost.stretch}/${lost.after}` });
  const n = await assertPrefix(t, story, await recoveryEnded(service, id));
  assert.equal(n, story.expected.n - (cut - lost.after));
}

function ends({ from, to }: Window): string[] {
  return from === to ? [from] : [from, to];
}

test('damage that a dry run meets is remembered too', { timeout: 60_000 }, async (t) => {
  const service = await startService(t, { entry });
  const story = await tellStory(t, service, 12);
  const cut = ordinalOf((await plan(service, story.instanceId, { pointInTime: story.quiet })).cut);
  const lost = segments(service, story.instanceId).find(({ after, last }) => after < cut && cut <= last);
  assert.ok(lost);
  rmSync(lost.file);
  const met = await plan(service, story.instanceId, { pointInTime: story.quiet });
  assert.equal(met.code, 'LOG_CORRUPT');
  assert.equal(met.details?.object, lost.key);
  const after = await plan(service, story.instanceId, { pointInTime: story.quiet });
  assert.notEqual(after.code, 'LOG_CORRUPT', 'the window still advertises it');
  assert.equal(after.cut, null);
});

test('a storage that is not mounted loses nothing', { timeout: 60_000 }, async (t) => {
  const service = await startService(t, { entry });
  const story = await tellStory(t, service, 12);
  const storage = path.join(service.home, 'storage');
  const hold = path.join(service.dir, 'disturb.json');
  writeFileSync(hold, JSON.stringify([{ step: 'RESERVE', act: 'hold' }]));
  const { id } = await recover(service, story.instanceId, { pointInTime: story.quiet });
  await recoveryIs(service, id, ({ steps }) => steps[0]?.state === 'RUNNING');
  renameSync(storage, `${storage}-elsewhere`);
  mkdirSync(storage);
  rmSync(hold);
  assert.equal((await recoveryEnded(service, id)).state, 'FAILED');
  rmSync(storage, { recursive: true });
  renameSync(`${storage}-elsewhere`, storage);
  assert.equal((await backupEnded(service, story.bases[1].id)).state, 'COMPLETED');
  const again = await recover(service, story.instanceId, { pointInTime: story.quiet });
  await assertExact(t, story, await recoveryEnded(service, again.id));
});
