/** Settings: what they are without any, what is refused and in which words. */
import assert from 'node:assert/strict';
import { homedir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { ConfigError, readConfig } from '../src/config.js';

test('without any setting the documented defaults hold, and an empty one counts as none', () => {
  const defaults = {
    HOST: '127.0.0.1',
    PORT: 4000,
    PITR_HOME: path.join(homedir(), '.pitr-gateway'),
    LOG_LEVEL: 'info',
    PITR_CONCURRENT_RECOVERIES: 2,
    PITR_RETAINED_LOG_MIB: 1024,
    PITR_SYNTHETIC_BACKUPS: 'on',
    PITR_POSTGRESQL_BIN: [],
    PITR_POSTGRESQL_USER: 'postgres',
    PITR_POSTGRESQL_STREAM_REST_MS: 0,
    PITR_ALLOWED_HOSTS: [],
    PITR_ALLOWED_ORIGINS: [],
    PITR_OIDC_ISSUER: null,
    PITR_OIDC_AUDIENCE: [],
    PITR_OIDC_JWKS_URI: null,
    PITR_OIDC_TENANT_CLAIM: 'tenant',
    PITR_OIDC_ROLE_CLAIM: 'role',
    PITR_OIDC_CLOCK_TOLERANCE: 5,
    PITR_TOKENS_FILE: null,
    PITR_REGISTER_FILES: null,
    PITR_QUOTA_INSTANCES: null,
    PITR_QUOTA_VOLUME_GIB: null,
    PITR_QUOTA_BACKUPS: null,
    PITR_QUOTA_RECOVERIES: null,
    PITR_REGISTER_NETWORKS: null,
    PITR_LIMIT_DEPTH: 12,
    PITR_LIMIT_ALIASES: 500,
    PITR_LIMIT_COST: 50_000,
    PITR_LIMIT_OPERATION_SECONDS: 60,
    PITR_LIMIT_RATE: 200,
    PITR_LIMIT_CONNECTIONS: 200,
    PITR_LIMIT_SUBSCRIPTIONS: 1_000,
    PITR_INTROSPECTION: 'on',
    PITR_OPERATIONS_FILE: null,
    PITR_DRAIN_SECONDS: 0,
    PITR_METRICS_LISTEN: null,
    PITR_METRICS_TOKEN_FILE: null,
    OTEL_EXPORTER_OTLP_ENDPOINT: null,
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: null,
    OTEL_SDK_DISABLED: 'false',
    OTEL_TRACES_EXPORTER: 'otlp',
    OTEL_SERVICE_NAME: 'pitr-gateway',
    PITR_WEBHOOK_URL: null,
    PITR_WEBHOOK_SECRET_FILE: null,
    PITR_WEBHOOK_SOURCE: 'urn:pitr-gateway',
  };
  assert.deepEqual(readConfig({}), defaults);
  assert.deepEqual(readConfig({ HOST: '', PORT: '', PITR_HOME: '', LOG_LEVEL: '' }), defaults);
});

test('the ends of every range are usable', () => {
  for (const [text, PORT] of [
    ['0', 0],
    ['65535', 65_535],
  ] as const) {
    assert.equal(readConfig({ PORT: text }).PORT, PORT);
  }
  for (const count of [1, 64]) {
    const given = { PITR_CONCURRENT_RECOVERIES: String(count) };
    assert.equal(readConfig(given).PITR_CONCURRENT_RECOVERIES, count);
  }
  for (const rest of [0, 10_000]) {
    const given = { PITR_POSTGRESQL_STREAM_REST_MS: String(rest) };
    assert.equal(readConfig(given).PITR_POSTGRESQL_STREAM_REST_MS, rest);
  }
  for (const HOST of ['127.0.0.1', '::1', 'localhost']) assert.equal(readConfig({ HOST }).HOST, HOST);
});

test('a relative home is taken from the working directory', () => {
  assert.equal(readConfig({ PITR_HOME: 'pitr' }).PITR_HOME, path.resolve('pitr'));
});

const port = 'PORT: must be a whole number from 0 to 65535';
const concurrency = 'PITR_CONCURRENT_RECOVERIES: must be a whole number from 1 to 64';
const refused: [Record<string, string>, string[]][] = [
  [
    { PITR_LIMIT_DEPTH: '0', PITR_LIMIT_COST: '0', PITR_LIMIT_RATE: '-1', PITR_LIMIT_CONNECTIONS: '0' },
    [
      'PITR_LIMIT_DEPTH: must be a whole number from 1 to 100',
      'PITR_LIMIT_COST: must be a whole number from 1 to 999999999',
      'PITR_LIMIT_RATE: must be a whole number from 0 to 1000000',
      'PITR_LIMIT_CONNECTIONS: must be a whole number from 1 to 1000000',
    ],
  ],
  [{ PITR_INTROSPECTION: 'maybe' }, ['PITR_INTROSPECTION: must be on or off']],
  ...['abc', '65536', '1.5', '-1', ' ', '0x50', '1e3', '99999999999999999999'].map(
    (PORT): [Record<string, string>, string[]] => [{ PORT }, [port]],
  ),
  [{ PITR_CONCURRENT_RECOVERIES: '0' }, [concurrency]],
  [{ PITR_CONCURRENT_RECOVERIES: '65' }, [concurrency]],
  [
    { HOST: '0.0.0.0' },
    [
      'HOST: only loopback (127.0.0.1, ::1, localhost) is possible until authentication is configured: set PITR_OIDC_ISSUER or PITR_TOKENS_FILE',
    ],
  ],
  ...['10001', '-1', '0.5', '250ms'].map((PITR_POSTGRESQL_STREAM_REST_MS): [Record<string, string>, string[]] => [
    { PITR_POSTGRESQL_STREAM_REST_MS },
    ['PITR_POSTGRESQL_STREAM_REST_MS: must be a whole number from 0 to 10000'],
  ]),
  [{ LOG_LEVEL: 'loud' }, ['LOG_LEVEL: must be one of fatal, error, warn, info, debug, trace, silent']],
  [{ PORT: 'abc', PITR_CONCURRENT_RECOVERIES: 'x' }, [port, concurrency]],
];

for (const [settings, problems] of refused) {
  test(`refuses ${JSON.stringify(settings)}`, () => {
    assert.throws(
      () => readConfig(settings),
      (error) => {
        assert.ok(error instanceof ConfigError);
        assert.equal(
          error.message,
          ['These settings are not usable:', ...problems.map((each) => `  ${each}`)].join('\n'),
        );
        return true;
      },
    );
  });
}

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
  const origins = 'https://console.example.com, http://localhost:3000';
  assert.deepEqual(readConfig({ PITR_ALLOWED_ORIGINS: origins }).PITR_ALLOWED_ORIGINS, origins.split(', '));
  assert.equal(readConfig({ PITR_REGISTER_FILES: '/srv/{tenant}/x' }).PITR_REGISTER_FILES, '/srv/{tenant}/x');
  assert.equal(readConfig({ PITR_QUOTA_BACKUPS: '0' }).PITR_QUOTA_BACKUPS, 0);
});

