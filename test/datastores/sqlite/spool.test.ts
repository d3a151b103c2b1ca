/** Captured log on its way through the spool: what was flushed comes back exactly, however its process ended. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { cp, open, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { ByteReader } from '../../../src/datastores/sqlite/formats/byteReader.js';
import { readHead } from '../../../src/datastores/sqlite/formats/segmentFormat.js';
import {
  addToSum,
  frameBytes,
  frameHeaderBytes,
  hostIsBigEndian,
  runningSum,
  sumSoFar,
} from '../../../src/datastores/sqlite/formats/walFormat.js';
import { OpenSegment } from '../../../src/datastores/sqlite/spool/openSegment.js';
import {
  encodedPages,
  framesPerBlock,
  type IndexLine,
  indexLine,
} from '../../../src/datastores/sqlite/spool/pieceIndex.js';
import { type SealedSegment, writeSeal } from '../../../src/datastores/sqlite/spool/spool.js';
import { leftovers, sealedBlocks, sealedIndex } from '../../../src/datastores/sqlite/spool/spooledSegments.js';
import { scratchDir } from '../../support/scratch.js';
import { seeded, seeds } from '../../support/seed.js';
import { plainOf } from '../../support/unpacked.js';

const generation = 7;
const after = 20;

/** A log that a SQLite could have written, a frame after another. */
class Log {
  private readonly sum = runningSum({ a: 3, b: 4 });
  private readonly page: Buffer;
  frames: Buffer[] = [];

  constructor(
    readonly pageSize: number,
    private readonly random: () => number,
  ) {
    this.page = randomBytes(pageSize);
  }

  get epoch() {
    return { bigEndian: hostIsBigEndian, salt1: 1, salt2: 2, sum: { a: 3, b: 4 }, walFrames: 0, checkpoints: 0 };
  }

  /** The frames of a transaction of so many pages, or of one that does not end. */
  transaction(pages: number, dbPages: number): Buffer {
    const size = frameBytes(this.pageSize);
    const bytes = Buffer.alloc(pages * size);
    for (let i = 0; i < pages; i++) {
      const frame = bytes.subarray(i * size, (i + 1) * size);
      // Much of what the page before it had, as in the log of small commits; sometimes nothing of it.
      if (this.random() < 0.1) randomBytes(this.pageSize).copy(this.page);
      else randomBytes(20).copy(this.page, Math.floor(this.random() * (this.pageSize - 20)));
      frame.writeUInt32BE(1 + Math.floor(this.random() * 400_000));
      frame.writeUInt32BE(i === pages - 1 ? dbPages : 0, 4);
      frame.writeUInt32BE(1, 8);
      frame.writeUInt32BE(2, 12);
      this.page.copy(frame, frameHeaderBytes);
      addToSum(this.sum, frame, 0, 8, hostIsBigEndian);
      addToSum(this.sum, frame, frameHeaderBytes, size, hostIsBigEndian);
      const { a, b } = sumSoFar(this.sum);
      frame.writeUInt32BE(a, 16);
      frame.writeUInt32BE(b, 20);
      this.frames.push(frame);
    }
    return bytes;
  }

  get end() {
    const sum = sumSoFar(this.sum);
    return {
      version: 1 as const,
      pageSize: this.pageSize,
      salt1: 1,
      salt2: 2,
      frames: this.frames.length,
      sum,
      axis: 0,
    };
  }
}

interface Written {
  tHi: number;
  dbPages: number;
  frames: number;
}

/** What the archive gets of a piece is what was written of it. */
async function expectWhole(
  sealed: SealedSegment,
  written: readonly Written[],
  frames: readonly Buffer[],
): Promise<void> {
  const index = await sealedIndex(sealed);
  const reader = new ByteReader(plainOf({ packed: true, open: () => sealedBlocks(sealed, index) }));
  const head = await readHead(reader.exactly);
  const count = written.reduce((sum, each) => sum + each.frames, 0);
  assert.deepEqual(
    [...head.transactions].map(({ tHi, dbPages, frames }) => ({ tHi, dbPages, frames })),
    written,
  );
  assert.deepEqual([sealed.after, sealed.last, head.after], [after, after + written.length, after]);
  assert.deepEqual(
    [...head.pages],
    frames.slice(0, count).map((frame) => frame.readUInt32BE(0)),
  );
  for (let i = 0; i < count; i++) {
    assert.ok((await reader.upTo(frameBytes(head.pageSize))).equals(frames[i] as Buffer), `frame ${i} of ${count}`);
  }
  assert.equal(await reader.drain(), 0);
}

