/** Newer pages over a base: in whatever pieces the base comes, each byte is the newest version's. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { PagePatch } from '../../../src/datastores/sqlite/recovery/pagePatch.js';
import { NewerPages } from '../../../src/datastores/sqlite/replay/newerPages.js';
import { scratchDir } from '../../support/scratch.js';
import { seeded, seeds } from '../../support/seed.js';

test('each byte of a patched base is the newest version', async (t) => {
  for (const seed of seeds(t)) {
    const random = seeded(seed);
    const below = (limit: number) => Math.floor(random() * limit);
    for (const [pageSize, mostPages] of [
      [512, 200],
      [4096, 200],
      [65_536, 200],
      // Several windows of the index, and one of them written more than once.
      [512, 150_000],
    ] as const) {
      const dbPages = 1 + below(mostPages);
      const newer = new NewerPages(await scratchDir(t), pageSize);
      newer.limitTo(dbPages);
      const expected = randomBytes(dbPages * pageSize);
      const base = Buffer.from(expected);
      for (let n = below(3 * dbPages); n > 0; n -= 1) {
        const page = 1 + below(dbPages + 5);
        const fresh = page <= dbPages && !newer.has(page);
        assert.equal(newer.claim(page), fresh);
        if (!fresh) continue;
        const content = randomBytes(pageSize);
        newer.put(page, content);
        content.copy(expected, (page - 1) * pageSize);
      }
      newer.flush();
      const patch = new PagePatch(newer.files);
      for (let at = 0; at < base.length; ) {
        const piece = base.subarray(at, at + 1 + below(3 * pageSize));
        patch.apply(piece, at);
        at += piece.length;
      }
      patch.close();
      assert.equal(patch.applied, newer.size);
      assert.ok(base.equals(expected), `seed ${seed}, pages of ${pageSize}`);
      newer.close();
    }
  }
});
