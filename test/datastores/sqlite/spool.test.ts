/** What the index of a captured piece of log says of it, and what is read from its frames where the index does not. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { test } from 'node:test';
import { frameBytes } from '../../../src/datastores/sqlite/formats/walFormat.js';
import { OpenSegment, type SealedSegment } from '../../../src/datastores/sqlite/spool/spool.js';
import { leftovers, sealedHead } from '../../../src/datastores/sqlite/spool/spooledSegments.js';
import { scratchDir } from '../../support/scratch.js';

const pageSize = 512;
const epoch = { bigEndian: false, salt1: 1, salt2: 2, sum: { a: 3, b: 4 }, walFrames: 0, checkpoints: 0 };
const end = { version: 1 as const, pageSize, salt1: 1, salt2: 2, frames: 4, sum: { a: 5, b: 6 }, axis: 2000 };

function framesOf(...pages: number[]): Buffer {
  const bytes = Buffer.alloc(pages.length * frameBytes(pageSize));
  for (const [i, page] of pages.entries()) bytes.writeUInt32BE(page, i * frameBytes(pageSize));
  return bytes;
}

/** Two looks with three transactions, and frames of one whose end was not seen. */
async function piece(directory: string): Promise<OpenSegment> {
  const segment = await OpenSegment.create(directory, 7, 20, pageSize);
  segment.startEpoch(epoch);
  await segment.append(framesOf(5, 300_000));
  segment.commit({ tLo: 0, tHi: 1000 }, 9, 1);
  segment.commit({ tLo: 0, tHi: 1000 }, 10, 1);
  await segment.append(framesOf(5, 6));
  segment.commit({ tLo: 1000, tHi: 2000 }, 11, 2);
  await segment.append(framesOf(77));
  return segment;
}

async function expectWhole(sealed: SealedSegment): Promise<void> {
  const { pages, transactions, after, epochs } = await sealedHead(sealed);
  assert.deepEqual([...pages], [5, 300_000, 5, 6]);
  assert.deepEqual(
    [...transactions].map(({ tHi, dbPages, frames }) => [tHi, dbPages, frames]),
    [
      [1000, 9, 1],
      [1000, 10, 1],
      [2000, 11, 2],
    ],
  );
  assert.deepEqual({ after, epochs }, { after: 20, epochs: [{ ...epoch, firstFrame: 0 }] });
}

test('an index tells of whole transactions alone, with the pages of their frames', async (t) => {
  const sealed = await (await piece(await scratchDir(t))).seal(2000, end);
  assert.ok(sealed);
  await expectWhole(sealed);
});

test('an index without page numbers, as an earlier release wrote it, is read with those of the frames', async (t) => {
  const sealed = await (await piece(await scratchDir(t))).seal(2000, end);
  assert.ok(sealed);
  const index = `${sealed.file}.index`;
  const lines = (await readFile(index, 'utf8')).split('\n');
  const without = lines.filter((line) => !line.includes('"pages"'));
  assert.equal(without.length, lines.length - 3);
  await writeFile(index, without.join('\n'));
  await expectWhole(sealed);
});

test('frames that the index tells of and that are not there are no piece of log', async (t) => {
  const directory = await scratchDir(t);
  const sealed = await (await piece(directory)).seal(2000, end);
  assert.ok(sealed);
  await writeFile(`${sealed.file}.frames`, framesOf(5));
  await writeFile(`${sealed.file}.json`, '');
  assert.deepEqual(await leftovers(directory), []);
});
