/** Who may do what over REST: tokens, tenants, roles. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import Fastify from 'fastify';
import { pino } from 'pino';
import { readConfig } from '../../../src/config.js';
import { Fault } from '../../../src/errors.js';
import { Gate } from '../../../src/gateway/limits/gate.js';
import { followRequests } from '../../../src/gateway/requestIds.js';
import { createSchema } from '../../../src/gateway/schema.js';
import { serveTrove } from '../../../src/gateway/trove/routes.js';
import { limitsOf } from '../../../src/main.js';
import type { Caller, Role } from '../../../src/services.js';
import { backupRow, instanceRow, recoveryRow } from '../../support/gatewayRows.js';
import { MemoryServices } from '../../support/memoryServices.js';
import { refusal, restAt } from '../../support/rest.js';

/** The routes alone, for a caller of the test's choice. */
async function askedBy(t: TestContext, caller: Caller | Fault, required = true) {
  const services = new MemoryServices();
  services.instanceRows.push(instanceRow({ tenantId: 'acme' }));
  services.backupRows.push(backupRow());
  services.recoveryRows.push(recoveryRow({ id: 'rescue' }));
  const app = Fastify();
  followRequests(app);
  t.after(() => app.close());
  const authenticator = {
    required,
    async identify() {
      if (caller instanceof Fault) throw caller;
      return { caller, expiresAt: null, isCurrent: () => true };
    },
  };
  const gate = new Gate(createSchema(), await limitsOf(readConfig({})));
  await serveTrove(app, services, pino({ level: 'silent' }), authenticator, gate);
  return restAt(`${await app.listen({ host: '127.0.0.1', port: 0 })}/v1.0`);
}

test("the tenant in the address has to be the caller's, once callers have tenants", async (t) => {
  const anybody = await askedBy(t, { tenantId: 'local', role: 'reader' }, false);
  assert.equal((await anybody('GET', '/anything/instances')).status, 200);
  // A tenant may well be called what the only one is called without authentication.
  for (const tenantId of ['acme', 'local']) {
    const rest = await askedBy(t, { tenantId, role: 'admin' });
    assert.equal((await rest('GET', `/${tenantId}/instances`)).status, 200);
    for (const tenant of ['other', 'locals', 'Acme', 'Local', `%20${tenantId}`]) {
      assert.equal(refusal(await rest('GET', `/${tenant}/instances`)).name, 'forbidden');
    }
  }
});

test('without a valid token there is no answer, also before the body is read', async (t) => {
  const rest = await askedBy(t, new Fault('UNAUTHENTICATED', 'This needs a token', { hint: 'Send one.' }));
  for (const [method, address, body] of [
    ['GET', '/acme/instances', undefined],
    ['POST', '/acme/backups', 'x'.repeat(2 ** 21)],
    ['GET', '/acme/elsewhere', undefined],
  ] as const) {
    const { status, name, message } = refusal(await rest(method, address, body));
    assert.deepEqual([status, name, message], [401, 'unauthorized', 'This needs a token. Send one.']);
  }
});

test('every operation has its role', async (t) => {
  const point = { restorePoint: { instanceRef: 'shop' } };
  const operations: [method: string, address: string, body: unknown, needed: Role][] = [
    ['GET', '/instances', undefined, 'reader'],
    ['GET', '/instances/detail', undefined, 'reader'],
    ['GET', '/instances/shop', undefined, 'reader'],
    ['GET', '/instances/shop/backups', undefined, 'reader'],
    ['GET', '/backups', undefined, 'reader'],
    ['GET', '/backups/full', undefined, 'reader'],
    ['GET', '/flavors', undefined, 'reader'],
    ['GET', '/flavors/any', undefined, 'reader'],
    ['POST', '/backups', { backup: { instance: 'shop' } }, 'operator'],
    ['POST', '/instances/shop/restore', { recovery: {} }, 'operator'],
    ['POST', '/instances', { instance: { name: 'n', ...point } }, 'operator'],
    ['POST', '/instances', { instance: { name: 'n', datastore: { type: 'sqlite' } } }, 'admin'],
    ['DELETE', '/instances/rescue', undefined, 'operator'],
    ['DELETE', '/instances/shop', undefined, 'admin'],
    ['DELETE', '/backups/full', undefined, 'admin'],
  ];
  const roles: Role[] = ['reader', 'operator', 'admin'];
  for (const role of roles) {
    const rest = await askedBy(t, { tenantId: 'acme', role });
    for (const [method, address, body, needed] of operations) {
      const answer = await rest(method, `/acme${address}`, body);
      const allowed = roles.indexOf(role) >= roles.indexOf(needed);
      if (allowed) assert.ok(answer.status < 300, `${role} ${method} ${address}: ${JSON.stringify(answer.body)}`);
      else assert.equal(refusal(answer).fault, 'FORBIDDEN', `${role} ${method} ${address}`);
    }
  }
});
