/** The service as a process: it starts on an empty home, keeps what it was told over any end, and leaves nothing behind. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { processesOf, startService } from '../support/service.js';

test('an instance outlives kill -9 and a clean stop, and no process outlives the service', async (t) => {
  const service = await startService(t);
  const made = await service.graphql<{ createInstance: { id: string; state: string } }>(
    'mutation { createInstance(input: { name: "kept", datastore: "sqlite" }) { id state } }',
  );
  assert.equal(made.createInstance.state, 'ACTIVE');
  assert.ok(service.children().length > 0, 'its engine process was not seen');
  const again = async () =>
    service.graphql<{ instance: { name: string; state: string } }>(
      'query ($id: ID!) { instance(id: $id) { name state } }',
      { id: made.createInstance.id },
    );

  await service.restart();
  assert.deepEqual((await again()).instance, { name: 'kept', state: 'ACTIVE' });
  assert.equal(await service.stop(), 0);
  assert.deepEqual(processesOf(service.dir), []);
  await service.start();
  assert.deepEqual((await again()).instance, { name: 'kept', state: 'ACTIVE' });
});