for (const [environment, said] of [
  [{ HOST: '0.0.0.0' }, /HOST: only loopback .* until authentication is configured/],
  [{ HOST: 'gateway.example.com' }, /HOST: only loopback/],
  [{ PITR_ALLOWED_HOSTS: 'x.example.com,*' }, /PITR_ALLOWED_HOSTS: must be names/],
  [{ PITR_ALLOWED_HOSTS: 'https://x.example.com' }, /PITR_ALLOWED_HOSTS: must be names/],
  [{ PITR_ALLOWED_ORIGINS: 'https://x.example.com/' }, /PITR_ALLOWED_ORIGINS: must be origins/],
  [{ PITR_ALLOWED_ORIGINS: 'x.example.com' }, /PITR_ALLOWED_ORIGINS: must be origins/],
  [{ PITR_REGISTER_FILES: '/srv/{tennant}' }, /PITR_REGISTER_FILES: knows no braces but/],
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

test('where metrics are served, and what has to be there with a webhook', () => {
  const listen = (text: string) => readConfig({ PITR_METRICS_LISTEN: text }).PITR_METRICS_LISTEN;
  assert.deepEqual(listen('127.0.0.1:9464'), { host: '127.0.0.1', port: 9464 });
  assert.deepEqual(listen('[::1]:0'), { host: '::1', port: 0 });
  for (const text of ['9464', 'localhost', 'localhost:', ':9464', 'localhost:65536', '0.0.0.0:9464', '[::]:9464']) {
    assert.throws(() => listen(text), /PITR_METRICS_LISTEN: /, text);
  }
  const open = { PITR_METRICS_LISTEN: '0.0.0.0:9464', PITR_METRICS_TOKEN_FILE: '/token' };
  assert.equal(readConfig(open).PITR_METRICS_LISTEN?.host, '0.0.0.0');
  assert.throws(() => readConfig({ PITR_METRICS_TOKEN_FILE: '/token' }), /PITR_METRICS_LISTEN: is needed/);

  const hook = (PITR_WEBHOOK_URL: string) => readConfig({ PITR_WEBHOOK_URL, PITR_WEBHOOK_SECRET_FILE: '/secret' });
  for (const url of ['https://hooks.example.com/a?token=b', 'http://127.0.0.1:9/x', 'http://[::1]/']) {
    assert.equal(hook(url).PITR_WEBHOOK_URL, url);
  }
  for (const url of ['http://hooks.example.com/', 'ftp://localhost/', 'https://u:p@example.com/', 'hooks', '/hooks']) {
    assert.throws(() => hook(url), /PITR_WEBHOOK_URL: must be an https/, url);
  }
  assert.throws(() => readConfig({ PITR_WEBHOOK_URL: 'https://a.example' }), /PITR_WEBHOOK_SECRET_FILE: /);
  assert.throws(() => readConfig({ PITR_WEBHOOK_SECRET_FILE: '/secret' }), /PITR_WEBHOOK_URL: /);
  assert.throws(() => readConfig({ OTEL_EXPORTER_OTLP_ENDPOINT: 'localhost:4318' }), /OTEL_EXPORTER_OTLP_ENDPOINT: /);
});
