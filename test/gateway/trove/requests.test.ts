/** What Trove's clients send, and how it is refused: times, fields, errors, and what stands in the log. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { Fault, faultCodes } from '../../../src/errors.js';
import { parseInstant } from '../../../src/instant.js';
import type { RecoverInput } from '../../../src/services.js';
import { backupRow, instanceRow, password, recoveryRow } from '../../support/gatewayRows.js';
import { gatewayUnderTest, raw } from '../../support/gatewayUnderTest.js';
import { refusal, restAt } from '../../support/rest.js';

async function trove(t: TestContext) {
  const gateway = await gatewayUnderTest(t);
  const recovered = () => gateway.services.callsOf('recoveries.recover').map(([input]) => input as RecoverInput);
  return { ...gateway, rest: restAt(`${gateway.url}/v1.0/demo`), recovered };
}

test('a time without a zone is UTC, one with an offset is what it says, anything else is refused', async (t) => {
  const { rest, recovered } = await trove(t);
  const at = parseInstant('2014-04-04T11:22:45.5Z');
  for (const time of [
    '2014-04-04T11:22:45.5',
    '2014-04-04 11:22:45.500',
    '2014-04-04T11:22:45.5Z',
    '2014-04-04T13:22:45.5+02:00',
  ]) {
    for (const [address, body] of [
      ['/instances/shop/restore', { recovery: { instance: 'shop', point_in_time: time } }],
      ['/instances', { instance: { name: 'n', restorePoint: { instanceRef: 'shop', point_in_time: time } } }],
    ] as const) {
      const answer = await rest('POST', address, body);
      assert.ok(answer.status < 300, JSON.stringify(answer.body));
      assert.deepEqual(recovered().at(-1)?.target, { pointInTime: at, position: null }, time);
    }
  }
  assert.equal(recovered().length, 8);
  for (const time of [
    '2014-04-04',
    '2014-04-04T11:22',
    '2014-02-30T11:22:45',
    '2014-04-04T11:22:45.1234567',
    'now',
    '',
    1396610565,
  ]) {
    const { status } = refusal(await rest('POST', '/instances/shop/restore', { recovery: { point_in_time: time } }));
    assert.equal(status, 400, String(time));
  }
  assert.equal(recovered().length, 8);
});

test('what is not understood is refused and nothing is done', async (t) => {
  const { rest, services } = await trove(t);
  services.backupRows.push(
    backupRow({ id: 'running', state: 'RUNNING' }),
    backupRow({ id: 'failed', state: 'FAILED' }),
  );
  const restore = (restorePoint: unknown, more = {}) => ({ instance: { name: 'n', restorePoint, ...more } });
  const cases: [method: string, address: string, body: unknown, status: number, message: RegExp][] = [
    // A misspelt field must not become a recovery to the latest point.
    ['POST', '/instances/shop/restore', { recovery: { pointInTime: '2014-04-04T11:22:45' } }, 400, /"pointInTime"/],
    ['POST', '/instances/shop/restore', { recovery: { instance: 'other' } }, 400, /another instance/],
    ['POST', '/instances/shop/restore', {}, 400, /no object "recovery"/],
    ['POST', '/instances/shop/restore', { recovery: [] }, 400, /no object "recovery"/],
    ['POST', '/instances/shop/restore', undefined, 400, /no object "recovery"/],
    ['POST', '/instances/none/restore', { recovery: {} }, 404, /no instance none/],
    ['POST', '/instances/rescue/restore', { recovery: {} }, 422, /still to be recovered/],
    ['POST', '/instances', restore({}), 400, /either a backupRef or an instanceRef/],
    ['POST', '/instances', restore({ backupRef: 'full', instanceRef: 'shop' }), 400, /either/],
    ['POST', '/instances', restore({ backupRef: 'full', point_in_time: '2014-04-04T11:22:45' }), 400, /as it is/],
    ['POST', '/instances', restore({ backupRef: 'none' }), 404, /no backup none/],
    ['POST', '/instances', restore({ backupRef: 'running' }), 409, /still being taken/],
    ['POST', '/instances', restore({ backupRef: 'failed' }), 422, /Nothing of this backup/],
    ['POST', '/instances', restore({ backupRef: 'full' }, { datastore: { type: 'sqlite' } }), 400, /postgresql 15.18/],
    ['POST', '/instances', restore({ backupRef: 'full' }, { datastore: { version: '14' } }), 400, /postgresql 15.18/],
    ['POST', '/instances', restore({ backupRef: 'full' }, { name: null }), 400, /name is missing/],
    ['POST', '/instances', { instance: { name: 'n' } }, 400, /type is missing/],
    ['POST', '/instances', { instance: { name: 'n', users: [{ name: 'u' }] } }, 400, /"users"/],
    ['POST', '/instances', { instance: { name: 'n', access: { is_public: true } } }, 400, /public/],
    ['POST', '/instances', { instance: { name: 'n', volume: { size: 0.5 } } }, 400, /size is not a whole number/],
    ['POST', '/instances', { instance: { name: 'n', volume: { size: 1e300 } } }, 400, /size is not a whole number/],
    ['POST', '/backups', { backup: { instance: 'shop', parent_id: 'full' } }, 400, /"parent_id"/],
    ['POST', '/backups', { backup: { instance: 'shop', incremental: 'yes' } }, 400, /incremental/],
    ['POST', '/backups', { backup: { name: 'n' } }, 400, /instance is missing/],
    ['GET', '/backups?datastore=mysql', undefined, 400, /by datastore/],
    ['GET', '/backups?all_projects=True', undefined, 400, /own project/],
    ['GET', '/backups?project_id=other', undefined, 400, /own project/],
    ['GET', '/backups/none', undefined, 404, /no backup none/],
    ['GET', '/instances/none', undefined, 404, /no instance none/],
    ['DELETE', '/backups/none', undefined, 404, /no backup none/],
    ['DELETE', '/instances/none', undefined, 404, /no instance none/],
    ['GET', '/clusters', undefined, 404, /nothing at this address/],
    ['PUT', '/instances/shop', {}, 404, /nothing at this address/],
  ];
  for (const [method, address, body, status, message] of cases) {
    const refused = refusal(await rest(method, address, body));
    assert.equal(refused.status, status, `${method} ${address} ${JSON.stringify(body)}`);
    assert.match(refused.message, message);
  }
  for (const name of ['recoveries.recover', 'instances.create', 'backups.take']) {
    assert.deepEqual(services.callsOf(name), [], name);
  }
});

test('what is understood reaches the services', async (t) => {
  const { rest, services, recovered } = await trove(t);
  const created = await rest('POST', '/instances', {
    instance: {
      name: ' n ',
      flavorRef: 'small',
      volume: { size: 5, type: null },
      datastore: { type: 'sqlite', version: '3' },
      access: { is_public: false },
      restorePoint: null,
    },
  });
  assert.equal(created.status, 200);
  assert.deepEqual(services.callsOf('instances.create'), [
    [{ id: null, name: 'n', datastore: 'sqlite', datastoreVersion: '3', flavor: 'small', volumeSizeGiB: 5 }],
  ]);
  assert.equal(
    (await rest('POST', '/instances', { instance: { name: 'n', restorePoint: { backupRef: 'full' } } })).status,
    200,
  );
  const target = { pointInTime: null, position: '0/7000028' };
  assert.deepEqual(recovered(), [{ instanceId: 'shop', target, name: 'n', idempotencyKey: null }]);
  assert.equal(
    (await rest('POST', '/backups', { backup: { name: 'n', instance: 'shop', incremental: 1 } })).status,
    202,
  );
  assert.equal((await rest('POST', '/backups', { backup: { instance: 'shop', incremental: 0 } })).status, 202);
  assert.deepEqual(services.callsOf('backups.take'), [
    ['shop', 'INCREMENTAL'],
    ['shop', 'FULL'],
  ]);
  const flavor = (await rest('GET', '/flavors/a%2Fb')).body.flavor;
  assert.deepEqual([flavor.id, flavor.name], ['a/b', 'a/b']);
  assert.deepEqual((await rest('GET', '/flavors')).body, { flavors: [] });
});

test('deleting what is still being recovered stops the recovery', async (t) => {
  const { rest, services } = await trove(t);
  const cancelled: string[] = [];
  services.recoveries.cancel = async (_caller, id) => {
    cancelled.push(id);
    return recoveryRow();
  };
  const removed: string[] = [];
  services.instances.remove = async (_caller, id) => {
    removed.push(id);
    return instanceRow({ id });
  };
  assert.equal((await rest('DELETE', '/instances/rescue')).status, 202);
  const made = { createdByRecoveryId: 'rescue', id: 'copy' };
  services.instanceRows.push(instanceRow({ ...made, state: 'PROVISIONING' }));
  services.recoveryRows.splice(0, 1, recoveryRow({ targetId: 'copy' }));
  assert.equal((await rest('DELETE', '/instances/copy')).status, 202);
  assert.equal((await rest('DELETE', '/instances/rescue')).status, 202);
  assert.deepEqual([cancelled, removed], [['rescue', 'rescue', 'rescue'], []]);

  services.instanceRows.splice(1, 1, instanceRow({ ...made, state: 'ACTIVE' }));
  for (const id of ['copy', 'rescue']) assert.equal((await rest('DELETE', `/instances/${id}`)).status, 202);
  assert.deepEqual([cancelled.length, removed], [3, ['copy', 'copy']]);
  services.instanceRows.splice(1, 1, instanceRow({ ...made, state: 'DELETED' }));
  for (const id of ['copy', 'rescue']) assert.equal((await rest('DELETE', `/instances/${id}`)).status, 404);
});

test('every fault in the shape of Trove, with its hint and its code', async (t) => {
  const { rest, services } = await trove(t);
  const expected: Record<string, string> = {
    INVALID_ARGUMENT: '400 badRequest',
    INSTANCE_NOT_FOUND: '404 itemNotFound',
    TARGET_IN_LOG_GAP: '422 unprocessableEntity',
    INSTANCE_NOT_READY: '422 unprocessableEntity',
    BACKUP_IN_USE: '409 conflict',
    QUOTA_EXCEEDED: '413 overLimit',
    UNAUTHENTICATED: '401 unauthorized',
    FORBIDDEN: '403 forbidden',
    DATASTORE_NOT_SUPPORTED: '501 notImplemented',
    STORAGE_UNAVAILABLE: '503 serviceUnavailable',
    INTERNAL: '500 instanceFault',
  };
  for (const code of faultCodes) {
    services.onList = () => {
      throw new Fault(code, 'It did not work', { hint: 'Do this.', details: { argument: 'a' } });
    };
    const answer = await rest('GET', '/instances');
    const { status, name, message, fault } = refusal(answer);
    assert.equal(message, 'It did not work. Do this.');
    assert.equal(fault, code);
    assert.ok(status >= 400);
    if (code in expected) assert.equal(`${status} ${name}`, expected[code]);
  }
  services.onList = () => {
    throw new Error(`no such table, ${password}`);
  };
  const answer = await rest('GET', '/instances');
  assert.equal(refusal(answer).status, 500);
  assert.ok(!JSON.stringify(answer.body).includes(password));
});

test('what HTTP itself refuses has the shape too', async (t) => {
  const { url, port } = await trove(t);
  const send = (headers: Record<string, string>, body: string) =>
    fetch(`${url}/v1.0/demo/backups`, { method: 'POST', headers: { connection: 'close', ...headers }, body });
  const json = { 'content-type': 'application/json' };
  for (const [headers, body, status, name] of [
    [json, '{', 400, 'badRequest'],
    [json, JSON.stringify('x'.repeat(2 ** 20)), 413, 'overLimit'],
    [{ 'content-type': 'application/xml' }, '<a/>', 415, 'badMediaType'],
  ] as const) {
    const response = await send(headers, body);
    assert.equal(response.status, status);
    assert.deepEqual(Object.keys((await response.json()) as object), [name]);
  }
  // The rules for Host and Origin are those of GraphQL.
  const foreign = [`host: rebound.example.com:${port}`, `host: localhost:${port}\r\norigin: https://example.com`];
  for (const headers of foreign) {
    const { status, body } = await raw(
      port,
      `GET /v1.0/demo/backups HTTP/1.1\r\n${headers}\r\nconnection: close\r\n\r\n`,
    );
    assert.equal(status, 403);
    assert.equal(JSON.parse(body).forbidden.fault.code, 'FORBIDDEN');
  }
});

test('the log tells one line per request, with the id that the caller got and nothing that the caller sent', async (t) => {
  const { rest, log } = await trove(t);
  const { headers } = await rest('GET', '/instances/shop?limit=secret-parameter');
  await rest('POST', '/instances/secret-id/restore', { recovery: { instance: 'secret-id' } });
  const lines = log.filter(({ via }) => via === 'rest');
  assert.deepEqual(
    lines.map(({ kind, operation, codes }) => [kind, operation, codes]),
    [
      ['GET', '/v1.0/:tenantId/instances/:id', undefined],
      ['POST', '/v1.0/:tenantId/instances/:id/restore', ['INSTANCE_NOT_FOUND']],
    ],
  );
  assert.equal(headers.get('x-openstack-request-id'), `req-${lines[0]?.requestId}`);
  assert.equal(headers.get('x-compute-request-id'), `req-${lines[0]?.requestId}`);
  assert.doesNotMatch(JSON.stringify(log), /secret/);
});
