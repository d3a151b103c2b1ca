/** Static tokens: good, bad, added and taken back, over real HTTP; and the files that are refused. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { appendFile, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { parseTokens } from '../../../src/gateway/identity/staticTokens.js';
import { askWith, bearer, identifiedGateway, trusting } from '../../support/identified.js';
import { startIssuer } from '../../support/issuer.js';
import { scratchDir } from '../../support/scratch.js';

const sha256 = (token: string) => createHash('sha256').update(token).digest('hex');
const line = (token: string, more: object = {}) =>
  `${JSON.stringify({ name: 'ci', tenant: 'shop', role: 'admin', sha256: sha256(token), ...more })}\n`;

/** Fails after ten seconds. */
async function eventually(what: string, holds: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!(await holds())) {
    assert.ok(performance.now() < deadline, what);
    await delay(50);
  }
}

const until = (status: number, ask: () => Promise<{ status: number }>) =>
  eventually(`no answer with status ${status}`, async () => (await ask()).status === status);

test('tokens work while they are in the file, without a restart', async (t) => {
  const tokensFile = path.join(await scratchDir(t), 'tokens');
  await writeFile(tokensFile, `# machines\n\n${line('one')}`);
  const gateway = await identifiedGateway(t, { tokensFile });
  const ask = (token: string) => askWith(gateway, bearer(token));
  assert.equal((await ask('one')).status, 200);
  assert.equal((await askWith(gateway, { 'x-auth-token': 'one' })).status, 200);
  for (const bad of ['two', 'One', 'one1', sha256('one')]) assert.equal((await ask(bad)).status, 401, bad);
  assert.equal((await askWith(gateway, {})).status, 401);
  const rest = async (headers: Record<string, string>) =>
    (await fetch(`${gateway.url}/v1.0/shop/instances`, { headers: { connection: 'close', ...headers } })).status;
  assert.deepEqual([await rest({ 'x-auth-token': 'one' }), await rest(bearer('one'))], [200, 200]);
  assert.deepEqual([await rest({ 'x-auth-token': 'two' }), await rest({})], [401, 401]);

  await appendFile(tokensFile, line('two', { role: 'reader' }));
  await until(200, () => ask('two'));
  assert.equal(
    (await askWith(gateway, bearer('two'), 'mutation { deleteBackup(id: "full") { id } }')).code,
    'FORBIDDEN',
  );

  await writeFile(`${tokensFile}.new`, line('two'));
  await rename(`${tokensFile}.new`, tokensFile);
  await until(401, () => ask('one'));
  assert.equal((await ask('two')).status, 200);

  await rm(tokensFile);
  await until(401, () => ask('two'));
});

test('half an edit locks nobody out, and says so in the log without the line', async (t) => {
  const directory = await scratchDir(t);
  const tokensFile = path.join(directory, 'tokens');
  await writeFile(tokensFile, line('one'));
  const gateway = await identifiedGateway(t, { tokensFile });
  await writeFile(tokensFile, `${line('two')}pitr_pasted-by-mistake\n`);
  const read = () => gateway.identityLog.find((logged) => logged.includes('tokens not read'));
  await eventually('the file was not looked at', async () => read() !== undefined);
  assert.match(read() ?? '', /Line 2/);
  assert.doesNotMatch(read() ?? '', /pasted/);
  assert.equal((await askWith(gateway, bearer('one'))).status, 200);
  await writeFile(tokensFile, line('two'));
  await until(200, () => askWith(gateway, bearer('two')));
  assert.equal((await askWith(gateway, bearer('one'))).status, 401);
});

test('what a file may not hold is named by its line, and never shown', () => {
  const good = { name: 'ci', tenant: 'shop', role: 'admin', sha256: sha256('x') };
  for (const [change, said] of [
    [{ name: '' }, /line 2.*name/i],
    [{ tenant: '../x' }, /line 2.*tenant/i],
    [{ role: 'root' }, /line 2.*role/i],
    [{ role: ['admin'] }, /line 2.*role/i],
    [{ sha256: 'pitr_secret' }, /line 2.*sha256/i],
    [{ sha256: sha256('x').toUpperCase() }, /line 2.*sha256/i],
  ] as const) {
    assert.throws(() => parseTokens(`# comment\n${JSON.stringify({ ...good, ...change })}\n`), said);
  }
  assert.throws(
    () => parseTokens('pitr_secret'),
    (error: Error) => /Line 1.*no JSON object/.test(error.message) && !error.message.includes('secret'),
  );
  assert.throws(() => parseTokens('null'), /Line 1/);
  assert.deepEqual(parseTokens(' \n#\n'), []);
});

test('scripts/make-token.mjs makes a line for the file and a token that fits it', async (t) => {
  const script = path.resolve(import.meta.dirname, '../../../../scripts/make-token.mjs');
  const run = (...args: string[]) => promisify(execFile)(process.execPath, [script, ...args]);
  const { stdout, stderr } = await run('--name', 'nightly', '--tenant', 'shop', '--role', 'operator');
  const token = /^pitr_\S{43}$/m.exec(stderr)?.[0] ?? '';
  assert.ok(!stdout.includes(token) && token);
  const tokensFile = path.join(await scratchDir(t), 'tokens');
  await writeFile(tokensFile, stdout);
  const gateway = await identifiedGateway(t, { tokensFile });
  assert.equal((await askWith(gateway, bearer(token))).status, 200);
  await assert.rejects(run('--name', 'x', '--tenant', 'shop', '--role', 'root'), /role/);
});

test('both kinds at once', async (t) => {
  const issuer = await startIssuer(t);
  const tokensFile = path.join(await scratchDir(t), 'tokens');
  await writeFile(tokensFile, line('one'));
  const gateway = await identifiedGateway(t, { tokensFile, issuer: trusting(issuer) });
  assert.equal((await askWith(gateway, bearer('one'))).status, 200);
  assert.equal((await askWith(gateway, bearer(await issuer.token()))).status, 200);
  assert.equal((await askWith(gateway, bearer('two'))).status, 401);
});
