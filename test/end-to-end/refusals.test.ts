/** Bad input against the real service: the exact code and argument, and nothing half made afterwards. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { link, mkdir, readdir, readFile, rename, stat, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { backUp } from '../support/recoverable.js';
import { GraphqlError, type Service, startService } from '../support/service.js';
import { TestDatabase } from '../support/sqliteDatabase.js';
import { until } from '../support/sqlitePrograms.js';

const REGISTER = 'mutation ($input: RegisterInstanceInput!) { registerInstance(input: $input) { id name endpoint } }';
const CREATE = 'mutation ($input: CreateInstanceInput!) { createInstance(input: $input) { id name endpoint } }';

interface Instance {
  id: string;
  name: string;
  endpoint: string;
}

async function register(service: Service, connectionUri: string, datastore = 'sqlite'): Promise<Instance> {
  const input = { name: 'x', datastore, connectionUri };
  return (await service.graphql<{ registerInstance: Instance }>(REGISTER, { input })).registerInstance;
}

async function create(service: Service, input: { name?: string; id?: string; datastore?: string }): Promise<Instance> {
  const given = { name: 'x', datastore: 'sqlite', ...input };
  return (await service.graphql<{ createInstance: Instance }>(CREATE, { input: given })).createInstance;
}

/** Answers with the refusal, so that its words can be looked at too. */
async function refused(call: Promise<unknown>, code: string, argument?: string): Promise<GraphqlError> {
  const error = await call.then(
    (answer) => assert.fail(`not refused: ${JSON.stringify(answer)}`),
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof GraphqlError, String(error));
  assert.equal(error.code, code, error.message);
  assert.equal(error.details.argument, argument, error.message);
  assert.doesNotMatch(error.message, /\n/);
  return error;
}

/** Everything that a refused call could have left behind. */
async function traces(service: Service): Promise<unknown> {
  const { instances } = await service.graphql('{ instances(includeDeleted: true) { id name state endpoint } }');
  // What the captures of other instances keep for themselves comes and goes.
  const within = async (name: string) =>
    (await readdir(path.join(service.home, name), { recursive: true })).filter((file) => !file.includes('log-spool/'));
  return {
    instances,
    files: [await within('instances'), await within('scratch'), await within('storage')],
    processes: service.children().length,
  };
}

async function databaseAt(file: string): Promise<string> {
  const database = await TestDatabase.open(file);
  await database.run('CREATE TABLE t (a); INSERT INTO t VALUES (1)');
  await database.close();
  return uriOf(file);
}

function uriOf(file: string): string {
  return `sqlite://${pathToFileURL(file).pathname}`;
}

/** Files of every kind that is no database which can be adopted, by what is said of them. */
async function makeUnusable(dir: string): Promise<Record<string, RegExp>> {
  const of = (name: string) => path.join(dir, name);
  await writeFile(of('text'), 'Dear diary, this is no database.\n'.repeat(50));
  await writeFile(of('encrypted'), Buffer.from(Array.from({ length: 8192 }, (_, at) => (at * 7919) % 251)));
  await writeFile(of('short'), 'SQLite format 3\0');
  await databaseAt(of('damaged'));
  const bytes = await readFile(of('damaged'));
  await writeFile(of('damaged'), bytes.fill(0xff, 100, 1000));
  execFileSync('mkfifo', [of('fifo')]);
  await symlink(of('loop'), of('loop'));
  await symlink(of('nowhere'), of('dangling'));
  await mkdir(of('directory'));
  return {
    text: /is no SQLite database/,
    encrypted: /is no SQLite database: its header is that of another format, damaged or encrypted/,
    short: /is no SQLite database/,
    damaged: /it is damaged, encrypted or no SQLite database/,
    fifo: /is not a file/,
    loop: /cannot be looked at/,
    dangling: /There is no file/,
    missing: /There is no file/,
    directory: /is not a file/,
    'text/below': /There is no file/,
  };
}

