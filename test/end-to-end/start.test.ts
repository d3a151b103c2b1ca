/** Starting: settings, the home directory, a second service on it, and what is said when it does not work. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { scratchDir } from '../support/scratch.js';
import { processesOf, startService } from '../support/service.js';
import { TestDatabase } from '../support/sqliteDatabase.js';
import { until } from '../support/sqlitePrograms.js';
import { startFlags } from '../support/startFlags.js';

const MAIN = fileURLToPath(new URL('../../src/main.js', import.meta.url));

interface Ended {
  code: number | null;
  out: string;
  err: string;
}

/** Runs the service until it ends by itself; it is killed where it does not. */
async function runToEnd(env: Record<string, string>): Promise<Ended> {
  const child = spawn(process.execPath, [...startFlags, MAIN], {
    env: { ...process.env, PORT: '0', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: 30_000,
    killSignal: 'SIGKILL',
  });
  const ended: Ended = { code: null, out: '', err: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    ended.out += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    ended.err += text;
  });
  [ended.code] = await once(child, 'close');
  return ended;
}

function assertRefused(ended: Ended, expected: RegExp): void {
  assert.match(ended.err, expected);
  assert.doesNotMatch(ended.err, /\n\s+at /, 'no stack for what an operator can mend');
  assert.equal(ended.out, '');
  assert.equal(ended.code, 1);
}

test('refuses unusable settings before anything is made', async (t) => {
  const dir = await scratchDir(t);
  const ended = await runToEnd({ PITR_HOME: path.join(dir, 'home'), PORT: 'abc', LOG_LEVEL: 'loud' });
  assertRefused(ended, /^These settings are not usable:\n {2}PORT: must be .*\n {2}LOG_LEVEL: must be .*\n$/);
  const exposed = await runToEnd({ PITR_HOME: path.join(dir, 'home'), HOST: '0.0.0.0' });
  assertRefused(exposed, /^These settings are not usable:\n {2}HOST: only loopback .*\n$/);
  assert.deepEqual(await readdir(dir), []);
});

test('the first start makes a home that others can neither list nor read', async (t) => {
  const service = await startService(t);
  const modes = new Map<string, string>();
  for (const name of await readdir(service.home, { recursive: true })) {
    const { mode } = await stat(path.join(service.home, name));
    modes.set(name, (mode & 0o777).toString(8));
  }
  for (const file of ['catalog.db', 'lock.db', 'secret.key', 'service.json'])
    assert.equal(modes.get(file), '600', file);
  assert.equal(modes.get('storage'), '700');
  for (const [name, mode] of modes) assert.match(mode, /^[67][01][01]$/, `${name} has mode ${mode}`);
  assert.equal(((await stat(service.home)).mode & 0o777).toString(8), '711');
});

test('refuses a home that is somebody else’s directory, and leaves its mode alone', async (t) => {
  const dir = await scratchDir(t);
  await writeFile(path.join(dir, 'thesis.txt'), 'precious');
  await chmod(dir, 0o755);
  assertRefused(await runToEnd({ PITR_HOME: dir }), /holds files that are not pitr-gateway's.*\n.*Set PITR_HOME/);
  assert.deepEqual(await readdir(dir), ['thesis.txt']);
  assert.equal((await stat(dir)).mode & 0o777, 0o755);
});

test('says what is wrong with a home that cannot be made', async (t) => {
  const dir = await scratchDir(t);
  const file = path.join(dir, 'file');
  await writeFile(file, '');
  assertRefused(await runToEnd({ PITR_HOME: file }), /PITR_HOME has to be a directory/);
  assertRefused(await runToEnd({ PITR_HOME: path.join(file, 'home') }), /PITR_HOME has to be a directory/);
  // Not even root can make a directory there.
  assertRefused(await runToEnd({ PITR_HOME: '/proc/pitr/home' }), /Set PITR_HOME to a directory that can be made/);
});

test('says that the port is taken', async (t) => {
  const dir = await scratchDir(t);
  const holder = createServer().listen(0, '127.0.0.1');
  t.after(() => holder.close());
  await once(holder, 'listening');
  const { port } = holder.address() as { port: number };
  const ended = await runToEnd({ PITR_HOME: path.join(dir, 'home'), PORT: String(port) });
  assert.match(
    ended.err,
    new RegExp(`^pitr-gateway did not start: .*127\\.0\\.0\\.1:${port}.*\\n.*set PORT to a free`),
  );
  assert.doesNotMatch(ended.err, /\n\s+at /);
  assert.equal(ended.code, 1);
  assert.deepEqual(processesOf(dir), []);
});

test('a second service on the same home is told who holds it; after kill -9 a new one starts at once', async (t) => {
  const service = await startService(t);
  const ended = await runToEnd({ PITR_HOME: service.home });
  assertRefused(ended, new RegExp(`is in use by another pitr-gateway \\(process ${service.pid} at ${service.url}, `));
  await service.graphql('{ instances { id } }');
  await service.restart();
  await service.graphql('{ instances { id } }');
});

test('a catalog of a newer version is refused unchanged', async (t) => {
  const service = await startService(t);
  assert.equal(await service.stop(), 0);
  const file = path.join(service.home, 'catalog.db');
  const database = await TestDatabase.open(file);
  await database.run("INSERT INTO catalog_migrations (timestamp, name) VALUES (99999999999999, 'Later9')");
  await database.close();
  const before = await readFile(file);
  const ended = await runToEnd({ PITR_HOME: service.home });
  assertRefused(ended, /was written by a newer version \(Later9\)\.\n.*Start the version that wrote it/);
  assert.deepEqual(await readFile(file), before);
});

test('a lost key is not replaced by a new one', async (t) => {
  const service = await startService(t);
  await service.stop();
  const key = path.join(service.home, 'secret.key');
  const bytes = await readFile(key);
  await rm(key);
  assertRefused(await runToEnd({ PITR_HOME: service.home }), /secret\.key is missing\.\n.*Put the key back/);
  await assert.rejects(stat(key), { code: 'ENOENT' });
  await writeFile(key, bytes.subarray(1));
  assertRefused(await runToEnd({ PITR_HOME: service.home }), /secret\.key is no key/);
  await writeFile(key, Buffer.alloc(32, 7));
  assertRefused(await runToEnd({ PITR_HOME: service.home }), /The secret key is not the one/);
  await writeFile(key, bytes);
  await service.start();
  await service.graphql('{ instances { id } }');
});

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  test(`${signal} ends the service and all that it started, with exit code 0`, async (t) => {
    const service = await startService(t);
    await service.graphql('mutation { createInstance(input: { name: "a", datastore: "sqlite" }) { id } }');
    assert.equal(service.children().length, 1, 'the engine runs');
    process.kill(service.pid ?? 0, signal);
    assert.equal(await service.gone(), 0);
    await until('every process has ended', () => processesOf(service.dir).length === 0);
    assert.deepEqual((await readdir(service.home)).sort(), [
      'catalog.db',
      'instances',
      'lock.db',
      'scratch',
      'secret.key',
      'storage',
    ]);
    assert.equal(service.stderr, '');
  });
}
