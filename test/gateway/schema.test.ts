/** The schema against the contract, against its checked-in print, and against the examples. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import {
  buildSchema,
  findBreakingChanges,
  findDangerousChanges,
  getOperationAST,
  getVariableValues,
  isEnumType,
  isInputObjectType,
  isObjectType,
  parse,
  specifiedRules,
  validate,
  visit,
} from 'graphql';
import { depthLimit } from '../../src/gateway/depthLimit.js';
import { createSchema, createSdl } from '../../src/gateway/schema.js';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const read = (file: string) => readFileSync(path.join(root, file), 'utf8');
const schema = createSchema();

test('the schema breaks nothing of the contract', () => {
  const contract = buildSchema(read('test/contract.graphql'));
  assert.deepEqual(findBreakingChanges(contract, schema), []);
  assert.deepEqual(findDangerousChanges(contract, schema), []);
});

test('schema.graphql is the schema: npm run schema writes it anew', () => {
  assert.equal(read('schema.graphql'), createSdl());
});

test('schema.graphql says what is an entity, and what other subgraphs may answer', () => {
  const sdl = read('schema.graphql');
  const found: Record<string, string[]> = {};
  visit(parse(sdl), {
    Directive({ name }, _key, _parent, _path, ancestors) {
      const place = ancestors.flatMap((node) => ('kind' in node && 'name' in node ? [node.name?.value] : [])).join('.');
      found[name.value] = [...(found[name.value] ?? []), place];
    },
  });
  const { link, specifiedBy, ...federation } = found;
  assert.equal(link?.length, 1);
  assert.deepEqual(specifiedBy, ['DateTime', 'BigInt', 'JSON']);
  assert.deepEqual(federation, {
    key: ['DatabaseBackup', 'DatabaseInstance', 'Recovery'],
    shareable: ['name', 'datastore', 'datastoreVersion', 'flavor', 'createdAt'].map((f) => `DatabaseInstance.${f}`),
  });
  assert.doesNotMatch(sdl, /_entities|_service|_Any/);
});

test('everything in the schema says what it is', () => {
  const silent: string[] = [];
  const expect = (name: string, { description }: { description?: string | null | undefined }) => {
    if (!description) silent.push(name);
  };
  for (const type of Object.values(schema.getTypeMap())) {
    const builtIn = type.name.startsWith('__');
    const isRoot = ['Query', 'Mutation', 'Subscription'].includes(type.name);
    if (builtIn) continue;
    if (!isRoot) expect(type.name, type);
    if (isEnumType(type)) for (const value of type.getValues()) expect(`${type.name}.${value.name}`, value);
    if (isInputObjectType(type)) {
      for (const field of Object.values(type.getFields())) expect(`${type.name}.${field.name}`, field);
    }
    if (!isObjectType(type)) continue;
    for (const field of Object.values(type.getFields())) {
      expect(`${type.name}.${field.name}`, field);
      for (const arg of field.args) expect(`${type.name}.${field.name}(${arg.name})`, arg);
    }
  }
  assert.deepEqual(silent, []);
});

test('arguments are listed in the order in which they are written', () => {
  const args = schema
    .getMutationType()
    ?.getFields()
    .recoverInstance?.args.map(({ name }) => name);
  assert.deepEqual(args, ['instanceId', 'pointInTime', 'position', 'name', 'idempotencyKey']);
});

const operations = readdirSync(path.join(root, 'examples/operations')).filter((file) => file.endsWith('.graphql'));

test('there are operations to try', () => assert.ok(operations.length >= 6));

for (const file of operations) {
  test(`examples/operations/${file} and its variables are valid`, () => {
    const document = parse(read(`examples/operations/${file}`));
    assert.deepEqual(validate(schema, document, [...specifiedRules, depthLimit(12)]), []);
    const operation = getOperationAST(document);
    assert.ok(operation?.name, 'one operation, with a name for its tab');
    const definitions = operation.variableDefinitions ?? [];
    const variables = definitions.length
      ? (JSON.parse(read(`examples/operations/${file.replace('.graphql', '.json')}`)) as Record<string, unknown>)
      : {};
    assert.deepEqual(getVariableValues(schema, definitions, variables).errors, undefined);
    const declared = definitions.map(({ variable }) => variable.name.value);
    assert.deepEqual(Object.keys(variables).sort(), declared.sort());
  });
}
