/** What a federated gateway asks of a subgraph, asked directly: _service and _entities. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { backupRow, instanceRow, noon, recoveryRow } from '../support/gatewayRows.js';
import { gatewayUnderTest, onlyError } from '../support/gatewayUnderTest.js';

const entities = (fields: string) =>
  `query ($of: [_Any!]!) { _entities(representations: $of) { __typename ${fields} } }`;
const ids = '... on DatabaseInstance { id } ... on DatabaseBackup { id } ... on Recovery { id }';
const reference = (__typename: string, id: unknown) => ({ __typename, id });

test('the service says what schema.graphql says', async (t) => {
  const { post } = await gatewayUnderTest(t);
  const { data } = await post('{ _service { sdl } }');
  const file = readFileSync(new URL('../../../schema.graphql', import.meta.url), 'utf8');
  assert.deepEqual(data, { _service: { sdl: file } });
});

test('fifty entities cost one call per kind, and one per level below', async (t) => {
  const { post, services } = await gatewayUnderTest(t);
  const some = Array.from({ length: 25 }, (_, n) => `i${n}`);
  services.instanceRows.push(...some.map((id) => instanceRow({ id, recoveredFromId: 'shop' })));
  services.backupRows.push(...some.slice(0, 15).map((id) => backupRow({ id, instanceId: 'i3' })));
  services.recoveryRows.push(...some.slice(0, 10).map((id) => recoveryRow({ id })));
  services.windows.set('i0', [{ from: noon, to: noon, startsBecause: 'FIRST_BACKUP', endsBecause: 'LATEST_ARCHIVED' }]);
  const of = [
    ...some.map((id) => reference('DatabaseInstance', id)),
    ...some.slice(0, 15).map((id) => reference('DatabaseBackup', id)),
    ...some.slice(0, 10).map((id) => reference('Recovery', id)),
  ];
  assert.equal(of.length, 50);
  const fields = `... on DatabaseInstance { id name recoveryWindows { from } recoveredFrom { id } }
    ... on DatabaseBackup { id instance { id } } ... on Recovery { id source { id } steps { name } }`;
  const { data, errors } = await post(entities(fields), { of });
  assert.equal(errors, undefined);
  const found = data?._entities as Record<string, unknown>[];
  assert.deepEqual(
    found.map(({ __typename, id }) => ({ __typename, id })),
    of,
    'in the order of the references',
  );
  assert.deepEqual(found[0], {
    __typename: 'DatabaseInstance',
    id: 'i0',
    name: 'The shop',
    recoveryWindows: [{ from: '2026-11-22T12:00:00.000001Z' }],
    recoveredFrom: { id: 'shop' },
  });
  assert.deepEqual(services.calls.map(({ name, with: [asked] }) => `${name} of ${(asked as string[]).length}`).sort(), [
    'backups.byIds of 15',
    'instances.byIds of 2', // what the nested fields of all three kinds refer to: shop and i3
    'instances.byIds of 25',
    'instances.recoveryWindows of 25',
    'recoveries.byIds of 10',
    'recoveries.steps of 10',
  ]);
});

test('what is not there is null in its place, and asked for twice it is there twice', async (t) => {
  const { post, services } = await gatewayUnderTest(t);
  const of = [
    reference('DatabaseInstance', 'unknown'),
    reference('DatabaseInstance', 'shop'),
    reference('DatabaseBackup', 'shop'),
    reference('Recovery', 'no id at all'),
    reference('DatabaseInstance', 'shop'),
  ];
  const { data, errors } = await post(entities(ids), { of });
  assert.equal(errors, undefined);
  const shop = { __typename: 'DatabaseInstance', id: 'shop' };
  assert.deepEqual(data?._entities, [null, shop, null, null, shop]);
  assert.deepEqual(services.callsOf('instances.byIds'), [[['unknown', 'shop']]]);
  assert.deepEqual(services.callsOf('recoveries.byIds'), []);
});

test('references may be written into the document', async (t) => {
  const { post } = await gatewayUnderTest(t);
  const { data } = await post(
    '{ _entities(representations: [{ __typename: "Recovery", id: "rescue" }]) { ... on Recovery { state } } }',
  );
  assert.deepEqual(data?._entities, [{ state: 'RUNNING' }]);
});

for (const [what, broken] of [
  ['a type that is no entity', reference('RecoveryWindow', 'shop')],
  ['a name that every object has', reference('constructor', 'shop')],
  ['a missing id', { __typename: 'DatabaseInstance' }],
  ['an id that is no text', reference('DatabaseInstance', { $ne: null })],
  ['no object', 7],
] as const) {
  test(`a reference with ${what} is refused in its place, and the others are answered`, async (t) => {
    const { post } = await gatewayUnderTest(t);
    const answer = await post(entities(ids), { of: [broken, reference('DatabaseInstance', 'shop')] });
    const { extensions, path } = onlyError(answer);
    assert.equal(extensions.code, 'INVALID_ARGUMENT');
    assert.deepEqual(path, ['_entities', 0]);
    assert.deepEqual(answer.data?._entities, [null, { __typename: 'DatabaseInstance', id: 'shop' }]);
  });
}

test('more references than one statement takes are refused before anything is looked up', async (t) => {
  const { post, services } = await gatewayUnderTest(t);
  const asked = async (count: number) =>
    post(entities(ids), { of: Array.from({ length: count }, (_, n) => reference('DatabaseInstance', `i${n}`)) });
  assert.equal(onlyError(await asked(10_000 + 1)).extensions.code, 'INVALID_ARGUMENT');
  assert.deepEqual(services.calls, []);
  assert.equal((await asked(10_000)).errors, undefined);
  assert.equal(services.calls.length, 1);
});

test('a gateway that asks for traces is not told how errors looked inside', async (t) => {
  const { url } = await gatewayUnderTest(t);
  const response = await fetch(`${url}/graphql`, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      connection: 'close',
      'apollo-federation-include-trace': 'ftv1',
    },
    body: JSON.stringify({ query: '{ instances { id } }' }),
  });
  assert.deepEqual(Object.keys((await response.json()) as object), ['data']);
});
