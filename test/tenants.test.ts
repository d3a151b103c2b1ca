/**
 * Tenants know nothing of each other. Both have everything that there is, in the real service; then the schema itself is
 * walked: all that one can reach, and every place into which it can write what belongs to the other.
 */
import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { getNamedType, isRequiredArgument, isUnionType } from 'graphql';
import { createSchema } from '../src/gateway/schema.js';
import { bearer, dial } from './support/identified.js';
import { everything, type Slot, slotsOf } from './support/schemaWalk.js';
import { type ServiceUnderTest, serviceUnderTest, untilState } from './support/serviceUnderTest.js';
import { TestDatabase } from './support/sqliteDatabase.js';

const schema = createSchema();
const DEPTH = 3;

interface Belongings {
  instances: string[];
  backup: string;
  recovery: string;
  key: string;
  registered: string;
}

/** One of everything: a made, a registered and a recovered instance, a deleted one, a backup and two recoveries. */
async function settle(service: ServiceUnderTest, tenant: string): Promise<Belongings> {
  const do1 = async (document: string): Promise<string> => {
    const { data, text } = await service.ask(tenant, document);
    const [answer] = Object.values(data ?? {}) as { id: string }[];
    assert.ok(answer, text);
    return answer.id;
  };
  const made = await do1(
    `mutation { createInstance(input: { id: "${tenant}-orders", name: "${tenant} orders", datastore: "sqlite", volumeSizeGiB: 3 }) { id } }`,
  );
  const gone = await do1(`mutation { createInstance(input: { name: "${tenant} gone", datastore: "sqlite" }) { id } }`);
  await do1(`mutation { deleteInstance(id: "${gone}") { id } }`);
  const registered = `sqlite://${path.join(service.directory, `${tenant}-own.db`)}`;
  const database = await TestDatabase.open(registered.slice('sqlite://'.length));
  await database.run('CREATE TABLE t (a)');
  await database.close();
  const adopted = await do1(
    `mutation { registerInstance(input: { name: "${tenant} own", datastore: "sqlite", connectionUri: "${registered}" }) { id } }`,
  );
  const backup = await do1(`mutation { takeBackup(instanceId: "${made}") { id } }`);
  await untilState(service, tenant, `{ backup(id: "${backup}") { state } }`, ['COMPLETED']);
  const key = `${tenant}-key`;
  const recovery = await do1(
    `mutation { recoverInstance(instanceId: "${made}", name: "${tenant} back", idempotencyKey: "${key}") { id } }`,
  );
  await untilState(service, tenant, `{ recovery(id: "${recovery}") { state } }`, ['SUCCEEDED']);
  const { data } = await service.ask(tenant, '{ instances(includeDeleted: true) { id } }');
  const instances = ((data?.instances ?? []) as { id: string }[]).map(({ id }) => id);
  assert.equal(instances.length, 4);
  assert.ok(instances.includes(adopted));
  return { instances, backup, recovery, key, registered };
}

/** All that a tenant sees: every query that needs no argument, and each of its own by id, to the bottom. */
async function allThatIsSeen(service: ServiceUnderTest, tenant: string, own: Belongings): Promise<string> {
  const fields = Object.values(schema.getQueryType()?.getFields() ?? {}).filter(({ name }) => !name.startsWith('_'));
  const texts: string[] = [];
  for (const { name, args, type } of fields) {
    const [required, ...more] = args.filter(isRequiredArgument);
    assert.deepEqual(more, [], `teach this test to ask for ${name}`);
    const ids = name === 'backup' ? [own.backup] : name === 'recovery' ? [own.recovery] : own.instances;
    const optional = args.some((arg) => arg.name === 'includeDeleted') ? ['includeDeleted: true'] : [];
    for (const id of required ? ids : ['']) {
      const given = [...(required ? [`${required.name}: "${id}"`] : []), ...optional];
      const called = given.length > 0 ? `${name}(${given.join(', ')})` : name;
      const { text, errors } = await service.ask(tenant, `{ ${called} ${everything(type, DEPTH)} }`);
      assert.equal(errors, undefined, text.slice(0, 500));
      texts.push(text);
    }
  }
  return texts.join('\n');
}

