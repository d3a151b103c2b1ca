/** Our LZ4 beside a library's: each packs what the other unpacks, and of damaged blocks both make the same. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { compressSync, uncompressSync } from 'lz4-napi';
import { BLOCK_BYTES, MAX_BLOCK_BYTES } from '../../src/blocks/blockFormat.js';
import { lz4Of, plainOfLz4 } from '../../src/blocks/lz4Block.js';
import { seeded, seeds } from '../support/seed.js';

/** Before each block of the library's. */
const PREFIX_BYTES = 4;

function block(plain: Buffer): Buffer {
  return compressSync(plain).subarray(PREFIX_BYTES);
}

/** What the library makes of it, or null. */
function byLibrary(bytes: Buffer, plainBytes: number): Buffer | null {
  const prefixed = Buffer.alloc(PREFIX_BYTES + bytes.length);
  prefixed.writeUInt32LE(plainBytes);
  bytes.copy(prefixed, PREFIX_BYTES);
  try {
    const plain = uncompressSync(prefixed);
    return plain.length === plainBytes ? plain : null;
  } catch {
    return null;
  }
}

/** Literals and matches of all lengths and distances. */
function mixed(random: () => number, bytes: number): Buffer {
  const below = (most: number) => Math.floor(random() * most);
  const plain = Buffer.alloc(bytes);
  for (let at = 0; at < bytes; ) {
    const literals = below(random() < 0.1 ? 700 : 20);
    for (let i = 0; i < literals && at < bytes; i++) plain[at++] = below(256);
    const back = 1 + below(Math.min(at, random() < 0.5 ? 40 : 65_535));
    const match = at >= back ? below(random() < 0.1 ? 700 : 40) : 0;
    for (let i = 0; i < match && at < bytes; i++, at++) plain[at] = plain[at - back] ?? 0;
  }
  return plain;
}

/** Of all kinds, short and long, and whatever repeats in it wherever. */
function plainsFrom(seed: number): Buffer[] {
  const plains: Buffer[] = [
    Buffer.alloc(1),
    Buffer.alloc(MAX_BLOCK_BYTES),
    randomBytes(MAX_BLOCK_BYTES - (MAX_BLOCK_BYTES >> 7)),
    randomBytes(13),
  ];
  for (let distance = 1; distance <= 40; distance++) {
    for (const bytes of [distance + 4, distance + 15, 300, 1_000 + distance]) {
      plains.push(Buffer.alloc(bytes, randomBytes(distance)));
    }
  }
  const random = seeded(seed);
  for (let i = 0; i < 500; i++) plains.push(mixed(random, 1 + Math.floor(random() * 9_000)));
  plains.push(mixed(random, BLOCK_BYTES), mixed(random, MAX_BLOCK_BYTES));
  return plains;
}

test('what the library packs is unpacked, whatever repeats in it and wherever it ends', (t) => {
  for (const plain of seeds(t).flatMap(plainsFrom)) {
    assert.ok(plainOfLz4(block(plain), plain.length)?.equals(plain), `${plain.length} bytes`);
  }
});

test('what is packed is unpacked by the library and by us, and is hardly longer than its own', (t) => {
  let ours = 0;
  let theirs = 0;
  for (const plain of seeds(t).flatMap(plainsFrom)) {
    const valid = lz4Of(plain, MAX_BLOCK_BYTES);
    // Nothing that can't be shortened is longer than this, and no room was given for that at the longest.
    if (!valid) {
      assert.ok(plain.length > 0.98 * MAX_BLOCK_BYTES, `${plain.length} bytes`);
      continue;
    }
    const packed = Buffer.from(valid);
    assert.ok(byLibrary(packed, plain.length)?.equals(plain), `${plain.length} bytes by the library`);
    assert.ok(plainOfLz4(packed, plain.length)?.equals(plain), `${plain.length} bytes by us`);
    ours += packed.length;
    theirs += block(plain).length;
  }
  assert.ok(ours < 1.02 * theirs, `${ours} and ${theirs} bytes`);
});

test('a block never takes more room than it is given', (t) => {
  for (const seed of seeds(t)) {
    const random = seeded(seed);
    for (let i = 0; i < 300; i++) {
      const plain = mixed(random, 1 + Math.floor(random() * 3_000));
      const whole = lz4Of(plain, MAX_BLOCK_BYTES)?.length ?? 0;
      const most = Math.floor(random() * (whole + 20));
      const packed = lz4Of(plain, most);
      if (packed) assert.ok(packed.length === whole && whole <= most, `${packed.length} of ${most}`);
      // It needs to be sure beforehand, so it may give up a little early.
      else assert.ok(whole + 3 + whole / 100 > most, `${whole} would have had room in ${most}`);
    }
  }
});

test('of damaged blocks it makes what the library makes, or nothing', (t) => {
  for (const seed of seeds(t)) {
    const random = seeded(seed);
    let sound = 0;
    let refused = 0;
    for (let i = 0; i < 3_000; i++) {
      const plain = mixed(random, 50 + Math.floor(random() * 900));
      const damaged = Buffer.from(block(plain));
      for (let bytes = Math.floor(random() * 3); bytes >= 0; bytes--) {
        damaged[Math.floor(random() * damaged.length)] = Math.floor(random() * 256);
      }
      const cut = random() < 0.2 ? damaged.subarray(0, 1 + Math.floor(random() * damaged.length)) : damaged;
      const ours = plainOfLz4(cut, plain.length);
      assert.deepEqual(ours && Buffer.from(ours), byLibrary(cut, plain.length), `block ${i}`);
      if (ours) sound += 1;
      else refused += 1;
    }
    assert.ok(sound > 100 && refused > 100, `${sound} were sound and ${refused} refused`);
  }
});

test('a block of another length than was said is refused, and so is one without an end', () => {
  const plain = mixed(seeded(7), 5_000);
  const packed = block(plain);
  assert.equal(plainOfLz4(packed, plain.length - 1), null);
  assert.equal(plainOfLz4(packed, plain.length + 1), null);
  assert.equal(plainOfLz4(packed.subarray(0, -1), plain.length), null);
  // A run of literals said to be longer than all memory.
  assert.equal(plainOfLz4(Buffer.alloc(MAX_BLOCK_BYTES, 255), MAX_BLOCK_BYTES), null);
  // A match that reaches back before the result: a token, one literal, a distance of 2.
  assert.equal(plainOfLz4(Buffer.from([0x10, 65, 2, 0, 0x50, 1, 2, 3, 4, 5]), 10), null);
  assert.ok(plainOfLz4(packed, plain.length)?.equals(plain), 'a sound one afterwards');
});
