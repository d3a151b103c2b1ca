/** The cache of documents that were read: bounded by their texts, the longest unused goes first. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parse } from 'graphql';
import { DocumentCache } from '../../../src/gateway/limits/documentCache.js';

test('the newest are kept, one that is used stays, and a very long one never is', async () => {
  const cache = new DocumentCache();
  const document = parse(`{ __typename } #${'x'.repeat(1_000)}`);
  for (let index = 0; index < 1_000; index++) {
    await cache.set(`d${index}`, document);
    assert.equal(await cache.get('d0'), document);
  }
  const kept = [];
  for (let index = 1; index < 1_000; index++) if (await cache.get(`d${index}`)) kept.push(index);
  assert.ok(kept.length > 100 && kept.length < 200, String(kept.length));
  assert.equal(kept.at(-1), 999);
  await cache.set('long', parse(`{ __typename } #${'x'.repeat(30_000)}`));
  assert.equal(await cache.get('long'), undefined);
});
