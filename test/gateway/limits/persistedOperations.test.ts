/** Documents by their hash: what is kept and for how long, and which files are a list of operations. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { ConfigError, readConfig } from '../../../src/config.js';
import { PersistedOperations, readSafelist } from '../../../src/gateway/limits/persistedOperations.js';
import { limitsOf } from '../../../src/main.js';
import { scratchDir } from '../../support/scratch.js';

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');
const named = (text: string) => ({ extensions: { persistedQuery: { version: 1, sha256Hash: sha256(text) } } });

test('the newest thousand are kept, one that is used as long as it is used', () => {
  const operations = new PersistedOperations(null);
  const document = (index: number) => `{ a${index}: __typename }`;
  const isKept = (index: number) => {
    try {
      return operations.textOf('t', named(document(index))) === document(index);
    } catch {
      return false;
    }
  };
  for (let index = 0; index < 1_500; index++) {
    operations.textOf('t', { query: document(index), ...named(document(index)) });
    assert.ok(isKept(0));
  }
  assert.deepEqual([isKept(1), isKept(400), isKept(1_499)], [false, false, true]);
});

test('long documents take the place of many, and a very long one is not kept at all', () => {
  const operations = new PersistedOperations(null);
  const documents = Array.from({ length: 30 }, (_, index) => `{ __typename } #${index} ${'x'.repeat(700_000)}`);
  for (const query of documents) operations.textOf('t', { query, ...named(query) });
  const kept = documents.filter((query) => {
    try {
      return operations.textOf('t', named(query)) === query;
    } catch {
      return false;
    }
  });
  assert.ok(kept.length >= 5 && kept.length <= 12, String(kept.length));
  const huge = `{ __typename } #${'x'.repeat(900_000)}`;
  assert.equal(operations.textOf('t', { query: huge, ...named(huge) }), huge);
  assert.throws(() => operations.textOf('t', named(huge)), /PersistedQueryNotFound/);
});

test('what names no hash properly is refused, and what names none is left alone', () => {
  const operations = new PersistedOperations(null);
  for (const persistedQuery of [
    5,
    [],
    'x',
    {},
    { version: 2, sha256Hash: sha256('') },
    { version: 1, sha256Hash: '../x' },
  ]) {
    assert.throws(() => operations.textOf('t', { query: '{ a }', extensions: { persistedQuery } }), /Unsupported/);
  }
  for (const extensions of [undefined, null, 5, [], {}, { persistedQuery: null }]) {
    assert.equal(operations.textOf('t', { query: '{ a }', extensions }), '{ a }');
    assert.equal(operations.textOf('t', { extensions }), undefined);
  }
});

test("a list is Apollo's manifest or an object from hash to document; only the text's own hash counts", async (t) => {
  const file = path.join(await scratchDir(t), 'operations.json');
  const [one, two] = ['{ instances { id } }', 'query B { __typename }'];
  const expected = new Map([one, two].map((text) => [sha256(text), text]));
  const operations = [one, two].map((body, index) => ({ id: `id${index}`, name: `n${index}`, type: 'query', body }));
  const manifest = { format: 'apollo-persisted-query-manifest', version: 1, operations };
  await writeFile(file, JSON.stringify(manifest));
  assert.deepEqual(await readSafelist(file), expected);
  await writeFile(file, JSON.stringify({ [sha256(one)]: one, anything: two }));
  assert.deepEqual(await readSafelist(file), expected);
  const { safelist } = await limitsOf(readConfig({ PITR_OPERATIONS_FILE: file }));
  assert.deepEqual(safelist, expected);
});

test('a list that cannot be one is refused at the start, with the setting and the reason', async (t) => {
  const file = path.join(await scratchDir(t), 'operations.json');
  const problems: [content: string | null, words: RegExp][] = [
    [null, /can't be read: ENOENT/],
    ['{', /is not a JSON object/],
    ['null', /is not a JSON object/],
    ['{"operations":[{"id":"a"}]}', /an operation without a document/],
    ['{"a":5}', /an operation without a document/],
    ['{"a":"{"}', /a document that is not GraphQL/],
  ];
  for (const [content, words] of problems) {
    if (content !== null) await writeFile(file, content);
    await assert.rejects(limitsOf(readConfig({ PITR_OPERATIONS_FILE: file })), (thrown: Error) => {
      assert.ok(thrown instanceof ConfigError);
      assert.match(thrown.message, /PITR_OPERATIONS_FILE: /);
      assert.match(thrown.message, words);
      return true;
    });
  }
});
