/** Events are CloudEvents 1.0, and say ids and codes and nothing else. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { archiveHealth, recoveryEnded } from '../../src/events/happenings.js';
import { cloudEvent } from '../../src/events/outbox.js';
import { instant } from '../../src/instant.js';

const at = instant(1_795_367_101_123_456);
const recovery = { id: 'r', tenantId: 'shop', sourceId: 'orders', targetId: 'orders-2', targetName: 'Orders' };
const error = { code: 'LOG_CORRUPT', message: '/srv/secret', hint: 'h', retryable: false, details: { a: 1 } } as const;

test('how a recovery ended', () => {
  const ended = recoveryEnded(recovery, 'SUCCEEDED', null, at);
  assert.deepEqual(JSON.parse(cloudEvent('e', 'urn:pitr:1', ended)), {
    specversion: '1.0',
    id: 'e',
    source: 'urn:pitr:1',
    type: 'pitr.recovery.succeeded',
    subject: 'r',
    time: '2026-11-22T17:05:01.123456Z',
    datacontenttype: 'application/json',
    data: {
      tenantId: 'shop',
      recoveryId: 'r',
      sourceInstanceId: 'orders',
      newInstanceId: 'orders-2',
      errorCode: null,
    },
  });
  for (const state of ['FAILED', 'STUCK', 'CANCELLED'] as const) {
    const { type, data } = recoveryEnded(recovery, state, error, at);
    assert.equal(type, `pitr.recovery.${state.toLowerCase()}`);
    const errorCode = state === 'CANCELLED' ? null : 'LOG_CORRUPT';
    const { tenantId, sourceId: sourceInstanceId } = recovery;
    assert.deepEqual(data, { tenantId, recoveryId: 'r', sourceInstanceId, newInstanceId: null, errorCode });
  }
});

test('an archive that is not well, and well again', () => {
  const instance = { id: 'orders', tenantId: 'shop', connectionUri: 'postgresql://u:p@h' };
  const data = { tenantId: 'shop', instanceId: 'orders' };
  const unwell = archiveHealth(instance, false, at);
  assert.deepEqual(unwell, { type: 'pitr.archive.unhealthy', tenantId: 'shop', subject: 'orders', at, data });
  assert.equal(archiveHealth(instance, true, at).type, 'pitr.archive.healthy');
});
