/** The playground as it is served: its page, its policy, and that everything it names is there. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gatewayUnderTest } from '../support/gatewayUnderTest.js';

const headers = { connection: 'close' };

test('the page comes with its policy and holds no inline script', async (t) => {
  const { url } = await gatewayUnderTest(t);
  const page = await fetch(`${url}/`, { headers });
  assert.equal(page.status, 200);
  assert.match(page.headers.get('content-type') ?? '', /^text\/html/);
  const policy = page.headers.get('content-security-policy') ?? '';
  assert.equal(
    policy,
    "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self' 'unsafe-inline'; font-src 'self' data:; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  );
  const html = await page.text();
  assert.doesNotMatch(html, /<script(?![^>]*\bsrc=)|\son\w+=|https?:/);
  const etag = page.headers.get('etag') ?? '';
  const again = await fetch(`${url}/`, { headers: { ...headers, 'if-none-match': etag } });
  assert.equal(again.status, 304);
});

test('everything the page can come to load is served from here, the workers too', async (t) => {
  const { url } = await gatewayUnderTest(t);
  const html = await (await fetch(`${url}/`, { headers })).text();
  // Scripts, chunks, workers, stylesheets and fonts all carry a hash in their names.
  const assetNames = /[\w.-]+-[A-Z0-9]{8}\.(?:js|css|ttf)/g;
  const waiting = html.match(assetNames) ?? [];
  assert.equal(waiting.length, 2, html);
  const found = new Set<string>();
  let sources = '';
  for (let name = waiting.pop(); name !== undefined; name = waiting.pop()) {
    if (found.has(name)) continue;
    found.add(name);
    const asset = await fetch(`${url}/playground/${name}`, { headers });
    assert.equal(asset.status, 200, name);
    const types = { js: /^text\/javascript/, css: /^text\/css/, ttf: /^font\/ttf/ };
    assert.match(asset.headers.get('content-type') ?? '', types[name.split('.').at(-1) as keyof typeof types], name);
    assert.match(asset.headers.get('cache-control') ?? '', /immutable/);
    assert.equal(asset.headers.get('x-content-type-options'), 'nosniff');
    const source = await asset.text();
    waiting.push(...(source.match(assetNames) ?? []));
    sources += source;
  }
  assert.equal([...found].filter((name) => /^(?:editor|json|graphql)\.worker-/.test(name)).length, 3);
  for (const operation of ['query Instances', 'mutation RecoverInstance', 'subscription RecoveryProgress']) {
    assert.ok(sources.includes(operation), operation);
  }
});

test('nothing but its own files is served', async (t) => {
  const { url } = await gatewayUnderTest(t);
  for (const path of [
    '/playground/..%2findex.html',
    '/playground/inputs.sha256',
    '/playground/nothing.js',
    '/playground/',
  ]) {
    assert.equal((await fetch(`${url}${path}`, { headers })).status, 404, path);
  }
});
