/** Progress over restarts, changes of state and slow readers. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ProgressRecord } from '../../src/catalog/records.js';
import { instant } from '../../src/instant.js';
import type { RecoveryState } from '../../src/model.js';
import { ProgressHub, ProgressMeter } from '../../src/recovery/progress.js';
import type { ProgressEvent } from '../../src/services.js';

const BEGIN: ProgressRecord = {
  sequence: 1,
  step: null,
  percent: 0,
  bytesDone: 0,
  bytesTotal: 100,
  replayedTo: null,
  etaSeconds: null,
  message: null,
  at: instant(1),
};

function bench(from: ProgressRecord = BEGIN) {
  const hub = new ProgressHub();
  const published: ProgressEvent[] = [];
  const stored: ProgressRecord[] = [];
  const publish = hub.publish.bind(hub);
  hub.publish = (event) => {
    published.push(event);
    publish(event);
  };
  const meter = new ProgressMeter({
    recoveryId: 'r',
    from,
    bytesTotal: 100,
    clock: () => instant(1),
    hub,
    store: async (progress) => {
      stored.push(progress);
    },
  });
  return { hub, meter, published, stored };
}

test('what was published was stored before, so a resumed run neither falls nor repeats', async () => {
  const first = bench();
  first.meter.committed('RUNNING', first.meter.next({ step: 'RESTORE_BASE' }));
  first.meter.addBytes(60);
  await first.meter.settle();
  const last = first.published.at(-1)?.progress;
  assert.ok(last && last.percent > 50);
  assert.deepEqual(first.stored.at(-1), last);

  const resumed = bench(last);
  resumed.meter.rewindBytes(0);
  const again = resumed.meter.next({ step: 'RESTORE_BASE' });
  assert.ok(again.sequence > last.sequence);
  assert.ok(again.percent >= last.percent);
  assert.equal(again.bytesDone, 0);
});

test('bytes that are still read after a change of state are not told', async () => {
  const { meter, published } = bench();
  meter.addBytes(10);
  assert.deepEqual(published, [], 'no step has begun');
  meter.committed('RUNNING', meter.next({ step: 'RESTORE_BASE' }));
  await meter.settle();
  meter.addBytes(10);
  meter.committed('UNWINDING', meter.next({ message: 'failed' }));
  meter.addBytes(10);
  await meter.settle();
  assert.deepEqual(
    published.map(({ state }) => state),
    ['RUNNING', 'UNWINDING'],
  );
});

test('a slow reader gets every change of state and step, the newest of the rest, and the end', async () => {
  const { hub } = bench();
  const event = (sequence: number, state: RecoveryState, step: ProgressRecord['step']): ProgressEvent => ({
    recoveryId: 'r',
    state,
    progress: { ...BEGIN, sequence, step },
  });
  const reader = hub.watch('r', async () => event(1, 'QUEUED', null), new AbortController().signal);
  const seen = [await reader.next()];
  for (let sequence = 2; sequence < 50; sequence += 1) hub.publish(event(sequence, 'RUNNING', 'RESTORE_BASE'));
  for (let sequence = 50; sequence < 99; sequence += 1) hub.publish(event(sequence, 'RUNNING', 'REPLAY_LOG'));
  hub.publish(event(99, 'SUCCEEDED', 'ACTIVATE'));
  for (let next = await reader.next(); !next.done; next = await reader.next()) seen.push(next);
  assert.deepEqual(
    seen.map(({ value }) => value?.progress.sequence),
    [1, 49, 98, 99],
  );
});
