/** Received log in pieces that are used again: whatever is detached is what was pushed, until it is given back. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { ReceivedBytes } from '../../../src/datastores/postgresql/capture/receivedBytes.js';
import { seeded, seeds } from '../../support/seed.js';

test('bytes come out as they went in, however they are cut and whenever they are given back', (t) => {
  for (const seed of seeds(t)) {
    const random = seeded(seed);
    const below = (limit: number) => Math.floor(random() * limit);
    // Two servers share the spare pieces.
    const servers = [new ReceivedBytes(), new ReceivedBytes()].map((received) => ({
      received,
      expected: Buffer.alloc(0),
    }));
    const out: { bytes: Buffer[]; expected: Buffer; release(): void }[] = [];
    for (let step = 0; step < 400; step++) {
      const server = servers[below(2)] as (typeof servers)[number];
      const bytes = randomBytes(below(random() < 0.2 ? 700_000 : 9_000));
      server.received.push(bytes);
      server.expected = Buffer.concat([server.expected, bytes]);
      bytes.fill(0);
      assert.equal(server.received.length, server.expected.length);
      if (random() < 0.3) {
        const wanted = random() < 0.3 ? server.expected.length : below(server.expected.length + 1);
        const { pieces, release } = server.received.detach(wanted);
        out.push({ bytes: pieces, expected: server.expected.subarray(0, wanted), release });
        server.expected = server.expected.subarray(wanted);
      }
      while (out.length > 3) {
        const [oldest] = out.splice(below(out.length), 1);
        assert.ok(oldest && Buffer.concat(oldest.bytes).equals(oldest.expected), `seed ${seed}, step ${step}`);
        oldest.release();
        oldest.release();
      }
    }
    assert.throws(() => servers[0]?.received.detach(servers[0].expected.length + 1), RangeError);
  }
});