/** A piece that grows at random, and what of it was flushed last. */
async function grown(directory: string, random: () => number, pageSize: number) {
  const below = (most: number) => Math.floor(random() * most);
  const log = new Log(pageSize, random);
  const segment = await OpenSegment.create(directory, generation, after, pageSize);
  segment.startEpoch(log.epoch);
  const perBlock = framesPerBlock(pageSize);
  const most = Math.max(3, 3 * perBlock);
  const written: Written[] = [];
  let flushed = 0;
  const step = async () => {
    const tHi = 1000 * (1 + written.length);
    for (let transactions = 1 + below(4); transactions > 0; transactions--) {
      const pages = random() < 0.2 ? 1 + below(most) : 1 + below(3);
      await segment.append(log.transaction(pages, 1 + below(9)));
      const dbPages = (log.frames.at(-1) as Buffer).readUInt32BE(4);
      segment.commit({ tLo: tHi - 1000, tHi }, dbPages, pages);
      written.push({ tHi, dbPages, frames: pages });
    }
    if (random() < 0.2) return;
    await segment.flush();
    flushed = written.length;
  };
  return { log, segment, written, step, perBlock, flushed: () => written.slice(0, flushed) };
}

const pageSizes = [512, 4096, 65_536];

test('a sealed piece is what was captured, without the frames of a transaction that did not end', async (t) => {
  for (const seed of seeds(t)) {
    const random = seeded(seed);
    for (const pageSize of pageSizes) {
      for (const unfinished of [0, 1, 2 * framesPerBlock(pageSize) + 1]) {
        const directory = await scratchDir(t);
        const { log, segment, written, step } = await grown(directory, random, pageSize);
        for (let i = 0; i < 6; i++) await step();
        const { end } = log;
        if (unfinished > 0) await segment.append(log.transaction(unfinished, 0));
        const sealed = await segment.seal(written.length, end);
        assert.ok(sealed);
        await expectWhole(sealed, written, log.frames);
        assert.deepEqual(await leftovers(directory), [sealed]);
      }
    }
  }
});

test('of a piece whose process is killed everything is left that was flushed', async (t) => {
  for (const seed of seeds(t)) {
    const random = seeded(seed);
    for (const pageSize of pageSizes) {
      const directory = await scratchDir(t);
      const { log, segment, step, flushed, perBlock } = await grown(directory, random, pageSize);
      for (let i = 0; i < 12; i++) {
        if (random() < 0.3) await step();
        // Of a transaction that is not committed, as far as it came.
        else if (i === 11) await segment.append(log.transaction(perBlock + 1, 0));
        else await step();
        const killed = await scratchDir(t);
        await cp(directory, killed, { recursive: true });
        const found = await leftovers(killed);
        assert.equal(found.length, flushed().length > 0 ? 1 : 0);
        for (const sealed of found) {
          await expectWhole(sealed, flushed(), log.frames);
          assert.deepEqual(await leftovers(killed), [sealed]);
        }
      }
      await segment.discard();
      assert.deepEqual(await readdir(directory), []);
    }
  }
});

test('however many lines of an index a crash left whole, they describe a piece', async (t) => {
  for (const seed of seeds(t)) {
    const directory = await scratchDir(t);
    const { log, segment, written, step, flushed } = await grown(directory, seeded(seed), 4096);
    for (let i = 0; i < 6; i++) await step();
    await segment.flush();
    assert.equal(flushed().length <= written.length, true);
    await segment.close();
    const name = `${generation}-${after}.index`;
    const lines = (await readFile(path.join(directory, name), 'utf8')).split('\n');
    let most = 0;
    for (let whole = 1; whole < lines.length; whole++) {
      const crashed = await scratchDir(t);
      await cp(directory, crashed, { recursive: true });
      // A line is whole with its line feed only.
      const torn = whole % 2 === 0 ? (lines[whole] ?? '') : (lines[whole] ?? '').slice(0, 9);
      await writeFile(path.join(crashed, name), `${lines.slice(0, whole).join('\n')}\n${torn}`);
      const [sealed] = await leftovers(crashed);
      const count = sealed ? sealed.last - sealed.after : 0;
      // Newest frames that an older line tells of may have been written over since; those that are in blocks are there.
      const told = lines.slice(0, whole).map((line) => JSON.parse(line.slice(line.indexOf(' ') + 1)) as IndexLine);
      const inBlocks = told.slice(0, 1 + told.findLastIndex((line) => 'blocks' in line));
      const least = inBlocks.reduce((sum, line) => sum + ('look' in line ? line.look.frames.length : 0), 0);
      assert.ok(count >= least, `${count} transactions of at least ${least}`);
      if (!sealed) continue;
      assert.ok(count >= most);
      most = count;
      await expectWhole(sealed, written.slice(0, count), log.frames);
    }
    assert.equal(most, written.length);
  }
});

test('a block that the disk spoilt does not reach the archive', async (t) => {
  const directory = await scratchDir(t);
  const { log, segment, step } = await grown(directory, seeded(1), 4096);
  for (let i = 0; i < 20; i++) await step();
  const sealed = await segment.seal(1, log.end);
  assert.ok(sealed);
  const file = await open(`${sealed.file}.blocks`, 'r+');
  const { size } = await file.stat();
  const index = await sealedIndex(sealed);
  const spoil = async (at: number, change: number) => {
    const byte = Buffer.alloc(1);
    await file.read(byte, 0, 1, at);
    byte[0] = (byte[0] ?? 0) ^ change;
    await file.write(byte, 0, 1, at);
  };
  const pass = async () => {
    for await (const _ of sealedBlocks(sealed, index));
  };
  for (const at of [0, 4, 9, size >> 1, size - 1]) {
    await spoil(at, 4);
    await assert.rejects(pass(), { code: 'BAD_SEGMENT' });
    await spoil(at, 4);
  }
  await pass();
  await file.truncate(size - 1);
  await file.close();
  await assert.rejects(pass(), { code: 'BAD_SEGMENT' });
  await rm(`${sealed.file}.blocks`);
  await assert.rejects(pass(), { code: 'BAD_SEGMENT' });
});

