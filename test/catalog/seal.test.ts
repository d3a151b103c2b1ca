/** The seal: what goes in comes out, for the same key and owner only, and nothing in between can be changed. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { sealer } from '../../src/catalog/seal.js';

const secrets = sealer(randomBytes(32));
const refused = { name: 'Fault', code: 'INTERNAL' };

test('opens what it sealed, for the same owner', () => {
  for (const plain of ['', 'x', 'postgresql://ü:ß€😀@db/orders', 'long'.repeat(10_000)]) {
    assert.equal(secrets.open(secrets.seal(plain, 'i'), 'i'), plain);
  }
});

test('seals the same text differently each time', () => {
  assert.notEqual(secrets.seal('same', 'i'), secrets.seal('same', 'i'));
});

test('refuses another owner, another key, another version and every flipped bit', () => {
  const sealed = secrets.seal('secret', 'i');
  assert.throws(() => secrets.open(sealed, 'j'), refused);
  assert.throws(() => sealer(randomBytes(32)).open(sealed, 'i'), refused);
  assert.throws(() => secrets.open(sealed.replace('v1.', 'v2.'), 'i'), refused);
  assert.throws(() => secrets.open('v1.', 'i'), refused);
  assert.throws(() => secrets.open(sealed.slice(0, -4), 'i'), refused);
  const bytes = Buffer.from(sealed.slice(3), 'base64url');
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const changed = Buffer.from(bytes);
    changed.writeUInt8(changed.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
    assert.throws(() => secrets.open(`v1.${changed.toString('base64url')}`, 'i'), refused);
  }
});

test('a refusal does not show what was sealed', () => {
  const sealed = secrets.seal('secret', 'i');
  assert.throws(
    () => secrets.open(sealed, 'j'),
    (error: Error) => !`${error.message} ${error.stack}`.includes(sealed),
  );
});
