/** Reading a log frame by frame: both byte orders, and everything that must stop the reading. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import {
  addToSum,
  frameBytes,
  framePage,
  frameSum,
  parseWalHeader,
  runningSum,
  sumSoFar,
  type WalHeader,
  walHeaderBytes,
} from '../../../src/datastores/sqlite/formats/walFormat.js';
import { BrokenLog, WalFile } from '../../../src/datastores/sqlite/source/walFile.js';
import { scratchDir } from '../../support/scratch.js';

const pageSize = 512;

/** A log with a frame per entry, made here from the format's description. */
function makeLog(bigEndian: boolean, frames: { page: number; dbPages: number; fill: number }[]): Buffer {
  const bytes = Buffer.alloc(walHeaderBytes + frames.length * frameBytes(pageSize));
  const words = [bigEndian ? 0x377f0683 : 0x377f0682, 3_007_000, pageSize, 7, 0xfffffff0, 0x12345678];
  for (const [i, word] of words.entries()) bytes.writeUInt32BE(word, i * 4);
  const sum = runningSum();
  const writeSum = (at: number) => {
    const { a, b } = sumSoFar(sum);
    bytes.writeUInt32BE(b, bytes.writeUInt32BE(a, at));
  };
  addToSum(sum, bytes, 0, 24, bigEndian);
  writeSum(24);
  for (const [i, { page, dbPages, fill }] of frames.entries()) {
    const at = walHeaderBytes + i * frameBytes(pageSize);
    for (const [j, word] of [page, dbPages, 0xfffffff0, 0x12345678].entries()) bytes.writeUInt32BE(word, at + j * 4);
    bytes.fill(fill, at + 24, at + 24 + pageSize);
    addToSum(sum, bytes, at, at + 8, bigEndian);
    addToSum(sum, bytes, at + 24, at + 24 + pageSize, bigEndian);
    writeSum(at + 16);
  }
  return bytes;
}

const frames = [
  { page: 1, dbPages: 0, fill: 0x11 },
  { page: 2, dbPages: 2, fill: 0xf2 },
  { page: 1, dbPages: 2, fill: 0x33 },
];

async function pagesRead(file: string, to: number): Promise<number[]> {
  const wal = new WalFile(file);
  const pages: number[] = [];
  try {
    const header = (await wal.header()) as WalHeader;
    const sum = runningSum(header.sum);
    await wal.frames(header, { from: 0, to }, sum, async (bytes, count) => {
      for (let i = 0; i < count; i++) pages.push(framePage(bytes, i * frameBytes(pageSize)));
      assert.deepEqual(sumSoFar(sum), frameSum(bytes, (count - 1) * frameBytes(pageSize)));
    });
    return pages;
  } finally {
    await wal.close();
  }
}

for (const bigEndian of [false, true]) {
  test(`a log with ${bigEndian ? 'big' : 'little'}-endian checksums is read, and nothing that does not continue it`, async (t) => {
    const file = path.join(await scratchDir(t), 'log');
    const log = makeLog(bigEndian, frames);
    await writeFile(file, log);
    assert.deepEqual(await pagesRead(file, 3), [1, 2, 1]);
    assert.deepEqual(await pagesRead(file, 1), [1]);

    const third = walHeaderBytes + 2 * frameBytes(pageSize);
    for (const [what, at] of [
      ['page number', 3],
      ['size', 7],
      ['salt', 9],
      ['checksum', 17],
      ['page', 24 + 500],
    ] as const) {
      const spoilt = Buffer.from(log);
      spoilt[third + at] = (spoilt[third + at] ?? 0) ^ 1;
      await writeFile(file, spoilt);
      assert.deepEqual(await pagesRead(file, 2), [1, 2], what);
      await assert.rejects(pagesRead(file, 3), BrokenLog, what);
    }
    await writeFile(file, log.subarray(0, log.length - 1));
    await assert.rejects(pagesRead(file, 3), BrokenLog);

    // Another transaction in the place of the second: valid by itself, but not what the third frame continues.
    const rewritten = makeLog(
      bigEndian,
      [frames[0], { page: 5, dbPages: 5, fill: 5 }, frames[2]].map((f) => f ?? { page: 1, dbPages: 1, fill: 0 }),
    );
    await writeFile(file, Buffer.concat([rewritten.subarray(0, third), log.subarray(third)]));
    await assert.rejects(pagesRead(file, 3), BrokenLog);
  });
}

test('the checksum does not depend on where the bytes lie in memory', () => {
  const log = makeLog(false, frames);
  const shifted = Buffer.concat([Buffer.from([0]), log]).subarray(1);
  assert.deepEqual(parseWalHeader(shifted), parseWalHeader(log));
});

test('what is no header of a log is none', () => {
  const log = makeLog(false, []);
  assert.ok(parseWalHeader(log));
  assert.equal(parseWalHeader(log.subarray(0, 31)), null);
  for (let at = 0; at < 32; at++) {
    const spoilt = Buffer.from(log);
    spoilt[at] = (spoilt[at] ?? 0) ^ 0x40;
    assert.equal(parseWalHeader(spoilt), null, `byte ${at}`);
  }
});
