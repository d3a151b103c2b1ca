/** GraphQL over HTTP as its specification has it: the audit of the reference implementation, statuses, and what is no request of ours. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { auditServer } from 'graphql-http';
import { gatewayUnderTest, onlyError } from '../support/gatewayUnderTest.js';
import { askWith, identifiedGateway } from '../support/identified.js';
import { scratchDir } from '../support/scratch.js';

/** What the audit would like and does not get, with the reason. An entry that is no longer true fails the test. */
const UNMET: Record<string, string> = {
  '5A70': 'a GET without a header that makes a browser ask first could come from any page: it is refused',
  D6D5: 'the same, with variables',
  '6A70': 'the same, with variables',
};

test('every MUST and every SHOULD of the audit holds', async (t) => {
  const { url } = await gatewayUnderTest(t);
  const results = await auditServer({ url: `${url}/graphql`, fetchFn: fetch });
  assert.ok(results.length > 50, `only ${results.length} audits ran`);
  const unmet = results.filter(({ status }) => status !== 'ok');
  const described = unmet.map(({ id, name, ...more }) => `${id} ${name}: ${'reason' in more ? more.reason : ''}`);
  assert.deepEqual(unmet.map(({ id }) => id).sort(), Object.keys(UNMET).sort(), described.join('\n'));
  assert.deepEqual(
    unmet.filter(({ name }) => !name.startsWith('MAY')).map(({ name }) => name),
    [],
  );
});

const JSON_TYPE = 'application/json; charset=utf-8';
const MODERN_TYPE = 'application/graphql-response+json; charset=utf-8';
const refusals: Record<string, object> = {
  'a syntax error': { query: '{' },
  'an unknown field': { query: '{ nothing }' },
  'a variable of the wrong type': { query: 'query ($n: Int!) { instances(first: $n) { id } }', variables: { n: 'x' } },
  'an instant without its offset': {
    query: 'query ($t: DateTime) { backups(instanceId: "shop", before: $t) { id } }',
    variables: { t: '2026-11-22T12:00:00' },
  },
  'an operation that costs too much': { query: '{ instances(first: 500) { backups(first: 500) { id } } }' },
  'an operation that is not there': { query: 'query A { __typename }', operationName: 'B' },
  'too many brackets': { query: '{'.repeat(200) },
};
for (const [what, body] of Object.entries(refusals)) {
  test(`${what}: 200 in application/json, 400 in application/graphql-response+json, the same errors`, async (t) => {
    const { url } = await gatewayUnderTest(t);
    const ask = async (accept: string) => {
      const headers = { 'content-type': 'application/json', connection: 'close', accept, 'x-request-id': 'one' };
      const response = await fetch(`${url}/graphql`, { method: 'POST', headers, body: JSON.stringify(body) });
      return { status: response.status, type: response.headers.get('content-type'), text: await response.text() };
    };
    const modern = await ask('application/graphql-response+json');
    assert.deepEqual([modern.status, modern.type], [400, MODERN_TYPE]);
    for (const accept of ['*/*', 'application/json', 'application/graphql-response+json;q=0, application/json']) {
      const legacy = await ask(accept);
      assert.deepEqual([legacy.status, legacy.type], [200, JSON_TYPE], accept);
      assert.deepEqual(JSON.parse(legacy.text), JSON.parse(modern.text));
    }
    const both = await ask('application/graphql-response+json, application/json;q=0.9');
    assert.deepEqual([both.status, both.type], [400, MODERN_TYPE]);
    assert.doesNotMatch(modern.text, /"data"|stack/);
  });
}

test('what a foreign page can send without asking its browser is refused, whatever it holds', async (t) => {
  const { url, services } = await gatewayUnderTest(t);
  const query = '{ instances { id } }';
  const address = `${url}/graphql?${new URLSearchParams({ query })}`;
  const simple: [method: string, address: string, type: string | null, body?: string][] = [
    ['GET', address, null],
    ['POST', `${url}/graphql`, 'text/plain', JSON.stringify({ query })],
    ['POST', `${url}/graphql`, 'application/x-www-form-urlencoded', new URLSearchParams({ query }).toString()],
    ['POST', `${url}/graphql`, 'multipart/form-data; boundary=x', '--x--'],
  ];
  for (const accept of ['*/*', 'text/event-stream', 'multipart/mixed']) {
    for (const [method, to, type, body] of simple) {
      const headers = { connection: 'close', accept, ...(type && { 'content-type': type }) };
      const response = await fetch(to, { method, headers, body });
      assert.ok(response.status >= 400 && response.status < 500, `${method} ${type} ${accept}: ${response.status}`);
      assert.doesNotMatch(await response.text(), /"data"/);
    }
  }
  assert.deepEqual(services.calls, []);
  const asked = await fetch(address, { headers: { connection: 'close', 'apollo-require-preflight': '1' } });
  assert.equal(asked.status, 200);
});

test('a mutation is never done by GET', async (t) => {
  const { url, services } = await gatewayUnderTest(t);
  const query = 'mutation { takeBackup(instanceId: "shop") { id } }';
  for (const accept of ['application/json', 'application/graphql-response+json']) {
    const headers = { connection: 'close', 'apollo-require-preflight': '1', accept };
    const response = await fetch(`${url}/graphql?${new URLSearchParams({ query })}`, { headers });
    assert.equal(response.status, 405);
    assert.equal(response.headers.get('allow'), 'POST');
  }
  assert.deepEqual(services.calls, []);
});

test('a subscription that asks for no stream is told how to get one', async (t) => {
  const { post, services, log } = await gatewayUnderTest(t);
  const { extensions } = onlyError(await post('subscription { recoveryProgress(recoveryId: "rescue") { sequence } }'));
  assert.equal(extensions.code, 'INVALID_ARGUMENT');
  assert.match(String(extensions.hint), /graphql-transport-ws.*text\/event-stream/);
  assert.deepEqual([services.calls, log.filter(({ level }) => Number(level) >= 40)], [[], []]);
});

test('several operations in one request are refused', async (t) => {
  const { url, services } = await gatewayUnderTest(t);
  const one = { query: '{ instances { id } }' };
  for (const accept of ['application/json', 'text/event-stream']) {
    const headers = { 'content-type': 'application/json', connection: 'close', accept };
    const response = await fetch(`${url}/graphql`, { method: 'POST', headers, body: JSON.stringify([one, one]) });
    assert.equal(response.status, 400);
  }
  assert.deepEqual(services.calls, []);
});

test('without a token: 401 with a challenge, over GraphQL and REST alike', async (t) => {
  const file = path.join(await scratchDir(t), 'tokens');
  await writeFile(file, '');
  const gateway = await identifiedGateway(t, { tokensFile: file });
  assert.deepEqual((({ status, challenge }) => [status, challenge])(await askWith(gateway, {})), [401, 'Bearer']);
  const rest = await fetch(`${gateway.url}/v1.0/any/instances`, { headers: { connection: 'close' } });
  assert.deepEqual([rest.status, rest.headers.get('www-authenticate')], [401, 'Bearer']);
});