test('a connection URI that leads to no usable database is refused without a trace', async (t) => {
  const service = await startService(t);
  const dir = path.join(service.dir, 'files');
  await mkdir(dir);
  const unusable = await makeUnusable(dir);
  // The engine, which starts with the first look into a database, is there before and after.
  await create(service, {});
  const before = await traces(service);
  for (const [name, message] of Object.entries(unusable)) {
    const error = await refused(register(service, uriOf(path.join(dir, name))), 'INVALID_ARGUMENT', 'connectionUri');
    assert.match(error.message, message, name);
  }
  for (const uri of [
    'sqlite://relative/file.db',
    'sqlite:relative.db',
    'sqlite://',
    'sqlite:///',
    'sqlite://localhost/tmp/x.db',
    'sqlite:///tmp/%zz',
    'sqlite:///tmp/%00',
    `sqlite://${dir}%2Ftext`,
    `sqlite://${dir}/text?mode=ro`,
    `sqlite://${dir}/text#top`,
    'sqlite:///dev/null',
    'sqlite:///dev/zero',
    `file://${dir}/text`,
    `${dir}/text`,
    'postgresql://user:opensesame@localhost/db',
    `sqlite:///${'a'.repeat(5000)}`,
    '',
  ]) {
    const error = await refused(register(service, uri), 'INVALID_ARGUMENT', 'connectionUri');
    assert.doesNotMatch(`${error.message} ${error.hint}`, /opensesame/);
  }
  assert.deepEqual(await traces(service), before);
  assert.doesNotMatch(JSON.stringify(service.log), /opensesame|\\n\s+at /, 'neither a secret nor a stack is logged');
});

test('the same database cannot be registered twice, whatever it is called', async (t) => {
  const service = await startService(t);
  const file = path.join(service.dir, 'app.db');
  const uri = await databaseAt(file);
  await register(service, uri);
  await symlink(file, path.join(service.dir, 'symlink.db'));
  await link(file, path.join(service.dir, 'hardlink.db'));
  await symlink(service.dir, path.join(service.dir, 'here'));
  const before = await traces(service);
  for (const other of ['symlink.db', 'hardlink.db', 'here/app.db', './here/../app.db']) {
    await refused(register(service, `sqlite://${service.dir}/${other}`), 'INSTANCE_EXISTS');
  }
  await refused(register(service, uri.replace('app', '%61pp')), 'INSTANCE_EXISTS');
  assert.deepEqual(await traces(service), before);
});

test('a database whose file was replaced is still the one that is registered, and the old file’s number anybody’s', async (t) => {
  const service = await startService(t);
  const file = path.join(service.dir, 'app.db');
  const uri = await databaseAt(file);
  const { id } = await register(service, uri);
  const { ino } = await stat(file);
  const catalog = await TestDatabase.open(path.join(service.home, 'catalog.db'));
  t.after(() => catalog.close());
  const known = async () => (await catalog.all(`SELECT identity FROM instances WHERE id = '${id}'`))[0]?.identity;
  const before = await known();
  await databaseAt(`${file}.new`);
  const fresh = await TestDatabase.open(`${file}.new`);
  await fresh.run('PRAGMA journal_mode=WAL');
  await fresh.close();
  await rename(`${file}.new`, file);
  await refused(register(service, uri), 'INSTANCE_EXISTS');
  await until('the capture has met the other file', async () => (await known()) !== before);
  await refused(register(service, uri), 'INSTANCE_EXISTS');
  // Most filesystems give a number that is free to one of the next files.
  for (let i = 0; i < 20; i++) {
    const other = path.join(service.dir, `other-${i}.db`);
    await register(service, await databaseAt(other));
    if ((await stat(other)).ino === ino) break;
  }
});

test('a path with blanks, umlauts, %, # and ? is adopted under its one canonical spelling', async (t) => {
  const service = await startService(t);
  const file = path.join(service.dir, 'my ä%#?.db');
  const uri = await databaseAt(file);
  assert.equal((await register(service, uri)).endpoint, uri);
});

test("the service's own files cannot be registered, by any path or link", async (t) => {
  const service = await startService(t);
  const { endpoint } = await create(service, {});
  await link(path.join(service.home, 'catalog.db'), path.join(service.dir, 'catalog-link.db'));
  await symlink(path.join(service.home, 'lock.db'), path.join(service.dir, 'lock-link.db'));
  const before = await traces(service);
  const { home, dir } = service;
  for (const file of [`${home}/catalog.db`, `${home}/lock.db`, `${home}/secret.key`, `${home}/../home/catalog.db`]) {
    await refused(register(service, `sqlite://${file}`), 'INVALID_ARGUMENT', 'connectionUri');
  }
  for (const file of ['catalog-link.db', 'lock-link.db']) {
    await refused(register(service, `sqlite://${dir}/${file}`), 'INVALID_ARGUMENT', 'connectionUri');
  }
  await refused(register(service, endpoint), 'INVALID_ARGUMENT', 'connectionUri');
  assert.deepEqual(await traces(service), before);
});