/** The same answer, but for what each of two calls has for itself. */
function normal(text: string, id: string): string {
  return text.replaceAll(id, '<id>');
}

/** An answer's shape: what remains of a success when its own ids and times are left out. */
function shapeOf(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(shapeOf);
  if (typeof value !== 'object' || value === null) return value === null ? null : typeof value;
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, shapeOf(inner)]));
}

/** As long and as plain as the other, and nobody's. */
function madeUp(id: string): string {
  return id.replace(/[0-9a-z]/g, (letter) =>
    /[0-9]/.test(letter) ? String(9 - Number(letter)) : letter === 'z' ? 'a' : 'z',
  );
}

test('two tenants with everything there is', async (t) => {
  const service = await serviceUnderTest(t, ['alpha', 'beta'], { PITR_LIMIT_COST: '999999999', PITR_LIMIT_RATE: '0' });
  // In this order, so that a cursor of alpha's would have something of beta's after it.
  const beta = await settle(service, 'beta');
  const alpha = await settle(service, 'alpha');
  const theirs = [...alpha.instances, alpha.backup, alpha.recovery];
  const secrets = [...theirs, alpha.key, 'alpha'];
  const seenByAlpha = await allThatIsSeen(service, 'alpha', alpha);

  await t.test('what one can reach holds nothing of the other', async () => {
    const seenByBeta = await allThatIsSeen(service, 'beta', beta);
    for (const secret of theirs) assert.ok(seenByAlpha.includes(secret), 'the walk goes far enough to find it');
    for (const secret of secrets) assert.ok(!seenByBeta.includes(secret), secret);
    const { data } = await service.ask('beta', '{ instances(includeDeleted: true) { id } recoveries { id } }');
    assert.deepEqual(shapeOf(data), { instances: Array(4).fill({ id: 'string' }), recoveries: [{ id: 'string' }] });
  });

  const [own = ''] = beta.instances.slice(-1);
  const slots = slotsOf(schema, {
    'ID!': '"nobodys"',
    'CreateInstanceInput!': '{ name: "made", datastore: "sqlite" }',
    'RegisterInstanceInput!': '{ name: "adopted", datastore: "sqlite", connectionUri: "sqlite:///nowhere/at/all.db" }',
    'UpdateInstanceInput!': '{ name: "renamed" }',
    'backups.instanceId': `"${own}"`,
    'takeBackup.instanceId': `"${own}"`,
    'recoverInstance.instanceId': `"${own}"`,
    'recoveryPlan.instanceId': `"${own}"`,
  });

  async function answer(slot: Slot, id: string): Promise<{ text: string; data: unknown; failed: boolean }> {
    const document = slot.document(JSON.stringify(id));
    if (slot.operation !== 'subscription') {
      const { text, data, errors } = await service.ask('beta', document);
      return { text, data, failed: errors !== undefined };
    }
    const line = await dial(t, service, bearer('beta'));
    await line.next();
    line.socket.send(JSON.stringify({ id: 'x', type: 'subscribe', payload: { query: document } }));
    const message = await line.next();
    line.socket.close();
    return { text: JSON.stringify(message), data: message.payload, failed: message.type === 'error' };
  }

  const ids = slots.filter(({ type }) => type === 'ID');
  assert.ok(ids.length >= 15, 'the schema was really walked');
  /** Ids are unique in the service, so these two must tell; the next test says how much. */
  const chosen = ids.filter(({ argument }) => argument === 'input.id');
  assert.deepEqual(chosen.map(({ field }) => field).sort(), ['createInstance', 'registerInstance']);
  for (const slot of ids.filter((each) => !chosen.includes(each))) {
    await t.test(`${slot.field}(${slot.argument}) answers the other's ids as it answers made-up ones`, async () => {
      for (const id of theirs) {
        const foreign = await answer(slot, id);
        const unknown = await answer(slot, madeUp(id));
        assert.notEqual(madeUp(id), id);
        if (foreign.failed) assert.equal(normal(foreign.text, id), normal(unknown.text, madeUp(id)));
        else assert.deepEqual(shapeOf(foreign.data), shapeOf(unknown.data));
        for (const secret of secrets) assert.ok(!normal(foreign.text, id).includes(secret), foreign.text);
      }
    });
  }

  await t.test('a chosen id that is taken is refused in the same words, whoever has it', async () => {
    for (const slot of chosen) {
      const value =
        slot.field === 'registerInstance'
          ? (id: string) =>
              slot.document(`"${id}"`).replace('sqlite:///nowhere/at/all.db', `sqlite://${service.directory}/spare.db`)
          : (id: string) => slot.document(`"${id}"`);
      const spare = await TestDatabase.open(path.join(service.directory, 'spare.db'));
      await spare.run('CREATE TABLE IF NOT EXISTS t (a)');
      await spare.close();
      const ask = async (id: string) => (await service.ask('beta', value(id))).text;
      const [foreign, mine] = [await ask('alpha-orders'), await ask('beta-orders')];
      assert.match(foreign, /INSTANCE_EXISTS/);
      assert.equal(foreign, mine);
    }
  });

  await t.test(
    'a database that is registered already is refused in the same words, whoever registered it',
    async () => {
      const ask = async (uri: string) =>
        (
          await service.ask(
            'beta',
            'mutation ($uri: String!) { registerInstance(input: { name: "mine", datastore: "sqlite", connectionUri: $uri }) { id } }',
            { uri },
          )
        ).text;
      assert.match(await ask(alpha.registered), /INSTANCE_EXISTS/);
      assert.equal(await ask(alpha.registered), await ask(beta.registered));
    },
  );

  await t.test("the other's idempotency key is free", async () => {
    const { data, text } = await service.ask(
      'beta',
      `mutation { recoverInstance(instanceId: "${own}", idempotencyKey: "${alpha.key}") { id } }`,
    );
    const { id } = (data?.recoverInstance ?? {}) as { id?: string };
    assert.ok(id && !theirs.includes(id), text);
    await untilState(service, 'beta', `{ recovery(id: "${id}") { state } }`, ['SUCCEEDED', 'FAILED']);
  });

  await t.test('nested pages take no cursor of the other’s', async () => {
    for (const id of theirs) {
      for (const list of ['backups', 'recoveries']) {
        const ask = (after: string) =>
          service.ask('beta', `{ instance(id: "${own}") { ${list}(after: "${after}") { id } } }`);
        const { errors, text } = await ask(id);
        assert.deepEqual(
          errors?.map(({ extensions }) => extensions?.code),
          ['INVALID_ARGUMENT'],
        );
        assert.equal(normal(text, id), normal((await ask(madeUp(id))).text, madeUp(id)));
      }
    }
  });

  const entities = schema.getQueryType()?.getFields()._entities;
  const union = entities && getNamedType(entities.type);
  for (const { name } of isUnionType(union) ? union.getTypes() : []) {
    await t.test(`references to ${name} of a federated graph`, async () => {
      for (const id of theirs) {
        const ask = async (value: string) => {
          const query = 'query ($r: [_Any!]!) { _entities(representations: $r) { __typename } }';
          return (await service.ask('beta', query, { r: [{ __typename: name, id: value }] })).text;
        };
        assert.equal(normal(await ask(id), id), normal(await ask(madeUp(id)), madeUp(id)));
      }
    });
  }

  await t.test('and the other has what it had', async () => {
    const { data } = await service.ask(
      'alpha',
      '{ instances(includeDeleted: true) { id name state } recoveries { id } }',
    );
    const { instances, recoveries } = data as unknown as Record<string, { id: string; name: string; state: string }[]>;
    assert.deepEqual(
      instances?.map(({ id }) => id),
      alpha.instances,
    );
    assert.ok(instances?.every(({ name }) => name.startsWith('alpha ')));
    assert.deepEqual(
      recoveries?.map(({ id }) => id),
      [alpha.recovery],
    );
    assert.deepEqual(instances?.map(({ state }) => state).sort(), ['ACTIVE', 'ACTIVE', 'ACTIVE', 'DELETED']);
  });
});
