/**
 * Every step of a recovery is made to fail, to run twice, to be undone twice, to be cancelled, and to die: the end is
 * always either exactly the requested data or nothing at all, and the source never notices.
 */
import assert from 'node:assert/strict';
import { renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { recoverySteps } from '../../src/model.js';
import {
  cancel,
  deleteInstance,
  type RecoveryAnswer,
  recover,
  recoveryEnded,
  recoveryIs,
} from '../support/apiCalls.js';
import { type GraphqlError, haveEnded, type Service, startService } from '../support/service.js';
import type { Disturbance } from '../support/sweptService.js';
import { WatchedProgress } from '../support/watchedProgress.js';
import { assertExact, type Story, stateOfSource, tellStory, traces } from '../support/writtenStory.js';

const entry = fileURLToPath(new URL('../support/sweptService.js', import.meta.url));
const steps = recoverySteps;
const long = process.env.PITR_TEST_LONG === '1';

interface Bench {
  service: Service;
  story: Story;
  disturb(...list: Disturbance[]): void;
  calm(): void;
  /** Asks for the quiet instant. */
  ask(): Promise<RecoveryAnswer>;
}

async function sweptBench(t: TestContext, env: Record<string, string> = {}): Promise<Bench> {
  const service = await startService(t, { entry, env });
  const file = path.join(service.dir, 'disturb.json');
  const story = await tellStory(t, service, 30, true);
  return {
    service,
    story,
    disturb: (...list) => {
      // Renamed into place: a service that is held reads it every few milliseconds.
      writeFileSync(`${file}.part`, JSON.stringify(list));
      renameSync(`${file}.part`, file);
    },
    calm: () => rmSync(file, { force: true }),
    ask: () => recover(service, story.instanceId, { pointInTime: story.quiet }),
  };
}

/** A success is exact; the new instance goes again, so that it leaves no traces for what comes next. */
async function exactAndGone(t: TestContext, { service, story }: Bench, recovery: RecoveryAnswer): Promise<void> {
  await assertExact(t, story, recovery);
  assert.equal(recovery.plan.incrementals.length, 1, 'no step is skipped');
  assert.ok(recovery.instance);
  await deleteInstance(service, recovery.instance.id);
}

test('a fault, a second run, a second undo, a failing undo in every step', { timeout: 180_000 }, async (t) => {
  const bench = await sweptBench(t);
  const { service, story, disturb, calm, ask } = bench;
  const before = traces(service);
  const source = await stateOfSource(t, service, story);

  const fails = async (step: string, code: string, ...list: Disturbance[]): Promise<void> => {
    disturb(...list);
    const ended = await recoveryEnded(service, (await ask()).id);
    calm();
    assert.equal(ended.state, 'FAILED');
    assert.equal(ended.error?.code, code);
    assert.ok(ended.error.hint, 'a fault without a hint');
    assert.equal(ended.instance, null);
    const failed = ended.steps.find(({ name }) => name === step);
    assert.equal(failed?.state, 'UNDONE');
    assert.equal(failed.error?.code, code, 'the fault stands on the step');
    assert.deepEqual(traces(service), before);
  };

  for (const step of steps) {
    await t.test(step, async () => {
      await fails(step, 'VERSION_MISMATCH', { step, act: 'throw before', code: 'VERSION_MISMATCH' });
      await fails(step, 'INTERNAL', { step, act: 'throw after' }, { step, act: 'undo twice' });
      assert.ok(
        service.log.some((line) => JSON.stringify(line).includes('injected cause: throw after')),
        'the cause of an unforeseen fault is not in the log',
      );

      disturb({ step, act: 'run twice' });
      await exactAndGone(t, bench, await recoveryEnded(service, (await ask()).id));
      calm();
      assert.deepEqual(traces(service), before);

      disturb({ step, act: 'throw after', code: 'VERSION_MISMATCH' }, { step, act: 'throw in undo' });
      const stuck = await recoveryEnded(service, (await ask()).id);
      assert.equal(stuck.state, 'STUCK');
      assert.equal(stuck.steps.find(({ name }) => name === step)?.state, 'UNDO_FAILED');
      calm();
      assert.equal(await cancel(service, stuck.id), 'UNWINDING');
      const ended = await recoveryEnded(service, stuck.id);
      assert.equal(ended.state, 'CANCELLED');
      assert.equal(ended.instance, null);
      assert.deepEqual(traces(service), before);
    });
  }
  assert.deepEqual(await stateOfSource(t, service, story), source);
});

test('a fault that passes is tried again', { timeout: 60_000 }, async (t) => {
  const bench = await sweptBench(t);
  bench.disturb({ step: 'RESTORE_BASE', act: 'throw after', code: 'STORAGE_UNAVAILABLE' });
  const { id } = await bench.ask();
  await recoveryIs(bench.service, id, ({ steps }) =>
    steps.some(({ name, attempts }) => name === 'RESTORE_BASE' && attempts > 1),
  );
  bench.calm();
  await exactAndGone(t, bench, await recoveryEnded(bench.service, id));
});

test('kill -9 in every step and every undo', { timeout: 240_000 }, async (t) => {
  const bench = await sweptBench(t);
  const { service, story, disturb, calm, ask } = bench;
  const source = await stateOfSource(t, service, story);
  const { processes: _before, ...before } = traces(service);
  const clean = () => {
    const { processes: _now, ...now } = traces(service);
    assert.deepEqual(now, before);
  };

  const dies = async (...list: Disturbance[]): Promise<{ ended: RecoveryAnswer; seen: WatchedProgress }> => {
    disturb(...list, { step: 'RESERVE', act: 'hold' });
    const asked = await ask();
    const seen = new WatchedProgress();
    const first = seen.watch(service, asked.id);
    const started = service.children();
    disturb(...list);
    await service.gone();
    await haveEnded(started);
    calm();
    await service.restart();
    assert.equal(await first, false);
    assert.equal(await seen.watch(service, asked.id), true);
    const ended = await recoveryEnded(service, asked.id);
    assert.deepEqual(ended.plan, asked.plan, 'the stored plan goes on');
    seen.assertRising();
    return { ended, seen };
  };

  // Every kill costs two starts of the service: all of them only in the long run.
  for (const step of steps) {
    await t.test(step, async () => {
      for (const act of long ? (['kill before', 'kill after'] as const) : (['kill after'] as const)) {
        const { ended } = await dies({ step, act });
        await exactAndGone(t, bench, ended);
        clean();
      }
      if (!long && step !== 'RESERVE' && step !== 'ACTIVATE') return;
      for (const act of long ? (['kill before undo', 'kill after undo'] as const) : (['kill after undo'] as const)) {
        const { ended } = await dies({ step, act: 'throw after', code: 'VERSION_MISMATCH' }, { step, act });
        assert.equal(ended.state, 'FAILED');
        assert.equal(ended.error?.code, 'VERSION_MISMATCH');
        clean();
      }
    });
  }
  assert.deepEqual(await stateOfSource(t, service, story), source);
});

test('a cancel in every step, in the queue, and twice', { timeout: 180_000 }, async (t) => {
  const bench = await sweptBench(t, { PITR_CONCURRENT_RECOVERIES: '1' });
  const { service, story, disturb, calm, ask } = bench;
  const before = traces(service);
  const source = await stateOfSource(t, service, story);
  const heldIn = (id: string, step: string) =>
    recoveryIs(service, id, ({ steps: all }) => all.some(({ name, state }) => name === step && state === 'RUNNING'));

  for (const step of steps) {
    await t.test(step, async () => {
      disturb({ step, act: 'hold' });
      const { id } = await ask();
      await heldIn(id, step);
      if (step === 'ACTIVATE') {
        await assert.rejects(cancel(service, id), ({ code }: GraphqlError) => code === 'NOT_CANCELLABLE');
        calm();
        await exactAndGone(t, bench, await recoveryEnded(service, id));
        return;
      }
      await Promise.all([cancel(service, id), cancel(service, id)]);
      const ended = await recoveryEnded(service, id);
      assert.equal(ended.state, 'CANCELLED');
      assert.equal(ended.instance, null);
      assert.equal(await cancel(service, id), 'CANCELLED', 'cancelling again changes nothing');
      calm();
      assert.deepEqual(traces(service), before);
    });
  }

  await t.test('in the queue', async () => {
    disturb({ step: 'RESTORE_BASE', act: 'hold' });
    const first = await ask();
    await heldIn(first.id, 'RESTORE_BASE');
    const waiting = [await ask(), await ask(), await ask()];
    const [cancelled, ...others] = waiting.map(({ id }) => id);
    assert.ok(cancelled);
    assert.equal(await cancel(service, cancelled), 'CANCELLED');
    assert.equal(await cancel(service, cancelled), 'CANCELLED');
    assert.equal((await recoveryIs(service, first.id, () => true)).state, 'RUNNING');
    calm();
    for (const id of [first.id, ...others]) await exactAndGone(t, bench, await recoveryEnded(service, id));
    const ended = await recoveryEnded(service, cancelled);
    assert.equal(ended.state, 'CANCELLED');
    assert.ok(ended.steps.every(({ state }) => state === 'PENDING'));
    await assert.rejects(cancel(service, first.id), ({ code }: GraphqlError) => code === 'NOT_CANCELLABLE');
  });
  assert.deepEqual(traces(service), before);
  assert.deepEqual(await stateOfSource(t, service, story), source);
});