test('ids and names', async (t) => {
  const service = await startService(t);
  const before = await traces(service);
  for (const id of ['', '.', '..', 'a/b', '../x', 'é', 'a b', 'a'.repeat(129)]) {
    await refused(create(service, { id }), 'INVALID_ARGUMENT', 'id');
  }
  for (const name of ['', '  ', 'a\0b', 'a\nb', '\ud800', 'a'.repeat(256), '😀'.repeat(256)]) {
    await refused(create(service, { name }), 'INVALID_ARGUMENT', 'name');
  }
  for (const datastore of ['mariadb', 'mysql', 'oracle', 'SQLite', '__proto__', 'toString']) {
    const error = await refused(create(service, { datastore }), 'DATASTORE_NOT_SUPPORTED', 'datastore');
    assert.match(String(error.hint), /sqlite/);
    await refused(register(service, 'sqlite:///tmp/x.db', datastore), 'DATASTORE_NOT_SUPPORTED', 'datastore');
  }
  assert.deepEqual(await traces(service), before);

  assert.equal((await create(service, { name: ` ${'😀'.repeat(255)} ` })).name, '😀'.repeat(255));
  for (const id of ['a', ':', '...', '-', '_a', 'urn:orders:7', 'a'.repeat(128)]) {
    assert.equal((await create(service, { id })).id, id);
    await refused(create(service, { id }), 'INSTANCE_EXISTS');
  }
  // Ids become parts of the names of stored objects: one that storage refuses would show here.
  for (const id of ['...', '-', '_a', 'a'.repeat(128)]) await backUp(service, id);
});

test('arguments of queries and mutations on an instance', async (t) => {
  const service = await startService(t);
  const { id } = await create(service, {});
  const ask = (query: string, variables: Record<string, unknown> = {}) => service.graphql(query, variables);
  for (const type of ['DIFFERENTIAL', 'INCREMENTAL']) {
    const take = 'mutation ($id: ID!, $type: BackupType!) { takeBackup(instanceId: $id, type: $type) { id } }';
    const error = await refused(ask(take, { id, type }), 'NO_BACKUP');
    assert.match(String(error.hint), /FULL/);
  }
  for (const first of [0, -1, 501, 2_147_483_647]) {
    await refused(
      ask('query ($first: Int!) { instances(first: $first) { id } }', { first }),
      'INVALID_ARGUMENT',
      'first',
    );
  }
  const plan = (at: string) =>
    ask('query ($id: ID!, $at: DateTime) { recoveryPlan(instanceId: $id, pointInTime: $at) { fault { code } } }', {
      id,
      at,
    });
  for (const at of [
    'now',
    '',
    '2026-11-22',
    '2026-11-22T10:00:00',
    '2026-11-22T10:00:00.1234567Z',
    '2026-02-30T00:00:00Z',
    '1969-12-31T23:59:59Z',
  ]) {
    await refused(plan(at), 'INVALID_POINT_IN_TIME');
    const literal = `{ recoveryPlan(instanceId: "${id}", pointInTime: ${JSON.stringify(at)}) { fault { code } } }`;
    await refused(ask(literal), 'INVALID_POINT_IN_TIME');
  }
  for (const unknown of ['nobody', '..', 'a/b', ' ', 'x'.repeat(1000)]) {
    const variables = { id: unknown };
    await refused(ask('query ($id: ID!) { backups(instanceId: $id) { id } }', variables), 'INSTANCE_NOT_FOUND');
    await refused(
      ask('query ($id: ID!) { recoveryPlan(instanceId: $id) { fault { code } } }', variables),
      'INSTANCE_NOT_FOUND',
    );
    await refused(
      ask('mutation ($id: ID!) { recoverInstance(instanceId: $id) { id } }', variables),
      'INSTANCE_NOT_FOUND',
    );
    await refused(ask('mutation ($id: ID!) { takeBackup(instanceId: $id) { id } }', variables), 'INSTANCE_NOT_FOUND');
    await refused(ask('mutation ($id: ID!) { deleteInstance(id: $id) { id } }', variables), 'INSTANCE_NOT_FOUND');
    await refused(ask('mutation ($id: ID!) { deleteBackup(id: $id) { id } }', variables), 'BACKUP_NOT_FOUND');
    await refused(ask('mutation ($id: ID!) { cancelRecovery(id: $id) { id } }', variables), 'RECOVERY_NOT_FOUND');
    const none = await ask(
      'query ($id: ID!) { instance(id: $id) { id } backup(id: $id) { id } recovery(id: $id) { id } }',
      variables,
    );
    assert.deepEqual(none, { instance: null, backup: null, recovery: null });
  }
  await refused(ask('mutation ($id: ID!) { recoverInstance(instanceId: $id) { id } }', { id }), 'NO_BACKUP');
  const both =
    'mutation ($id: ID!) { recoverInstance(instanceId: $id, pointInTime: "2026-11-22T10:00:00Z", position: "1/1") { id } }';
  await refused(ask(both, { id }), 'INVALID_ARGUMENT', 'position');
});
