/** The mender with backups that fail as they are told and pauses that only a test can end. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { pino } from 'pino';
import { Mender } from '../../src/backup/mender.js';
import { Fault } from '../../src/errors.js';
import { aBackup, anInstance, aStretch, at, completion, scratchCatalog } from '../catalog/examples.js';

/** An instance whose full backup belongs to a log that was interrupted: the growing one has none. */
async function bench(t: TestContext) {
  const { catalog } = await scratchCatalog(t);
  await catalog.write(async (writer) => {
    await writer.insertInstance(anInstance({ id: 'i' }));
    await writer.insertStretch(aStretch({ id: 's1', instanceId: 'i' }));
    await writer.insertBackup(aBackup({ id: 'b1', instanceId: 'i' }));
    await writer.updateBackup('b1', completion('s1'));
    await writer.updateStretch('s1', { endsBecause: 'LOG_GAP' });
    await writer.insertStretch(aStretch({ id: 's2', instanceId: 'i', number: 2 }));
  });
  const said: { level: number; msg: string }[] = [];
  const stop = new AbortController();
  const pauses: number[] = [];
  let attempts = 0;
  /** What an attempt does: by its number, from 1. */
  let take = async (_attempt: number): Promise<boolean> => false;
  /** What happens in a pause. */
  let during = async (_signal: AbortSignal): Promise<void> => {};
  const mender = new Mender({
    read: catalog.read,
    logger: pino({ level: 'warn' }, { write: (line: string) => void said.push(JSON.parse(line)) }),
    signal: stop.signal,
    queued: async () => {},
    take: () => {
      attempts += 1;
      return take(attempts);
    },
    pause: async (milliseconds, signal) => {
      pauses.push(milliseconds);
      await during(signal);
    },
  });
  const complete = async () => {
    await catalog.write(async (writer) => {
      await writer.insertBackup(aBackup({ id: 'b2', instanceId: 'i' }));
      await writer.updateBackup('b2', completion('s2'));
    });
    return true;
  };
  return {
    catalog,
    mender,
    pauses,
    stop,
    complete,
    errors: () => said.filter(({ level }) => level >= 50),
    attempts: () => attempts,
    onTake: (work: typeof take) => {
      take = work;
    },
    onPause: (work: typeof during) => {
      during = work;
    },
  };
}

test('it goes on for as long as it takes, ever more seldom, and says so once', async (t) => {
  const { mender, pauses, complete, errors, onTake } = await bench(t);
  onTake(async (attempt) => {
    // Also where not even its beginning can be recorded.
    if (attempt === 2) throw new Fault('STORAGE_FULL', 'The disk of the catalog is full');
    assert.equal(errors().length, attempt > 6 ? 1 : 0);
    return attempt > 20 && complete();
  });
  await mender.mend('i');
  const tenMinutes = 600_000;
  assert.deepEqual(pauses.slice(0, 10), [
    ...[2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000, 256_000, 512_000],
    tenMinutes,
  ]);
  assert.equal(pauses.length, 20);
  assert.ok(pauses.slice(9).every((pause) => pause === tenMinutes));
  assert.equal(errors().length, 1);
  assert.match(errors()[0]?.msg ?? '', /no full backup/);
});

test('it ends with the service, with the instance, and where another backup is a base', async (t) => {
  const stopped = await bench(t);
  stopped.onPause(async () => stopped.stop.abort());
  await stopped.mender.mend('i');
  assert.equal(stopped.attempts(), 1);

  const deleted = await bench(t);
  deleted.onPause(() =>
    deleted.catalog.write((writer) =>
      writer.updateInstance('i', { state: 'DELETED', deletedAt: at(9), endpoint: null, identity: null }),
    ),
  );
  await deleted.mender.mend('i');
  assert.equal(deleted.attempts(), 1);

  const helped = await bench(t);
  helped.onPause(async () => void (await helped.complete()));
  await helped.mender.mend('i');
  assert.equal(helped.attempts(), 1);
});

test('a call that comes in a long pause ends it, and the next pauses are short again', async (t) => {
  const { mender, pauses, complete, onTake, onPause } = await bench(t);
  onTake(async (attempt) => attempt === 5 && complete());
  onPause(async (signal) => {
    if (pauses.length === 3) void mender.mend('i');
    assert.equal(signal.aborted, pauses.length === 3);
  });
  await mender.mend('i');
  assert.deepEqual(pauses, [2_000, 4_000, 8_000, 2_000]);
});

test('a backup that was lost long ago still counts, behind any number of attempts that failed since', async (t) => {
  const { catalog, mender, onTake, complete, attempts } = await bench(t);
  const error = new Fault('BACKUP_CORRUPT', 'A part is missing').toData();
  await catalog.write(async (writer) => {
    await writer.updateBackup('b1', { state: 'FAILED', error });
    for (let attempt = 0; attempt < 150; attempt += 1) {
      await writer.insertBackup(
        aBackup({ id: `f${attempt}`, instanceId: 'i', state: 'FAILED', error, startedAt: at(1 + attempt) }),
      );
    }
  });
  onTake(complete);
  await mender.mend('i');
  assert.equal(attempts(), 1);
});
