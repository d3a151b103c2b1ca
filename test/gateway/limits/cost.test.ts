/** The static cost: what it is for known operations, that it bounds the answer, and that counting it is itself bounded. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { buildSchema, type GraphQLSchema, getOperationAST, parse } from 'graphql';
import { checkListSizes, costOf } from '../../../src/gateway/limits/cost.js';
import { createSchema } from '../../../src/gateway/schema.js';
import { backupRow, instanceRow } from '../../support/gatewayRows.js';
import { gatewayUnderTest, onlyError } from '../../support/gatewayUnderTest.js';

const schema = createSchema();

function cost(
  text: string,
  variables: Record<string, unknown> = {},
  most?: number,
  of: GraphQLSchema = schema,
): number {
  const document = parse(text);
  const operation = getOperationAST(document);
  assert.ok(operation);
  return costOf(of, document, operation, variables, most);
}

const known: [cost: number, text: string, variables?: Record<string, unknown>][] = [
  [1, '{ __typename }'],
  [2, '{ instance(id: "a") { id } }'],
  [110, '{ instances(first: 100) { id } }'],
  [55, '{ instances { id } }'],
  [22, 'query ($n: Int!) { instances(first: $n) { id } }', { n: 20 }],
  [22, 'query ($n: Int! = 20) { instances(first: $n) { id } }', { n: 20 }],
  // 10 instances of 10 backups with one value each
  [120, '{ instances(first: 10) { backups(first: 10) { id } } }'],
  // The same field twice is answered once, also through fragments; under another name it is answered twice.
  [22, '{ instances(first: 20) { id id ...F ... on DatabaseInstance { id } } } fragment F on DatabaseInstance { id }'],
  [24, '{ instances(first: 20) { id other: id } }'],
  // References are as many as there are, each of its dearest type: 3 times 1 and 5 windows of 1 and 0.1.
  [
    20,
    `query ($r: [_Any!]!) { _entities(representations: $r) {
       ... on DatabaseInstance { recoveryWindows { from } } ... on Recovery { id } } }`,
    { r: [{}, {}, {}] },
  ],
  [1_002, '{ recoveryPlan(instanceId: "a") { fault { code } } }'],
  [102, 'mutation { cancelRecovery(id: "a") { id } }'],
  [204, 'mutation { a: cancelRecovery(id: "a") { id } b: cancelRecovery(id: "a") { id } }'],
];
for (const [expected, text, variables] of known) {
  test(`${text.replace(/\s+/g, ' ')} costs ${expected}`, () => {
    // recoveryPlan and its assessment: 1,000 and 1, and the fault 1 and 0.1, rounded up.
    assert.ok(Math.abs(cost(text, variables) - expected) <= 1, String(cost(text, variables)));
  });
}

test('a default of the document itself counts, and what is no size is left to be refused later', () => {
  assert.equal(cost('query ($n: Int! = 7) { instances(first: $n) { id } }'), cost('{ instances(first: 7) { id } }'));
  assert.ok(cost('{ instances(first: -5) { id } }') >= 1);
  assert.equal(cost('{ instances(first: 2147483647) { id } }'), cost('{ instances(first: 500) { id } }'));
  assert.ok(cost('query ($n: Int!) { instances(first: $n) { id } }', { n: 'many' }) >= 1);
});

test('what an answer holds is never more than its cost', async (t) => {
  const { post, services } = await gatewayUnderTest(t, { limits: { cost: 1e9 } });
  for (let count = 0; count < 30; count++) {
    services.instanceRows.push(instanceRow({ id: `i${count}` }));
    services.backupRows.push(backupRow({ id: `b${count}`, instanceId: `i${count % 3}` }));
  }
  for (const text of [
    '{ instances(first: 500) { id name backups(first: 500) { id chain { id } instance { id } } logArchive { bytes } } }',
    '{ a: instances { id } b: instances(first: 3) { recoveryWindows { from } backups { parent { id } } } }',
    '{ _entities(representations: [{ __typename: "DatabaseInstance", id: "i0" }]) { ... on DatabaseInstance { backups { id } } } }',
  ]) {
    const { data, errors } = await post(text);
    assert.equal(errors, undefined);
    assert.ok(held(data) <= cost(text), `${held(data)} of ${cost(text)}`);
  }
});

/** Objects as 1 and values as 0.1; lists and the root are nothing in themselves. */
function held(value: unknown, isRoot = true): number {
  if (Array.isArray(value)) return value.reduce((sum, item) => sum + held(item, false), 0);
  if (typeof value !== 'object' || value === null) return 0.1;
  return Object.values(value).reduce((sum: number, item) => sum + held(item, false), isRoot ? 0 : 1);
}

test('fragments within fragments do not make the counting costly', () => {
  const names = Array.from({ length: 11 }, (_, level) => level);
  const wide = (level: number) =>
    Array.from({ length: 20 }, (_, index) => `a${index}: parent { ...F${level + 1} }`).join(' ');
  const fragments = names.map((level) => `fragment F${level} on DatabaseBackup { ${wide(level)} }`).join(' ');
  const text = `{ backup(id: "a") { ...F0 } } ${fragments} fragment F11 on DatabaseBackup { id }`;
  assert.ok(cost(text, {}, 50_000) > 50_000);
  // Many selections that come to nothing.
  const spread = Array.from({ length: 300 }, (_, index) => `a${index}: parent { ...Same }`).join(' ');
  const same = `{ backup(id: "a") { ${spread} } } fragment Same on DatabaseBackup { ${'id '.repeat(3_000)} }`;
  assert.ok(cost(same, {}, 1e9) > 1e9);
});

test('above its limit an operation is refused before it runs, in the one shape, and the limit can be moved', async (t) => {
  const text = '{ instances(first: 500) { backups(first: 500) { id } } }';
  const { post, services } = await gatewayUnderTest(t);
  const answer = await post(text);
  const { extensions, message } = onlyError(answer);
  assert.equal(answer.status, 200);
  assert.equal(extensions.code, 'OPERATION_TOO_COSTLY');
  assert.deepEqual(extensions.details, { limit: 'cost', most: 50_000 });
  assert.match(message, /above 50000/);
  assert.deepEqual(services.calls, []);
  assert.equal((await (await gatewayUnderTest(t, { limits: { cost: 1e6 } })).post(text)).errors, undefined);
});

test('as many plans as one operation may ask for count as so many operations', async (t) => {
  const plans = (count: number) =>
    `{ ${Array.from({ length: count }, (_, index) => `a${index}: recoveryPlan(instanceId: "shop") { fault { code } }`).join(' ')} }`;
  // Thirty at once, and the next in many seconds.
  const { post, services } = await gatewayUnderTest(t, { limits: { rate: 3 } });
  assert.equal(onlyError(await post(plans(50))).extensions.code, 'OPERATION_TOO_COSTLY');
  assert.deepEqual(services.calls, []);
  assert.equal((await post(plans(49))).status, 200);
  assert.equal(onlyError(await post('{ __typename }')).extensions.code, 'TOO_MANY_REQUESTS');
});

test('every list of the schema has a size, and a new one without any does not start', () => {
  checkListSizes(schema);
  const grown = buildSchema('type Query { things: [String!]! }');
  assert.throws(() => checkListSizes(grown), /Query.things is a list whose size is not known/);
});
