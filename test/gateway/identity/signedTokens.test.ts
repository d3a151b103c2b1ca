/** Signed tokens over real HTTP, from a real issuer on loopback. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SignJWT } from 'jose';
import { instanceRow } from '../../support/gatewayRows.js';
import { askWith, bearer, identifiedGateway, trusting } from '../../support/identified.js';
import { startIssuer } from '../../support/issuer.js';

const seconds = (from: number) => Math.floor(Date.now() / 1000) + from;
const base64 = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');

test('a good token says who is asking, in every way of carrying it', async (t) => {
  const issuer = await startIssuer(t);
  const gateway = await identifiedGateway(t, { issuer: trusting(issuer) });
  const callers: unknown[] = [];
  gateway.services.instances.list = async (caller) => {
    callers.push(caller);
    return [instanceRow()];
  };
  const token = await issuer.token({ role: 'operator' });
  for (const headers of [
    bearer(token),
    { authorization: `bearer  ${token}` },
    { 'x-auth-token': token },
    { ...bearer(token), 'x-auth-token': token },
  ]) {
    assert.deepEqual(await askWith(gateway, headers), { status: 200, code: null, message: null, challenge: null });
  }
  const caller = { tenantId: 'shop', role: 'operator', name: 'somebody' };
  assert.deepEqual(callers, [caller, caller, caller, caller]);
  assert.equal(issuer.fetches, 1);
  assert.match(JSON.stringify(gateway.log), /"tenant":"shop","role":"operator","by":"somebody"/);
  assert.doesNotMatch(JSON.stringify(gateway.log), new RegExp(token.slice(-20)));
});

test('anything else is UNAUTHENTICATED, and all of it sounds the same', async (t) => {
  const issuer = await startIssuer(t);
  const stranger = await startIssuer(t);
  const gateway = await identifiedGateway(t, { issuer: trusting(issuer) });
  const good = await issuer.token();
  const [header, payload, signature] = good.split('.');
  const symmetric = async (alg: string) =>
    new SignJWT({ tenant: 'shop', role: 'admin' })
      .setProtectedHeader({ alg, kid: 'key-1' })
      .setIssuer(issuer.url)
      .setAudience(issuer.audience)
      .setExpirationTime('1m')
      .sign(Buffer.from(await issuer.publicKey()));
  const bad: Record<string, string> = {
    'not a token': 'token',
    'another issuer’s key under the same name': await stranger.token({ iss: issuer.url }),
    'wrong issuer': await issuer.token({ iss: `${issuer.url}/` }),
    'no issuer': await issuer.token({ iss: undefined }),
    'wrong audience': await issuer.token({ aud: 'another-service' }),
    'no audience': await issuer.token({ aud: undefined }),
    'not yet valid': await issuer.token({ nbf: seconds(30) }),
    'no end': await issuer.token({ exp: undefined }),
    'alg none': `${base64({ alg: 'none' })}.${payload}.`,
    'alg none with a signature': `${base64({ alg: 'none', kid: 'key-1' })}.${payload}.${signature}`,
    'HS256 with the public key as the secret': await symmetric('HS256'),
    'HS512 with the public key as the secret': await symmetric('HS512'),
    'an algorithm that the key is not for': `${base64({ alg: 'RS256', kid: 'key-1' })}.${payload}.${signature}`,
    'unknown kid': await issuer.token({}, { kid: 'key-99' }),
    'changed claims': `${header}.${base64({ iss: issuer.url, aud: issuer.audience, exp: seconds(60), tenant: 'shop', role: 'admin' })}.${signature}`,
    'a critical header nobody knows': `${base64({ alg: 'ES256', kid: 'key-1', crit: ['b64'], b64: false })}.${payload}.${signature}`,
    'far too long': 'x'.repeat(17_000 - 8_000).repeat(2),
  };
  assert.equal((await askWith(gateway, bearer(good))).status, 200);
  for (const [what, token] of Object.entries(bad)) {
    const answer = await askWith(gateway, bearer(token)).catch(() => null);
    // Node itself refuses headers above 16 KiB.
    if (what === 'far too long') {
      assert.ok(answer === null || answer.status >= 400, what);
      continue;
    }
    assert.deepEqual(
      answer,
      { status: 401, code: 'UNAUTHENTICATED', message: 'The token is not valid', challenge: 'Bearer' },
      what,
    );
  }
  const expired = await askWith(gateway, bearer(await issuer.token({ exp: seconds(-1) })));
  assert.deepEqual([expired.status, expired.code, expired.message], [401, 'UNAUTHENTICATED', 'The token has expired']);
  // What was wrong stands in the service's log.
  assert.match(JSON.stringify(gateway.log), /unexpected \\"aud\\" claim value/);
});

test('no token, two tokens, and what is no bearer token', async (t) => {
  const issuer = await startIssuer(t);
  const gateway = await identifiedGateway(t, { issuer: trusting(issuer) });
  const token = await issuer.token();
  const attempts: Record<string, string>[] = [
    {},
    { authorization: token },
    { authorization: `Basic ${btoa('a:b')}` },
    { authorization: 'Bearer ' },
    { authorization: `Bearer ${token} ${token}` },
    { 'x-auth-token': '' },
    { ...bearer(token), 'x-auth-token': await issuer.token({ role: 'admin' }) },
  ];
  for (const headers of attempts) {
    const { status, code, challenge } = await askWith(gateway, headers);
    assert.deepEqual([status, code, challenge], [401, 'UNAUTHENTICATED', 'Bearer'], JSON.stringify(headers));
  }
  assert.deepEqual(gateway.services.calls, []);
  assert.equal((await fetch(`${gateway.url}/healthz`)).status, 200);
  assert.equal((await fetch(`${gateway.url}/`)).status === 401, false, 'the page itself holds nothing');
});

test('the clock tolerance, and the claims by other names', async (t) => {
  const issuer = await startIssuer(t);
  const settings = trusting(issuer, {
    clockToleranceSeconds: 60,
    audience: ['other', issuer.audience],
    tenantClaim: 'https://example.com/tenant',
    roleClaim: 'realm_access.roles',
  });
  const gateway = await identifiedGateway(t, { issuer: settings });
  const claims = { 'https://example.com/tenant': 'shop', realm_access: { roles: ['offline', 'reader', 'operator'] } };
  const cancel = 'mutation { cancelRecovery(id: "rescue") { id } }';
  const create = 'mutation { deleteBackup(id: "full") { id } }';
  const token = await issuer.token({ ...claims, exp: seconds(-30), role: 'admin' });
  assert.equal((await askWith(gateway, bearer(token), cancel)).code, null, 'the highest of the listed roles');
  assert.equal((await askWith(gateway, bearer(token), create)).code, 'FORBIDDEN', 'and no other claim');
  assert.equal((await askWith(gateway, bearer(await issuer.token({ ...claims, exp: seconds(-90) })))).status, 401);
  assert.equal((await askWith(gateway, bearer(await issuer.token({ ...claims, nbf: seconds(30) })))).status, 200);
});

test('a good token without a tenant or a role here is FORBIDDEN', async (t) => {
  const issuer = await startIssuer(t);
  const gateway = await identifiedGateway(t, { issuer: trusting(issuer) });
  for (const claims of [
    { tenant: undefined },
    { tenant: '' },
    { tenant: 7 },
    { tenant: '../shop' },
    { tenant: ['shop'] },
    { role: undefined },
    { role: 'root' },
    { role: ['Admin'] },
    { role: { admin: true } },
  ]) {
    const { status, code } = await askWith(gateway, bearer(await issuer.token(claims)));
    assert.deepEqual([status, code], [403, 'FORBIDDEN'], JSON.stringify(claims));
  }
});

test('a new key works at once, one that was withdrawn does not come back, and outages are lived through', async (t) => {
  const issuer = await startIssuer(t);
  const gateway = await identifiedGateway(t, { issuer: trusting(issuer, { fetchTimeoutMs: 500 }) });
  const first = await issuer.token();
  const ask = async (token: string) => (await askWith(gateway, bearer(token))).status;
  assert.equal(await ask(first), 200);
  await issuer.rotate(true);
  const second = await issuer.token();
  assert.equal(await ask(second), 200);
  assert.equal(await ask(first), 200);

  for (const trouble of ['down', 'hangs', 'lies'] as const) {
    issuer.behave(trouble);
    await issuer.rotate(true);
    assert.equal(await ask(await issuer.token()), 401, 'a key that nobody can ask about');
    assert.equal(await ask(second), 200, 'the keys that are here go on working');
    issuer.behave('well');
    assert.equal(await ask(await issuer.token()), 200);
  }

  await issuer.rotate(false);
  assert.equal(await ask(await issuer.token()), 200);
  assert.equal(await ask(first), 401);
});

test('invented keys cost the issuer nothing, and a service that starts during an outage recovers from it', async (t) => {
  const issuer = await startIssuer(t);
  const careful = await identifiedGateway(t, { issuer: trusting(issuer, { fetchAtMostEveryMs: 60_000 }) });
  const statuses = await Promise.all(
    Array.from({ length: 20 }, async (_, n) =>
      askWith(careful, bearer(await issuer.token({}, { kid: `made-up-${n}` }))),
    ),
  );
  assert.deepEqual(new Set(statuses.map(({ status }) => status)), new Set([401]));
  assert.equal(issuer.fetches, 1);
  assert.equal((await askWith(careful, bearer(await issuer.token()))).status, 200);

  issuer.behave('down');
  const early = await identifiedGateway(t, { issuer: trusting(issuer) });
  const token = await issuer.token();
  assert.deepEqual(
    [await askWith(early, bearer(token))].map(({ status, code }) => [status, code]),
    [[401, 'UNAUTHENTICATED']],
  );
  issuer.behave('well');
  assert.equal((await askWith(early, bearer(token))).status, 200);
});

test('discovery about another issuer is not believed; a configured address of the keys needs none', async (t) => {
  const issuer = await startIssuer(t);
  const other = trusting(issuer, { issuer: `${issuer.url}/` });
  const gateway = await identifiedGateway(t, { issuer: other });
  const token = await issuer.token({ iss: `${issuer.url}/` });
  assert.equal((await askWith(gateway, bearer(token))).status, 401);
  assert.equal(issuer.fetches, 0);
  const direct = await identifiedGateway(t, { issuer: { ...other, jwksUri: `${issuer.url}/jwks` } });
  assert.equal((await askWith(direct, bearer(token))).status, 200);
});

test('a key that the issuer withdraws stops working without a token that asks for another', async (t) => {
  const issuer = await startIssuer(t);
  const gateway = await identifiedGateway(t, { issuer: trusting(issuer, { refreshAfterMs: 0 }) });
  const token = await issuer.token();
  assert.equal((await askWith(gateway, bearer(token))).status, 200);
  await issuer.rotate(false);
  const deadline = performance.now() + 10_000;
  while ((await askWith(gateway, bearer(token))).status !== 401) assert.ok(performance.now() < deadline);
});

test('a token that was good is looked at again when it has expired', async (t) => {
  const issuer = await startIssuer(t);
  const gateway = await identifiedGateway(t, { issuer: trusting(issuer) });
  const token = await issuer.token({ exp: seconds(2) });
  assert.equal((await askWith(gateway, bearer(token))).status, 200);
  const deadline = performance.now() + 10_000;
  let answer = await askWith(gateway, bearer(token));
  while (answer.status === 200 && performance.now() < deadline) answer = await askWith(gateway, bearer(token));
  assert.equal(answer.message, 'The token has expired');
});
