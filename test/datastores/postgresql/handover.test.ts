/** When received log is offered to an archive that refuses it, and when it is offered no more. */
import assert from 'node:assert/strict';
import { beforeEach, describe, mock, test } from 'node:test';
import { Handover } from '../../../src/datastores/postgresql/capture/handover.js';
import { WalBuffer } from '../../../src/datastores/postgresql/capture/walBuffer.js';
import { EPOCH, FILE, WalWriter } from '../../support/postgresql/walWriter.js';

const HOUR = 3_600_000;

describe('Handover', () => {
  let refuse: Error | null;
  let offered: number;
  const failures: unknown[] = [];
  let taken: number[];
  let handover: Handover;
  let abandoned: AbortController;

  beforeEach(() => {
    refuse = null;
    offered = 0;
    failures.length = 0;
    taken = [];
    abandoned = new AbortController();
    const sink = {
      async segment() {
        offered++;
        if (refuse) throw refuse;
      },
      async stretchStarted() {},
      async unobserved() {},
      covered() {},
      health() {},
      identified() {},
    };
    const events = {
      taken: ({ end }: { end: number }) => taken.push(end),
      failed: (error: unknown) => failures.push(error),
    };
    handover = new Handover(sink, events, abandoned.signal);
  });

  /** One commit has arrived. @returns where it ends */
  function arrive(): number {
    const stretch = { stretch: 'tl1-x', timeline: 1, systemId: '1', segmentSize: FILE };
    handover.buffer = new WalBuffer({ ...stretch, end: FILE, mark: null, latestCommitAt: null });
    const writer = new WalWriter(FILE);
    const { end } = writer.commit(EPOCH + 1);
    handover.buffer.push(FILE, writer.all());
    handover.arrived();
    return end;
  }

  async function pass(milliseconds: number): Promise<void> {
    mock.timers.tick(milliseconds);
    await handover.settled();
  }

  test('what is refused to anybody is told and offered again until it is taken', async (t) => {
    mock.timers.enable({ apis: ['setTimeout'] });
    t.after(() => mock.timers.reset());
    const end = arrive();
    refuse = new Error('full');
    await assert.rejects(handover.now(), refuse);
    assert.deepEqual([offered, failures, handover.stuck], [1, [refuse], true]);
    await pass(1_000);
    assert.deepEqual([offered, failures.length], [2, 2]);
    refuse = null;
    await pass(1_000);
    assert.deepEqual([offered, taken, handover.stuck], [3, [end], false]);
    await pass(HOUR);
    assert.equal(offered, 3);
  });

  test('once it is closed nothing is offered by itself, what waits and what is refused meanwhile', async (t) => {
    mock.timers.enable({ apis: ['setTimeout'] });
    t.after(() => mock.timers.reset());
    arrive();
    handover.close();
    handover.arrived();
    await pass(HOUR);
    assert.equal(offered, 0);
    refuse = new Error('full');
    await assert.rejects(handover.now(), refuse);
    await pass(HOUR);
    assert.deepEqual([offered, failures], [1, [refuse]]);
    abandoned.abort();
    await assert.rejects(handover.now(), { name: 'AbortError' });
    assert.equal(offered, 1);
  });
});
