/** What a sudden end leaves in scratch: gone at the next start, unless work that is not finished needs it. */
import assert from 'node:assert/strict';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { pino } from 'pino';
import { Fault } from '../../src/errors.js';
import { Places } from '../../src/instances/places.js';
import { sweepScratch } from '../../src/instances/scratchSweep.js';
import type { RecoveryState } from '../../src/model.js';
import { aBackup, anInstance, aRecovery, aStretch, at, completion, scratchCatalog } from '../catalog/examples.js';
import { scratchDir } from '../support/scratch.js';
import { startService } from '../support/service.js';

async function leave(directory: string): Promise<void> {
  await mkdir(path.join(directory, 'data'), { recursive: true });
  await writeFile(path.join(directory, 'data', 'pages'), 'a copy of a database');
}

test('only the scratch of unfinished work stays', async (t) => {
  const { catalog } = await scratchCatalog(t);
  const places = new Places(path.join(await scratchDir(t), 'home'));
  await places.prepare();
  const error = new Fault('STORAGE_FULL', 'The disk is full').toData();
  const recoveries: Record<string, RecoveryState> = {
    waiting: 'QUEUED',
    running: 'RUNNING',
    unwinding: 'UNWINDING',
    stuck: 'STUCK',
    failed: 'FAILED',
    done: 'SUCCEEDED',
    cancelled: 'CANCELLED',
  };
  await catalog.write(async (writer) => {
    await writer.insertInstance(anInstance({ id: 'i' }));
    await writer.insertStretch(aStretch({ id: 's', instanceId: 'i' }));
    for (const id of ['running', 'complete', 'failed', 'deleted']) {
      await writer.insertBackup(aBackup({ id, instanceId: 'i' }));
    }
    await writer.updateBackup('complete', completion('s'));
    await writer.updateBackup('failed', { state: 'FAILED', error });
    await writer.updateBackup('deleted', { ...completion('s'), state: 'DELETED' });
    for (const [id, state] of Object.entries(recoveries)) {
      const recovery = aRecovery({ id, sourceId: 'i', state, error, finishedAt: at(1) });
      const done = { targetId: 'i', recoveredTo: recovery.plan.cut, error: null };
      await writer.insertRecovery(state === 'SUCCEEDED' ? { ...recovery, ...done } : recovery, []);
    }
  });
  for (const id of ['running', 'complete', 'failed', 'deleted', 'unknown']) await leave(places.backupScratch(id));
  for (const id of [...Object.keys(recoveries), 'unknown']) await leave(places.recoveryScratch(id));
  // Nothing that the service makes.
  await leave(path.join(places.scratch, 'notes'));
  await sweepScratch({ catalog, places, logger: pino({ level: 'silent' }) });
  assert.deepEqual((await readdir(places.scratch)).sort(), [
    'backup-running',
    'notes',
    'recovery-running',
    'recovery-stuck',
    'recovery-unwinding',
    'recovery-waiting',
  ]);
});

test('a service that starts clears it away', async (t) => {
  const service = await startService(t);
  await service.stop();
  const { scratch } = new Places(service.home);
  await leave(path.join(scratch, 'backup-left'));
  await service.start();
  assert.deepEqual(await readdir(scratch), []);
});
