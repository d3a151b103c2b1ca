/** Reading the write-ahead log from bytes made by hand: pages, records over several of them, switches, crashes, damage. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { WalBuffer } from '../../../src/datastores/postgresql/capture/walBuffer.js';
import { crc32c } from '../../../src/datastores/postgresql/formats/crc32c.js';
import { WalReader } from '../../../src/datastores/postgresql/formats/walReader.js';
import {
  type WalCheckpoint,
  type WalCommit,
  WalFormatError,
} from '../../../src/datastores/postgresql/formats/walRecord.js';
import { EPOCH, FILE, PAGE, WalWriter } from '../../support/postgresql/walWriter.js';

function read(start: number, bytes: Buffer, chunk = bytes.length): { reader: WalReader; commits: WalCommit[] } {
  const commits: WalCommit[] = [];
  const reader = new WalReader(start, FILE, (commit) => commits.push(commit));
  for (let at = 0; at < bytes.length; at += chunk) reader.push(bytes.subarray(at, at + chunk));
  return { reader, commits };
}

describe('WalReader', () => {
  test('the checksum is the one of RFC 3720', () => {
    assert.equal(crc32c(Buffer.from('123456789')), 0xe3069283);
    assert.equal(crc32c(Buffer.from('1234'), Buffer.from('56789')), 0xe3069283);
  });

  test('finds commits across pages, files and switches, however the bytes are cut', () => {
    const writer = new WalWriter(FILE);
    const expected: WalCommit[] = [];
    const note = (at: number, where: { start: number; end: number }) =>
      expected.push({ ...where, at: at as WalCommit['at'] });
    note(EPOCH + 1, writer.commit(EPOCH + 1));
    writer.record(10, 0, Buffer.alloc(3 * PAGE + 5, 1));
    note(EPOCH + 3, writer.commit(EPOCH + 3, 0x30));
    writer.commit(EPOCH + 4, 0x20); // an abort
    writer.commit(EPOCH + 5, 0x10); // a prepare
    note(EPOCH + 2, writer.commit(EPOCH + 2, 0x80, 2 * PAGE));
    writer.switchFile();
    for (let i = 0; i < 700; i++) {
      writer.record(10, 0, Buffer.alloc((i * 37) % 301, 2));
      note(EPOCH + 10 + i, writer.commit(EPOCH + 10 + i));
    }
    const bytes = writer.all();
    for (const chunk of [bytes.length, PAGE, 1000, 7, 1]) {
      const { reader, commits } = read(FILE, bytes, chunk);
      assert.deepEqual(commits, expected, `in pieces of ${chunk}`);
      assert.equal(reader.recordEnd, writer.position);
      assert.equal(reader.last?.start, writer.previous);
    }
  });

  test('starts at the beginning of a file, inside a record that began before it', () => {
    const writer = new WalWriter(FILE);
    writer.commit(EPOCH);
    writer.record(10, 0, Buffer.alloc(FILE + PAGE, 1));
    const { start, end } = writer.commit(EPOCH + 9);
    const { commits } = read(2 * FILE, writer.all().subarray(FILE), 100);
    assert.deepEqual(commits, [{ start, end, at: EPOCH + 9 }]);
  });

  test('an unfinished record is not an end, and a crash may take it back', () => {
    const writer = new WalWriter(FILE);
    const { end } = writer.commit(EPOCH + 1);
    const kept = writer.previous;
    writer.record(10, 0, Buffer.alloc(PAGE, 1));
    const half = writer.all().subarray(0, PAGE);
    const { reader, commits } = read(FILE, half);
    assert.equal(reader.recordEnd, end);
    // What the server writes when it comes back: the page anew, flagged as overwriting, and records on it.
    const after = new WalWriter(FILE + PAGE);
    after.previous = kept;
    after.page(8, 0);
    after.commit(EPOCH + 2);
    reader.push(after.all());
    assert.deepEqual(
      commits.map((commit) => commit.at),
      [EPOCH + 1, EPOCH + 2],
    );
  });

  test('tells checkpoints, online and at a shutdown, with where a replay from each begins', () => {
    const writer = new WalWriter(FILE);
    const found: WalCheckpoint[] = [];
    const expected: WalCheckpoint[] = [];
    const checkpoint = (info: number, redo: number, split = 0) => {
      if (split > 0) writer.record(10, 0, Buffer.alloc(PAGE - (writer.position % PAGE) - split - 24, 1));
      const body = Buffer.alloc(90);
      body.writeUInt8(255, 0);
      body.writeUInt8(88, 1);
      body.writeBigUInt64LE(BigInt(redo), 2);
      expected.push({ end: writer.record(0, info, body).end, redo });
    };
    checkpoint(0x10, 0x1_2345_6789);
    writer.commit(EPOCH + 1);
    checkpoint(0x00, 0x2_0000_0028);
    // Other records of the same kind of log, as long and longer.
    for (const info of [0x20, 0x30, 0x50, 0xa0, 0xb0]) writer.record(0, info, Buffer.alloc(90, 0xff));
    checkpoint(0x10, 0x3_0000_0100, 40);
    const bytes = writer.all();
    for (const chunk of [bytes.length, 100, 1]) {
      found.length = 0;
      const reader = new WalReader(FILE, FILE, ...[() => {}, () => {}, () => {}], (each) => found.push(each));
      for (let at = 0; at < bytes.length; at += chunk) reader.push(bytes.subarray(at, at + chunk));
      assert.deepEqual(found, expected, `in pieces of ${chunk}`);
    }
    bytes.writeUInt8(bytes.readUInt8(40 + 24 + 2) ^ 1, 40 + 24 + 2);
    assert.throws(() => read(FILE, bytes), WalFormatError, 'a redo location');
  });

  test('a damaged commit is no part of what was received whole', () => {
    const writer = new WalWriter(FILE);
    const first = writer.commit(EPOCH + 1);
    const second = writer.commit(EPOCH + 2);
    const bytes = writer.all();
    const at = second.start - FILE + 30;
    bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at);
    const records: number[] = [];
    const none = () => {};
    const reader = new WalReader(FILE, FILE, none, (start) => records.push(start));
    assert.throws(() => reader.push(bytes), WalFormatError);
    assert.equal(reader.recordEnd, first.end);
    assert.equal(reader.last?.start, first.start);
    assert.deepEqual(records, [first.start]);

    const stretch = { stretch: 'tl1-x', timeline: 1, systemId: '1', segmentSize: FILE };
    const buffer = new WalBuffer({ ...stretch, end: FILE, mark: null, latestCommitAt: null });
    assert.throws(() => buffer.push(FILE, bytes), WalFormatError);
    const cut = buffer.cut();
    assert.deepEqual([cut?.progress.end, cut?.segment.transactions], [first.end, 1]);
  });

  test('damage and foreign bytes are never taken for log', () => {
    const writer = new WalWriter(FILE);
    writer.commit(EPOCH + 1);
    const second = writer.commit(EPOCH + 2);
    writer.record(10, 0, Buffer.alloc(PAGE, 1));
    const damaged = (at: number) => {
      const bytes = writer.all();
      bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at);
      return () => read(FILE, bytes);
    };
    assert.throws(damaged(second.start - FILE + 30), WalFormatError, 'a commit time');
    assert.throws(damaged(second.start - FILE + 8), WalFormatError, 'the link to the record before');
    assert.throws(damaged(PAGE + 8), WalFormatError, 'the address of a page');
    assert.throws(damaged(PAGE + 16), WalFormatError, 'what remains of a record');
    assert.throws(() => read(FILE, Buffer.alloc(PAGE)), WalFormatError, 'zeros');
    assert.throws(() => read(2 * FILE, writer.all()), WalFormatError, 'another place');
  });
});
