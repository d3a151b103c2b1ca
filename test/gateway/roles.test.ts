/** Roles: each operation declares one, says it in the schema, and is closed to those below, over HTTP and WebSocket. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { type GraphQLField, GraphQLObjectType, GraphQLSchema, GraphQLString, isRequiredArgument } from 'graphql';
import { enforceRoles } from '../../src/gateway/roles.js';
import { createSchema } from '../../src/gateway/schema.js';
import { type Role, roles } from '../../src/services.js';
import { password } from '../support/gatewayRows.js';
import { askWith, bearer, dial, identifiedGateway } from '../support/identified.js';
import { scratchDir } from '../support/scratch.js';

const schema = createSchema();

/** As it was agreed: whoever adds an operation decides here a second time. */
const agreed: Record<string, Role> = {
  'Query.instances': 'reader',
  'Query.instance': 'reader',
  'Query.backups': 'reader',
  'Query.backup': 'reader',
  'Query.recoveryPlan': 'reader',
  'Query.recovery': 'reader',
  'Query.recoveries': 'reader',
  'Subscription.recoveryProgress': 'reader',
  'Mutation.takeBackup': 'operator',
  'Mutation.takeBackupFromArchive': 'operator',
  'Mutation.recoverInstance': 'operator',
  'Mutation.cancelRecovery': 'operator',
  'Mutation.createInstance': 'admin',
  'Mutation.registerInstance': 'admin',
  'Mutation.updateInstance': 'admin',
  'Mutation.deleteInstance': 'admin',
  'Mutation.deleteBackup': 'admin',
};

interface Operation {
  kind: 'query' | 'mutation' | 'subscription';
  field: GraphQLField<unknown, unknown>;
}

/** Every operation but those that a federated graph adds (_service, _entities), which are checked by tenant alone. */
const operations: Operation[] = (['query', 'mutation', 'subscription'] as const).flatMap((kind) => {
  const type = {
    query: schema.getQueryType(),
    mutation: schema.getMutationType(),
    subscription: schema.getSubscriptionType(),
  }[kind];
  return Object.values(type?.getFields() ?? {})
    .filter(({ name }) => !name.startsWith('_'))
    .map((field) => ({ kind, field }));
});

const samples: Record<string, string> = {
  'CreateInstanceInput!': '{ name: "new", datastore: "sqlite" }',
  'RegisterInstanceInput!': '{ name: "new", datastore: "sqlite", connectionUri: "sqlite:///x" }',
  'UpdateInstanceInput!': '{ name: "new" }',
};

/** A document that calls it with arguments that MemoryServices know. */
function document({ kind, field }: Operation): string {
  const given = field.args.filter(isRequiredArgument);
  const known = (name: string) =>
    name === 'recoveryId' || (field.name.includes('ecovery') && name === 'id')
      ? '"rescue"'
      : field.name.includes('ackup') && name === 'id'
        ? '"full"'
        : '"shop"';
  const args = given.map(({ name, type }) => `${name}: ${samples[String(type)] ?? known(name)}`);
  return `${kind} { ${field.name}${args.length > 0 ? `(${args.join(', ')})` : ''} { __typename } }`;
}

test('every operation declares its role, and the schema says it', () => {
  const found = operations.map(({ kind, field }) => {
    const name = `${kind[0]?.toUpperCase()}${kind.slice(1)}.${field.name}`;
    return [name, /Role: (reader|operator|admin)\.$/.exec(field.description ?? '')?.[1]];
  });
  assert.deepEqual(Object.fromEntries(found), agreed);
});

test('a schema with an operation that declares none can’t be had', () => {
  const query = new GraphQLObjectType({ name: 'Query', fields: { secret: { type: GraphQLString } } });
  assert.throws(() => enforceRoles(new GraphQLSchema({ query })), /Query\.secret declares no role/);
});

test('each role may do its own and what those below it may, over HTTP and WebSocket alike', async (t) => {
  const tokensFile = path.join(await scratchDir(t), 'tokens');
  const hash = (role: string) => createHash('sha256').update(role).digest('hex');
  const lines = roles.map((role) => JSON.stringify({ name: role, tenant: 'shop', role, sha256: hash(role) }));
  await writeFile(tokensFile, lines.join('\n'));
  const gateway = await identifiedGateway(t, { tokensFile });
  gateway.services.assessment = {
    plan: null,
    fault: { code: 'NO_BACKUP', message: '', hint: null, retryable: false, details: {} },
  };
  for (const role of roles) {
    const socket = await dial(t, gateway, bearer(role));
    await socket.next();
    for (const [index, operation] of operations.entries()) {
      const needed = Object.entries(agreed).find(([name]) => name.endsWith(`.${operation.field.name}`))?.[1] ?? 'admin';
      const expected = roles.indexOf(role) >= roles.indexOf(needed) ? null : 'FORBIDDEN';
      const what = `${operation.field.name} as ${role}`;
      const before = gateway.services.calls.length;
      if (operation.kind !== 'subscription') {
        assert.equal((await askWith(gateway, bearer(role), document(operation))).code, expected, what);
      }
      const id = `${role}-${index}`;
      socket.socket.send(JSON.stringify({ id, type: 'subscribe', payload: { query: document(operation) } }));
      const message = await socket.next();
      assert.equal(/"code":"(\w+)"/.exec(JSON.stringify(message))?.[1] ?? null, expected, `${what} over WebSocket`);
      if (expected !== null) assert.equal(gateway.services.calls.length, before, 'and nothing was done');
      if (operation.kind === 'subscription') socket.socket.send(JSON.stringify({ id, type: 'complete' }));
      else if (message.type === 'next') assert.equal((await socket.next()).type, 'complete');
    }
  }
});

test('readers never see a credential', async (t) => {
  const tokensFile = path.join(await scratchDir(t), 'tokens');
  const sha256 = (token: string) => createHash('sha256').update(token).digest('hex');
  const lines = roles.map((role) => JSON.stringify({ name: role, tenant: 'shop', role, sha256: sha256(role) }));
  await writeFile(tokensFile, lines.join('\n'));
  const { url } = await identifiedGateway(t, { tokensFile });
  const read = async (role: string) => {
    const query =
      '{ instances { connectionUri } recovery(id: "rescue") { source { connectionUri } plan { instance { connectionUri } } } }';
    const headers = { 'content-type': 'application/json', connection: 'close', ...bearer(role) };
    return (await fetch(`${url}/graphql`, { method: 'POST', headers, body: JSON.stringify({ query }) })).text();
  };
  assert.doesNotMatch(await read('reader'), new RegExp(password));
  assert.match(await read('operator'), new RegExp(password));
});
