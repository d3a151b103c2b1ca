/** What proves an object: both hashes agree with other people's programs, and none stands in for the other. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, it } from 'node:test';
import { hashingOf, ObjectHashes, type Proof, sameBytes } from '../../src/storage/objectHashes.js';

/** What b3sum 1.2.0 says of so many bytes 0, 1, … 250, 0, 1, …, as in the test vectors of BLAKE3's authors. */
const VECTORS: [number, string][] = [
  [0, 'af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262'],
  [1, '2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213'],
  [1023, '10108970eeda3eb932baac1428c7a2163b0e924c9a9e25b35bba72b28f70bd11'],
  [1024, '42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7'],
  [1025, 'd00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444'],
  [8193, 'bab6c09cb8ce8cf459261398d2e7aef35700bf488116ceb94a36d0f5f1b7bc3b'],
  [102_400, 'bc3e3d41a1146b069abffad3c0d44860cf664390afce4d9661f7902e7943e085'],
  [1_048_577, '2f053cd7472cf0cd2f9adaf45c1180255b91b9a865404a63671a0ee5f792ed33'],
];

describe('the hashes of stored bytes', () => {
  it('are what other programs make of the same bytes, in whatever pieces they come', () => {
    for (const [length, blake3] of VECTORS) {
      const bytes = Buffer.from(Array.from({ length }, (_, i) => i % 251));
      const sha256 = createHash('sha256').update(bytes).digest('hex');
      for (const piece of [1_048_577, 1000, 64]) {
        const hashes = {
          both: new ObjectHashes('both'),
          blake3: new ObjectHashes('blake3'),
          sha256: new ObjectHashes('sha256'),
        };
        for (let at = 0; at < length; at += piece) {
          for (const each of Object.values(hashes)) each.update(bytes.subarray(at, at + piece));
        }
        assert.deepEqual(hashes.both.digests(), { sha256, blake3 }, `${length} bytes`);
        assert.deepEqual(hashes.blake3.digests(), { blake3 });
        assert.deepEqual(hashes.sha256.digests(), { sha256 });
      }
    }
  });

  it('prove an object by BLAKE3 where that was recorded, else by SHA-256', () => {
    const older: Proof = { plainBytes: 1, storedBytes: 1, sha256: 'a'.repeat(64) };
    const newer: Proof = { ...older, blake3: 'b'.repeat(64) };
    assert.equal(hashingOf(newer), 'blake3');
    assert.equal(hashingOf(older), 'sha256');
    assert.equal(hashingOf({ ...older, blake3: null }), 'sha256');
    assert.ok(sameBytes(newer, { blake3: 'b'.repeat(64) }));
    assert.ok(sameBytes(older, { sha256: 'a'.repeat(64) }));
    assert.ok(!sameBytes(newer, { blake3: 'a'.repeat(64) }));
    assert.ok(!sameBytes(newer, { sha256: 'a'.repeat(64), blake3: 'c'.repeat(64) }));
    assert.ok(!sameBytes(older, { sha256: 'b'.repeat(64) }));
    assert.ok(!sameBytes(older, { blake3: 'b'.repeat(64) }), 'what nobody recorded proves nothing');
    assert.ok(!sameBytes(newer, {}), 'nothing was made of the bytes');
  });
});
