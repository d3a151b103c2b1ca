/** A gap in the log as clients of the API see it. */
import assert from 'node:assert/strict';
import { instance, plan, recover, type Window } from './apiCalls.js';
import type { Service } from './service.js';

/**
 * Asserts that there is one gap, that it holds all that is between two instants, and that both of them are refused with the
 * nearest points of the windows; answers with these.
 */
export async function assertToldGap(
  service: Service,
  id: string,
  inside: readonly [string, string],
): Promise<{ before: Window; after: Window }> {
  const [from, to] = inside;
  const { recoveryWindows } = await instance(service, id);
  assert.equal(recoveryWindows.length, 2, JSON.stringify(recoveryWindows));
  const [before, after] = recoveryWindows as [Window, Window];
  assert.equal(before.endsBecause, 'LOG_GAP');
  assert.equal(after.startsBecause, 'LOG_GAP');
  assert.ok(Date.parse(before.to) <= Date.parse(from), `the window ends at ${before.to}, in the gap`);
  assert.ok(Date.parse(after.from) >= Date.parse(to), `the window begins at ${after.from}, in the gap`);
  for (const pointInTime of inside) {
    const { code, details } = await plan(service, id, { pointInTime });
    assert.equal(code, 'TARGET_IN_LOG_GAP');
    assert.equal(Date.parse(String(details?.nearestBefore)), Date.parse(before.to));
    assert.equal(Date.parse(String(details?.nearestAfter)), Date.parse(after.from));
    await assert.rejects(recover(service, id, { pointInTime }), { code: 'TARGET_IN_LOG_GAP' });
  }
  return { before, after };
}
