/** The settings: what each refuses, in words that name it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ConfigError, readConfig } from '../src/config.js';

const issuer = { PITR_OIDC_ISSUER: 'https://login.example.com/realms/x', PITR_OIDC_AUDIENCE: 'pitr-gateway' };

test('without settings: loopback, no authentication, no limits', () => {
  const config = readConfig({ HOST: '', PITR_TOKENS_FILE: '', PITR_QUOTA_BACKUPS: '' });
  assert.equal(config.HOST, '127.0.0.1');
  assert.deepEqual([config.PITR_OIDC_ISSUER, config.PITR_TOKENS_FILE, config.PITR_QUOTA_BACKUPS], [null, null, null]);
});

test('with authentication HOST may be anything', () => {
  assert.equal(readConfig({ HOST: '0.0.0.0', ...issuer }).HOST, '0.0.0.0');
  assert.equal(readConfig({ HOST: '::', PITR_TOKENS_FILE: 'tokens' }).HOST, '::');
  assert.deepEqual(readConfig({ ...issuer, PITR_OIDC_AUDIENCE: 'a, b' }).PITR_OIDC_AUDIENCE, ['a', 'b']);
  assert.deepEqual(readConfig({ PITR_ALLOWED_HOSTS: 'x.example.com,y:1' }).PITR_ALLOWED_HOSTS, [
    'x.example.com',
    'y:1',
  ]);
  assert.equal(readConfig({ PITR_QUOTA_BACKUPS: '0' }).PITR_QUOTA_BACKUPS, 0);
});

for (const [environment, said] of [
  [{ HOST: '0.0.0.0' }, /HOST: only loopback .* until authentication is configured/],
  [{ HOST: 'gateway.example.com' }, /HOST: only loopback/],
  [{ PITR_OIDC_ISSUER: issuer.PITR_OIDC_ISSUER }, /PITR_OIDC_AUDIENCE: is needed with PITR_OIDC_ISSUER/],
  [{ PITR_OIDC_AUDIENCE: 'x' }, /PITR_OIDC_ISSUER: is needed with/],
  [{ PITR_OIDC_JWKS_URI: 'https://x.example.com/keys' }, /PITR_OIDC_ISSUER: is needed with/],
  [{ ...issuer, PITR_OIDC_ISSUER: 'http://login.example.com' }, /PITR_OIDC_ISSUER: must be an https/],
  [{ ...issuer, PITR_OIDC_ISSUER: 'login.example.com' }, /PITR_OIDC_ISSUER: must be an https/],
  [{ ...issuer, PITR_OIDC_ISSUER: 'https://a:b@login.example.com' }, /PITR_OIDC_ISSUER: must be an https/],
  [{ ...issuer, PITR_OIDC_JWKS_URI: 'http://127.0.0.1.example.com/' }, /PITR_OIDC_JWKS_URI: must be an https/],
  [{ ...issuer, PITR_OIDC_CLOCK_TOLERANCE: '301' }, /PITR_OIDC_CLOCK_TOLERANCE/],
  [{ ...issuer, PITR_OIDC_CLOCK_TOLERANCE: '-1' }, /PITR_OIDC_CLOCK_TOLERANCE/],
  [{ PITR_QUOTA_INSTANCES: '-1' }, /PITR_QUOTA_INSTANCES: must be a whole number/],
  [{ PITR_QUOTA_RECOVERIES: '1.5' }, /PITR_QUOTA_RECOVERIES: must be a whole number/],
  [{ PITR_QUOTA_VOLUME_GIB: 'many' }, /PITR_QUOTA_VOLUME_GIB: must be a whole number/],
] as const) {
  test(`refused: ${JSON.stringify(environment)}`, () => {
    assert.throws(
      () => readConfig(environment),
      (error) => error instanceof ConfigError && said.test(error.message),
    );
  });
}
