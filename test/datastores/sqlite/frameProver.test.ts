/** Frames proved by WebAssembly beside JavaScript, on logs that are sound and on ones that are not. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { FrameProver, fittingFrames } from '../../../src/datastores/sqlite/formats/frameProver.js';
import {
  addToSum,
  frameBytes,
  frameFits,
  frameHeaderBytes,
  runningSum,
  sumSoFar,
} from '../../../src/datastores/sqlite/formats/walFormat.js';
import { seeded, seeds } from '../../support/seed.js';

const start = { a: 0xfffffff0, b: 17 };

function madeLog(count: number, pageSize: number, bigEndian: boolean) {
  const size = frameBytes(pageSize);
  const log = { bigEndian, pageSize, salt1: 0xfedcba98, salt2: 0x01234567 };
  const bytes = randomBytes(count * size);
  const sum = runningSum(start);
  for (let at = 0; at < bytes.length; at += size) {
    bytes.writeUInt32BE(log.salt1, at + 8);
    bytes.writeUInt32BE(log.salt2, at + 12);
    addToSum(sum, bytes, at, at + 8, bigEndian);
    addToSum(sum, bytes, at + frameHeaderBytes, at + size, bigEndian);
    const { a, b } = sumSoFar(sum);
    bytes.writeUInt32BE(a, at + 16);
    bytes.writeUInt32BE(b, at + 20);
  }
  return { log, bytes };
}

test('as many frames fit as by JavaScript, whatever of them is spoilt', (t) => {
  const prover = new FrameProver();
  for (const seed of seeds(t)) {
    const random = seeded(seed);
    const below = (most: number) => Math.floor(random() * most);
    for (let i = 0; i < 400; i++) {
      const pageSize = [512, 1024, 4096, 65_536][below(4)] as number;
      const size = frameBytes(pageSize);
      const count = 1 + below(pageSize === 65_536 ? 15 : 40);
      const { log, bytes } = madeLog(count, pageSize, random() < 0.3);
      const harmed = below(count);
      const kind = below(4);
      // A byte of its header, one of its page, its page's number as a whole; or nothing.
      const at = harmed * size + (kind === 0 ? below(frameHeaderBytes) : frameHeaderBytes + below(pageSize));
      if (kind < 2) bytes[at] = (bytes[at] ?? 0) ^ (1 << below(8));
      if (kind === 2) bytes.writeUInt32BE(0, harmed * size);
      bytes.copy(prover.frames);
      const sum = runningSum(start);
      const byScript = runningSum(start);
      let fitting = 0;
      while (fitting < count && frameFits(bytes, fitting * size, log, byScript)) fitting++;
      assert.equal(prover.fitting(count, log, sum), fitting);
      const elsewhere = runningSum(start);
      assert.equal(fittingFrames(Buffer.concat([Buffer.alloc(3), bytes]), 3, count, log, elsewhere), fitting);
      assert.deepEqual(elsewhere, sum);
      assert.equal(fitting, kind === 3 ? count : harmed);
      if (fitting === count) assert.deepEqual(sum, byScript);
    }
  }
});
