/** Which files may be registered, by whom; and that the refusal says nothing about what is there. */
import assert from 'node:assert/strict';
import { mkdir, realpath, rename, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { FileBounds } from '../../src/instances/fileBounds.js';
import { scratchDir } from '../support/scratch.js';
import { type ServiceUnderTest, serviceUnderTest, untilState } from '../support/serviceUnderTest.js';
import { TestDatabase } from '../support/sqliteDatabase.js';

test('a tenant stays in its directory, links included, and out of the service’s own', async (t) => {
  const root = await scratchDir(t);
  for (const directory of ['home', 'files/shop', 'files/shop/sub', 'files/shopping']) {
    await mkdir(path.join(root, directory), { recursive: true });
  }
  for (const file of ['home/catalog.db', 'files/shop/a.db', 'files/shopping/b.db'])
    await writeFile(path.join(root, file), '');
  await symlink(path.join(root, 'files/shopping/b.db'), path.join(root, 'files/shop/link.db'));
  await symlink(path.join(root, 'files/shopping'), path.join(root, 'files/shop/way'));
  await symlink(path.join(root, 'home'), path.join(root, 'files/shop/home'));
  await symlink(path.join(root, 'files/shop/a.db'), path.join(root, 'files/shop/inner.db'));
  const home = path.join(root, 'home');
  const bounds = {
    tenant: new FileBounds({ allowed: path.join(root, 'files/{tenant}'), home }),
    nothing: new FileBounds({ allowed: null, home }),
    all: new FileBounds({ allowed: '*', home }),
  };
  const cases: [which: keyof typeof bounds, uri: string, allowed: boolean][] = [
    ['tenant', 'sqlite://ROOT/files/shop/a.db', true],
    ['tenant', 'sqlite://ROOT/files/shop/none.db', true],
    ['tenant', 'sqlite://ROOT/files/shop/inner.db', true],
    ['tenant', 'sqlite://ROOT/files/shop/..a.db', true],
    ['tenant', 'sqlite://ROOT/files/shopping/b.db', false],
    ['tenant', 'sqlite://ROOT/files/shopping/none.db', false],
    ['tenant', 'sqlite://ROOT/files/shop/../shopping/b.db', false],
    ['tenant', 'sqlite://ROOT/files/shop/%2e%2e/shopping/b.db', false],
    ['tenant', 'sqlite://ROOT/files/shop/link.db', false],
    ['tenant', 'sqlite://ROOT/files/shop/way/b.db', false],
    ['tenant', 'sqlite://ROOT/files/shop/home/catalog.db', false],
    ['tenant', 'SQLITE:///etc/passwd', false],
    ['tenant', 'postgresql://user@host/etc', true],
    ['nothing', 'sqlite://ROOT/files/shop/a.db', false],
    ['nothing', 'postgresql://user@host/db', true],
    ['all', 'sqlite://ROOT/files/shopping/b.db', true],
    ['all', 'sqlite://ROOT/home/catalog.db', false],
    ['all', 'sqlite://ROOT/files/shop/home/catalog.db', false],
  ];
  for (const [which, uri, allowed] of cases) {
    const check = bounds[which].check('shop', uri.replace('ROOT', root));
    if (allowed) await check;
    else await assert.rejects(check, /Files there may not be registered/, uri);
  }
});

test('over the API a foreign file and none at all are answered alike', async (t) => {
  const outside = await scratchDir(t);
  await writeFile(path.join(outside, 'there.db'), '');
  const service = await serviceUnderTest(t, ['shop']);
  const register = async (file: string) => {
    const query = `mutation ($uri: String!) { registerInstance(input: { name: "n", datastore: "sqlite", connectionUri: $uri }) { id } }`;
    return (await service.ask('shop', query, { uri: `sqlite://${file}` })).text;
  };
  const refused = await register(path.join(outside, 'there.db'));
  assert.match(refused, /INVALID_ARGUMENT.*PITR_REGISTER_FILES|PITR_REGISTER_FILES/);
  assert.equal(refused, await register(path.join(outside, 'nowhere.db')));
  assert.equal(refused, await register(path.join(service.directory, 'home/catalog.db')));
});

/** `whole`: the directory is replaced by a link, and not only the file. */
for (const whole of [false, true]) {
  test(`a registered ${whole ? 'directory' : 'file'} that becomes a link is not followed to somebody else's database`, async (t) => {
    const root = await tenantsFiles(t);
    const service = await serviceUnderTest(t, ['shop', 'rival'], { PITR_REGISTER_FILES: path.join(root, '{tenant}') });
    const id = await registered(service, 'shop', path.join(root, 'shop/sub/a.db'));
    await backedUp(service, id, 'COMPLETED');
    const [moved, target] = whole ? ['shop/sub', 'rival/sub'] : ['shop/sub/a.db', 'rival/sub/a.db'];
    await rename(path.join(root, moved), path.join(root, `${moved}.old`));
    await symlink(path.join(root, target), path.join(root, moved));
    const query = `{ instance(id: "${id}") { logArchive { healthy message } } }`;
    for (const deadline = Date.now() + 30_000; ; await delay(50)) {
      const { data, text } = await service.ask('shop', query);
      const { logArchive } = (data as { instance: { logArchive: { healthy: boolean; message: string } } }).instance;
      if (!logArchive.healthy && /is a link now/.test(logArchive.message)) break;
      assert.ok(Date.now() < deadline, text);
    }
  });
}

/** Directories of two tenants, a database in each. */
async function tenantsFiles(t: Parameters<typeof scratchDir>[0]): Promise<string> {
  const root = await realpath(await scratchDir(t));
  for (const tenant of ['shop', 'rival']) {
    await mkdir(path.join(root, tenant, 'sub'), { recursive: true });
    const database = await TestDatabase.open(path.join(root, tenant, 'sub/a.db'));
    await database.run('CREATE TABLE t (a)');
    await database.close();
  }
  return root;
}

async function registered(service: ServiceUnderTest, tenant: string, file: string): Promise<string> {
  const query =
    'mutation ($uri: String!) { registerInstance(input: { name: "n", datastore: "sqlite", connectionUri: $uri }) { id } }';
  const { data, text } = await service.ask(tenant, query, { uri: `sqlite://${file}` });
  assert.ok(data?.registerInstance, text);
  return (data.registerInstance as { id: string }).id;
}

async function backedUp(service: ServiceUnderTest, instance: string, state: string): Promise<void> {
  const { data, text } = await service.ask('shop', `mutation { takeBackup(instanceId: "${instance}") { id } }`);
  assert.ok(data?.takeBackup, text);
  await untilState(service, 'shop', `{ backup(id: "${(data.takeBackup as { id: string }).id}") { state } }`, [state]);
}
