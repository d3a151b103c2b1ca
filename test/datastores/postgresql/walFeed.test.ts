/** What is put in front of a recovering server, file by file: no byte behind the cut, no directory of the source's. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, test } from 'node:test';
import type { StoredSegment } from '../../../src/datastores/datastore.js';
import { encodeHeader } from '../../../src/datastores/postgresql/formats/segmentFormat.js';
import { WalReader } from '../../../src/datastores/postgresql/formats/walReader.js';
import type { WalRecord } from '../../../src/datastores/postgresql/formats/walRecord.js';
import { WalFeed } from '../../../src/datastores/postgresql/recovery/walFeed.js';
import { EPOCH, FILE, PAGE, WalWriter } from '../../support/postgresql/walWriter.js';
import { poured } from '../../support/poured.js';
import { scratchDir } from '../../support/scratch.js';

const SYSTEM = '7300000000000000001';

function tablespaceBody(oid: number, directory: string): Buffer {
  const data = Buffer.concat([Buffer.alloc(4), Buffer.from(`${directory}\0`)]);
  data.writeUInt32LE(oid);
  return Buffer.concat([Buffer.from([255, data.length]), data]);
}

/** One archived segment of these bytes, read in pieces. */
function segmentOf(bytes: Buffer, piece: number): StoredSegment {
  const header = encodeHeader({ timeline: 1, segmentSize: FILE, systemId: SYSTEM, start: FILE });
  const read = async function* () {
    yield header;
    for (let at = 0; at < bytes.length; at += piece) yield bytes.subarray(at, at + piece);
  };
  const plainBytes = header.length + bytes.length;
  return {
    after: FILE,
    last: FILE + bytes.length,
    transactions: 1,
    plainBytes,
    read,
    pour: (to) => poured(read(), to),
  };
}

describe('PostgreSQL: the log fed to a replay', () => {
  for (const [where, offset] of [
    ['in the middle of a page', 104],
    ['over two pages', PAGE - 48],
    ['whose header lies on two pages', 2 * PAGE - 16],
    ['whose directory begins on the next page', PAGE - 32],
    ['over two files', FILE - 48],
    ['whose header lies in two files', FILE - 8],
  ] as const) {
    test(`a CREATE TABLESPACE ${where} loses its directory, and nothing else changes`, async (t) => {
      const writer = new WalWriter(FILE);
      const headers = 40 + 24 + 24 * Math.floor(offset / PAGE);
      writer.record(10, 0, Buffer.alloc(offset - headers, 1));
      assert.equal(writer.position, FILE + offset);
      const made = writer.record(5, 0x00, tablespaceBody(16400, `/srv/${'x'.repeat(200)}`));
      writer.record(5, 0x10, Buffer.from([255, 4, 16, 64, 0, 0]));
      writer.commit(EPOCH + 1);
      const cut = writer.position;
      writer.commit(EPOCH + 2);
      const bytes = writer.all();
      for (const piece of [bytes.length, PAGE, 1000, 7]) {
        const directory = await scratchDir(t);
        const feed = new WalFeed(
          directory,
          { major: 15, timeline: 1, segmentSize: FILE, systemId: SYSTEM, history: null, after: FILE, cut },
          null,
          new AbortController().signal,
        );
        await feed.prepare();
        await feed.run(
          (async function* () {
            yield segmentOf(bytes, piece);
          })(),
        );
        const ready = path.join(directory, 'ready');
        const names = (await readdir(ready)).sort();
        const fed = Buffer.concat(await Promise.all(names.map((name) => readFile(path.join(ready, name)))));
        assert.equal(fed.length % FILE, 0);
        assert.ok(
          fed.subarray(cut - FILE).every((byte) => byte === 0),
          'nothing behind the cut',
        );
        const found: WalRecord[] = [];
        const records: [number, number][] = [];
        const reader = new WalReader(
          FILE,
          FILE,
          () => {},
          (start, end) => records.push([start, end]),
          (record) => found.push(record),
        );
        // It checks the record's checksum too.
        reader.push(fed.subarray(0, cut - FILE));
        assert.equal(records.length, 4);
        assert.deepEqual(records[1], [made.start, made.end]);
        assert.equal(found[0]?.body.readUInt32LE(2), 16400);
        assert.equal(found[0]?.body.readUInt8(6), 0, 'the directory is the empty text');
        const changed = [...fed.subarray(0, cut - FILE)].flatMap((byte, at) => (byte === bytes[at] ? [] : [at + FILE]));
        // The first letter of the directory, and a checksum of four bytes.
        assert.ok(changed.length >= 2 && changed.length <= 5, `${changed}`);
        assert.ok(changed.every((lsn) => lsn >= made.start && lsn < made.end));
      }
    });
  }

  test('the log of another major than the backup’s is not given to it', async (t) => {
    const writer = new WalWriter(FILE);
    writer.commit(EPOCH + 1);
    const plan = { timeline: 1, segmentSize: FILE, systemId: SYSTEM, history: null, after: FILE, cut: writer.position };
    for (const [major, refused] of [
      [15, false],
      [16, true],
    ] as const) {
      const directory = await scratchDir(t);
      const feed = new WalFeed(directory, { ...plan, major }, null, new AbortController().signal);
      await feed.prepare();
      const fed = feed.run(
        (async function* () {
          yield segmentOf(writer.all(), 1000);
        })(),
      );
      if (refused) await assert.rejects(fed, { code: 'LOG_CORRUPT', message: /of PostgreSQL 15, the backup of 16/ });
      else await fed;
      assert.equal((await readdir(path.join(directory, 'ready'))).length, refused ? 0 : 1);
    }
  });

  test('the restore command takes what is ready, says what is not there, waits for what will be, and stops at a fault', async (t) => {
    const directory = await scratchDir(t);
    const log = { timeline: 1, segmentSize: FILE, systemId: SYSTEM, history: null };
    const plan = { major: 15, ...log, after: FILE, cut: 2 * FILE };
    const feed = new WalFeed(directory, plan, null, new AbortController().signal);
    const put = async (...names: string[]) => {
      for (const name of names) await writeFile(path.join(directory, name), name);
    };
    const taken = path.join(directory, 'RECOVERYXLOG');
    const ask = (file: string) => {
      const command = feed.restoreCommand.replaceAll('%f', file).replaceAll('%p', taken);
      return new Promise<number | null>((resolve) => {
        spawn('/bin/sh', ['-c', command], { stdio: 'ignore' }).once('exit', resolve);
      });
    };
    await feed.prepare();
    await put('ready/1', 'given/1');
    assert.equal(await ask('1'), 0);
    assert.equal(await readFile(taken, 'utf8'), 'ready/1');
    assert.equal(await ask('1'), 1, 'it was given before');
    assert.equal(await ask('00000002.history'), 1);

    // Asked for while it is not there, and put there with everything that says that there is none.
    const waiting = ask('2');
    await new Promise((resolve) => setTimeout(resolve, 100));
    await put('ready/2', 'given/2', 'end');
    assert.equal(await waiting, 0);
    assert.equal(await readFile(taken, 'utf8'), 'ready/2');
    assert.equal(await ask('3'), 1, 'the log has ended');
    await put('ready/3');
    assert.equal(await ask('3'), 0, 'what is ready comes before the end');
    await put('fault');
    assert.equal(await ask('4'), 201);
  });
});