test('blocks of fewer or more frames than the index says do not reach the archive', async (t) => {
  const directory = await scratchDir(t);
  const { log, segment, step, perBlock } = await grown(directory, seeded(1), 4096);
  for (let i = 0; i < 20; i++) await step();
  const sealed = await segment.seal(1, log.end);
  assert.ok(sealed);
  const index = await sealedIndex(sealed);
  assert.ok(index.blocks.length > 2);
  for (const wrong of [perBlock >> 1, 2 * perBlock]) {
    const pass = async () => {
      for await (const _ of sealedBlocks(sealed, { ...index, perBlock: wrong }));
    };
    await assert.rejects(pass(), { code: 'BAD_SEGMENT' });
  }
});

test('what is left of a piece that was being removed goes too', async (t) => {
  const directory = await scratchDir(t);
  for (const ending of ['.json', '.json.part', '.blocks', '.frames', '.index']) {
    await writeFile(path.join(directory, `7-20${ending}`), '');
    assert.deepEqual(await leftovers(directory), []);
    assert.deepEqual(await readdir(directory), []);
  }
});

test('pieces of earlier releases, whose frames all lie as they were captured, are archived too', async (t) => {
  const random = seeded(3);
  const log = new Log(4096, random);
  const written: Written[] = [];
  const size = frameBytes(4096);
  for (let i = 0; i < 90; i++) {
    const frames = 1 + Math.floor(random() * 3);
    log.transaction(frames, 5);
    written.push({ tHi: 1000, dbPages: 5, frames });
  }
  const start =
    indexLine({ pageSize: 4096, generation, after }) + indexLine({ epoch: { ...log.epoch, firstFrame: 0 } });
  const frames = Buffer.concat(log.frames);
  // All page numbers, those of the first frames, none.
  const first = frames.subarray(0, 50 * size);
  const look = { tLo: 0, tHi: 1000, dbPages: written.map(() => 5), frames: written.map((each) => each.frames) };
  const pages = indexLine({ pages: encodedPages(frames, size) });
  for (const known of [pages, indexLine({ pages: encodedPages(first, size) }), '']) {
    for (const seal of [true, false]) {
      const directory = await scratchDir(t);
      const file = path.join(directory, `${generation}-${after}`);
      await writeFile(`${file}.index`, start + known + indexLine({ look }));
      await writeFile(`${file}.frames`, Buffer.concat([frames, randomBytes(seal ? 0 : 100)]));
      const last = after + written.length;
      const bytes = frames.length;
      if (seal) await writeSeal({ file, generation, after, last, bytes, coveredTo: 1234, continuation: log.end });
      const found = await leftovers(directory);
      assert.equal(found.length, 1);
      const [sealed] = found as [SealedSegment];
      assert.equal(sealed.coveredTo, seal ? 1234 : 0);
      assert.deepEqual(sealed.continuation.sum, log.end.sum);
      await expectWhole(sealed, written, log.frames);
      // However many of the lines about its blocks were written when that was cut short, it begins again.
      const lines = (await readFile(`${file}.index`, 'utf8')).split('\n');
      for (let whole = (start + known).split('\n').length; whole < lines.length - 1; whole++) {
        const cut = await scratchDir(t);
        await cp(directory, cut, { recursive: true });
        if (!seal) await rm(path.join(cut, `${generation}-${after}.json`));
        const there = `${lines.slice(0, whole).join('\n')}\n${lines[whole]?.slice(0, 20)}`;
        await writeFile(path.join(cut, `${generation}-${after}.index`), there);
        const again = await leftovers(cut);
        assert.equal(again.length, 1);
        await expectWhole(again[0] as SealedSegment, written, log.frames);
      }
    }
  }
});

test('frames that the index tells of and that are not there are no piece of log', async (t) => {
  for (const ending of ['.frames', '.blocks']) {
    for (const harm of [(file: string) => rm(file), (file: string) => truncate(file, 4200)]) {
      const directory = await scratchDir(t);
      const { segment, log } = await grown(directory, seeded(2), 4096);
      await segment.append(log.transaction(framesPerBlock(4096) + 2, 9));
      segment.commit({ tLo: 0, tHi: 1000 }, 9, framesPerBlock(4096) + 2);
      await segment.flush();
      await segment.close();
      await harm(path.join(directory, `${generation}-${after}${ending}`));
      assert.deepEqual(await leftovers(directory), []);
      assert.deepEqual(await readdir(directory), []);
    }
  }
});
