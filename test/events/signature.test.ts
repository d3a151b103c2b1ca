/** Signatures verify with the reference implementation of Standard Webhooks, and secrets that are none are refused. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { Webhook } from 'standardwebhooks';
import { Fault } from '../../src/errors.js';
import { readSecrets, signatures } from '../../src/events/signature.js';
import { scratchDir } from '../support/scratch.js';

test("the specification's own example", () => {
  const secret = Buffer.from('MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', 'base64');
  const signed = signatures('msg_p5jXN8AQM9LWM0D4loKWxJek', 1614265330, '{"test": 2432232314}', [secret]);
  assert.equal(signed, 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=');
});

test('each of several secrets verifies alone, a changed byte does not', () => {
  const secrets = [randomBytes(32), randomBytes(64)];
  const seconds = Math.floor(Date.now() / 1000);
  const body = '{"type":"pitr.recovery.failed","data":{"ä":"€"}}';
  const headers = {
    'webhook-id': 'an-id',
    'webhook-timestamp': String(seconds),
    'webhook-signature': signatures('an-id', seconds, body, secrets),
  };
  for (const secret of secrets) {
    const verifier = new Webhook(`whsec_${secret.toString('base64')}`);
    assert.deepEqual(verifier.verify(body, headers), JSON.parse(body));
    assert.throws(() => verifier.verify(body.replace('ä', 'a'), headers));
    assert.throws(() => verifier.verify(body, { ...headers, 'webhook-id': 'another' }));
  }
  assert.throws(() => new Webhook(`whsec_${randomBytes(32).toString('base64')}`).verify(body, headers));
});

test('secrets are read from a file, comments left out', async (t) => {
  const file = path.join(await scratchDir(t), 'secret');
  const secrets = [randomBytes(24), randomBytes(64)];
  await writeFile(file, `# new\nwhsec_${secrets[0]?.toString('base64')}\n\n  ${secrets[1]?.toString('base64')}  \n`);
  assert.deepEqual(await readSecrets(file), secrets);
});

test('what is no secret is refused without being repeated', async (t) => {
  const file = path.join(await scratchDir(t), 'secret');
  const line = () => `whsec_${randomBytes(32).toString('base64')}`;
  const wrong = [
    '',
    '# nothing\n',
    'hunter2-hunter2-hunter2-hunter2-hunter2',
    `whsec_${randomBytes(23).toString('base64')}`,
    `whsec_${randomBytes(65).toString('base64')}`,
    Array.from({ length: 5 }, line).join('\n'),
  ];
  for (const text of wrong) {
    await writeFile(file, text);
    await assert.rejects(readSecrets(file), (error: Fault) => {
      assert.ok(error instanceof Fault);
      assert.equal(error.code, 'INVALID_ARGUMENT');
      assert.doesNotMatch(error.message, /hunter2/);
      return true;
    });
  }
  await assert.rejects(readSecrets(`${file}-missing`), /ENOENT/);
});
