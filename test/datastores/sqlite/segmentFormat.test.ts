/** The stored format, byte by byte: what an earlier version wrote must be read by every later one. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ByteReader } from '../../../src/datastores/sqlite/formats/byteReader.js';
import {
  BadSegment,
  encodeHead,
  readHead,
  type SegmentHead,
} from '../../../src/datastores/sqlite/formats/segmentFormat.js';
import { TransactionTable } from '../../../src/datastores/sqlite/formats/transactionTable.js';

const transactions = [
  { tLo: 0, tHi: 1_795_377_488_104_757, dbPages: 17, frames: 2 },
  { tLo: 1_795_377_488_104_757, tHi: 1_795_377_488_104_999, dbPages: 18, frames: 1 },
];

const table = TransactionTable.withRoom(transactions.length);
for (const [i, { dbPages, frames, ...times }] of transactions.entries()) table.set(i, times, dbPages, frames);

const head: SegmentHead = {
  pageSize: 4096,
  generation: 3,
  after: 1203,
  epochs: [
    { firstFrame: 0, bigEndian: false, salt1: 1, salt2: 2, sum: { a: 3, b: 4 }, walFrames: 5, checkpoints: 6 },
    { firstFrame: 2, bigEndian: true, salt1: 7, salt2: 8, sum: { a: 9, b: 10 }, walFrames: 0, checkpoints: 7 },
  ],
  transactions: table,
  pages: Uint32Array.of(1, 17, 18),
};

/** Version 1, never to be changed. */
const golden =
  '7069747277616c0a010000000010000000000000000008400000000000cc924002000000020000000300000000000000000000000000000001000000020000000300000004000000050000000600000002000000010000000700000008000000090000000a00000000000000070000000000000000000000d434aa958b8319431100000002000000d434aa958b8319439c38aa958b831943120000000100000001000000110000001200000016442f49';

const read = (bytes: Buffer) =>
  readHead(
    new ByteReader(
      (async function* () {
        yield bytes;
      })(),
    ).exactly,
  );

test('version 1 is written and read as it always was', async () => {
  assert.equal(encodeHead(head).toString('hex'), golden);
  const found = await read(Buffer.from(golden, 'hex'));
  assert.deepEqual(found, head);
  assert.deepEqual([...found.transactions], transactions);
  assert.deepEqual(found.transactions.last, transactions[1]);
  assert.equal(found.transactions.at(-1), null);
  assert.equal(found.transactions.at(2), null);
});

test('a head that is damaged anywhere is refused', async () => {
  const bytes = Buffer.from(golden, 'hex');
  for (let at = 0; at < bytes.length; at++) {
    const spoilt = Buffer.from(bytes);
    spoilt[at] = (spoilt[at] ?? 0) ^ 0x01;
    await assert.rejects(read(spoilt), `byte ${at}`);
  }
  await assert.rejects(read(bytes.subarray(0, bytes.length - 1)));
});

test('another version is refused by its number', async () => {
  const other = Buffer.from(golden, 'hex');
  other.writeUInt32LE(2, 8);
  await assert.rejects(
    read(other),
    (error: Error) => error instanceof BadSegment && /version is 2/.test(error.message),
  );
});

test('pieces are put together from chunks of any size', async () => {
  const bytes = Buffer.from(golden, 'hex');
  for (const size of [1, 7, 48, 1000]) {
    const chunks = async function* () {
      for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
    };
    const reader = new ByteReader(chunks());
    assert.deepEqual(await readHead(reader.exactly), head);
    assert.equal(await reader.drain(), 0);
  }
});
