/** A service that is killed keeps every write it had acknowledged, and every stretch whole. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { anInstance, aStretch, scratchCatalog } from './examples.js';

const WRITER = fileURLToPath(new URL('./crashingWriter.js', import.meta.url));

test('after kill -9 every acknowledged write is there', async (t) => {
  const { catalog, file, secretKey, reopen } = await scratchCatalog(t);
  await catalog.write(async (writer) => {
    await writer.insertInstance(anInstance({ id: 'i' }));
    await writer.insertStretch(aStretch({ id: 's', instanceId: 'i' }));
  });
  await catalog.close();

  let acknowledged = 0;
  for (const target of [30, 60, 90]) {
    const child = spawn(process.execPath, [WRITER, file], {
      stdio: ['pipe', 'pipe', 'inherit'],
      timeout: 30_000,
      killSignal: 'SIGKILL',
    });
    const exited = once(child, 'exit');
    child.stdin.write(secretKey.toString('hex'));
    child.stdin.end();
    // Lines that were printed before the kill still arrive after it.
    for await (const line of createInterface({ input: child.stdout })) {
      acknowledged = Number(line);
      if (acknowledged >= target) child.kill('SIGKILL');
    }
    const [, signal] = await exited;
    assert.equal(signal, 'SIGKILL');
    assert.ok(acknowledged >= target, `the writer ended after ${acknowledged} acknowledged writes`);

    const again = await reopen();
    const stretch = await again.read.newestStretch('i');
    const totals = await again.read.segmentTotals('s', { after: 0, last: Number.MAX_SAFE_INTEGER });
    // At most the one write whose acknowledgement was under way may be there in addition.
    assert.ok(totals.segments === acknowledged || totals.segments === acknowledged + 1);
    assert.deepEqual(
      [stretch?.segments, stretch?.lastOrdinal, stretch?.bytes, totals.last, totals.storedBytes],
      [totals.segments, totals.segments, totals.segments * 10, totals.segments, totals.segments * 10],
    );
    await again.close();
  }
});
