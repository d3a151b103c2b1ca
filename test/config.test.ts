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
    PITR_POSTGRESQL_BIN: [],
    PITR_POSTGRESQL_USER: 'postgres',
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
  for (const HOST of ['127.0.0.1', '::1', 'localhost']) assert.equal(readConfig({ HOST }).HOST, HOST);
});

test('a relative home is taken from the working directory', () => {
  assert.equal(readConfig({ PITR_HOME: 'pitr' }).PITR_HOME, path.resolve('pitr'));
});

const port = 'PORT: must be a whole number from 0 to 65535';
const concurrency = 'PITR_CONCURRENT_RECOVERIES: must be a whole number from 1 to 64';
const refused: [Record<string, string>, string[]][] = [
  ...['abc', '65536', '1.5', '-1', ' ', '0x50', '1e3', '99999999999999999999'].map(
    (PORT): [Record<string, string>, string[]] => [{ PORT }, [port]],
  ),
  [{ PITR_CONCURRENT_RECOVERIES: '0' }, [concurrency]],
  [{ PITR_CONCURRENT_RECOVERIES: '65' }, [concurrency]],
  [
    { HOST: '0.0.0.0' },
    ['HOST: only loopback (127.0.0.1, ::1, localhost) is possible until authentication is configured'],
  ],
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
