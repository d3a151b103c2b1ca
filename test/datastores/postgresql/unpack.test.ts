/** A backup's tar archives unpacked part by part: all of it comes back, and nothing ever lands anywhere else. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, stat, unlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import type { StoredPart } from '../../../src/datastores/datastore.js';
import type { PartStarts } from '../../../src/datastores/postgresql/backup/partMarks.js';
import { type TarPlace, TarReader } from '../../../src/datastores/postgresql/formats/tarReader.js';
import { unpack } from '../../../src/datastores/postgresql/recovery/unpack.js';
import { type TarEntry, tarOf } from '../../support/postgresql/tarWriter.js';
import { poured } from '../../support/poured.js';
import { Random } from '../../support/random.js';
import { scratchDir } from '../../support/scratch.js';

const never = new AbortController().signal;
const nobody = { directory() {}, fileBegins() {}, fileBytes() {}, fileEnds() {} };

/** The content in parts, each poured in pieces of `piece` bytes. */
function partsOf(content: Buffer, partBytes: number, piece = 700): StoredPart[] {
  const parts: StoredPart[] = [];
  for (let offset = 0; offset < content.length; offset += partBytes) {
    const bytes = content.subarray(offset, offset + partBytes);
    const read = async function* () {
      for (let at = 0; at < bytes.length; at += piece) yield Buffer.from(bytes.subarray(at, at + piece));
    };
    parts.push({ offset, plainBytes: bytes.length, read, pour: (sink, passed) => poured(read(), sink, passed) });
  }
  return parts;
}

/** As a backup notes it while it passes. */
function startsOf(archives: Buffer[], partBytes: number): PartStarts {
  const starts: TarPlace[] = [];
  let total = 0;
  for (const archive of archives) {
    const reader = new TarReader(nobody);
    for (let at = 0; at < archive.length; at += 512, total += 512) {
      if (total > 0 && total % partBytes === 0) starts.push(reader.place);
      reader.push(archive.subarray(at, at + 512));
    }
  }
  return { partBytes, starts };
}

async function unpackedTo(t: TestContext, archives: Buffer[], partBytes: number, starts: PartStarts | null) {
  const root = await scratchDir(t);
  const intos = archives.map((_, i) => path.join(root, String(i)));
  for (const into of intos) await mkdir(into);
  let from = 0;
  const places = archives.map((archive, i) => {
    const place = { from, to: from + archive.length, into: intos[i] ?? '' };
    from = place.to;
    return place;
  });
  const parts = partsOf(Buffer.concat(archives), partBytes);
  await unpack({ parts, archives: places, starts, owner: null }, never);
  return { root, intos };
}

/** Every file and directory below, with its content and whether its owner may execute it. */
async function tree(directory: string): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
    const file = path.join(entry.parentPath, entry.name);
    const { mode } = await stat(file);
    const content = entry.isFile() ? (await readFile(file)).toString('base64') : 'directory';
    found[path.relative(directory, file)] = `${(mode & 0o777).toString(8)} ${content}`;
  }
  return found;
}

describe('PostgreSQL: a backup is unpacked', () => {
  const random = new Random(20261128);
  const bytes = (length: number) => Buffer.from(Array.from({ length }, () => random.below(256)));
  const base: TarEntry[] = [
    { name: 'backup_label', content: bytes(226) },
    { name: 'empty', content: bytes(0) },
    { name: 'base', kind: '5' },
    { name: 'base/5', kind: '5', mode: 0o750 },
    { name: 'base/5/1259', content: bytes(16 * 512) },
    { name: 'base/5/1259_fsm', content: bytes(24 * 512 + 1) },
    { name: './pg_notify/', kind: '5' },
    { name: 'scripts/hook', content: bytes(511), mode: 0o755 },
    { name: '123', content: bytes(513), prefix: 'a/long/way' },
    { name: 'caf\xe9', content: bytes(3) },
    // As PostgreSQL writes sizes from 8 GiB on.
    {
      name: 'big',
      content: bytes(700),
      change: (header) => header.fill(0, 124, 136).writeUInt16BE(700, 134) && header.writeUInt8(0x80, 124),
    },
    { name: 'global/pg_control', content: bytes(8192) },
  ];
  const other: TarEntry[] = [
    { name: 'PG_15_202209061', kind: '5' },
    { name: 'PG_15_202209061/16384/16400', content: bytes(3000) },
  ];

  function expected(entries: TarEntry[]): Record<string, string> {
    const all: Record<string, string> = {};
    for (const { name, kind = '0', content, mode = 0o600, prefix } of entries) {
      const relative = path.normalize(prefix ? `${prefix}/${name}` : name).replace(/\/$/, '');
      // A name is bytes; this one is not UTF-8.
      const shown = Buffer.from(relative, 'latin1').toString('utf8');
      for (let up = path.dirname(shown); up !== '.'; up = path.dirname(up)) all[up] = '700 directory';
      const executable = (mode & 0o100) !== 0 ? '700' : '600';
      all[shown] = kind === '5' ? '700 directory' : `${executable} ${(content ?? Buffer.alloc(0)).toString('base64')}`;
    }
    return all;
  }

  for (const partBytes of [512, 1024, 4096, 5 * 512, 1 << 20]) {
    for (const known of [true, false]) {
      test(`in parts of ${partBytes}, ${known ? 'side by side' : 'one after another'}`, async (t) => {
        const archives = [tarOf(other), tarOf(base)];
        const starts = known ? startsOf(archives, partBytes) : null;
        const { intos } = await unpackedTo(t, archives, partBytes, starts);
        const listed = await readdir(intos[1] ?? '', { encoding: 'buffer' });
        assert.ok(
          listed.some((name) => name.equals(Buffer.from('caf\xe9', 'latin1'))),
          'a name keeps its bytes',
        );
        const named = base.filter(({ name }) => name !== 'caf\xe9');
        assert.deepEqual(await tree(intos[0] ?? ''), expected(other));
        const [found, wanted] = [await treeWithout(intos[1] ?? '', 'caf\xe9'), expected(named)];
        assert.deepEqual(found, wanted);
      });
    }
  }

  /** Node reads no name that is not UTF-8. */
  async function treeWithout(directory: string, name: string): Promise<Record<string, string>> {
    const file = Buffer.concat([Buffer.from(`${directory}/`), Buffer.from(name, 'latin1')]);
    assert.equal((await readFile(file)).length, 3);
    await unlink(file);
    return tree(directory);
  }

  test('what tar(1) packed, in whatever pieces', async (t) => {
    const from = await scratchDir(t);
    await mkdir(path.join(from, 'base/1'), { recursive: true });
    for (let i = 0; i < 40; i++) await writeFile(path.join(from, `base/1/${i}`), bytes(i * 97), { mode: 0o600 });
    const packed = spawnSync('tar', ['--create', '--format=ustar', '--file=-', `--directory=${from}`, '.']);
    assert.equal(packed.status, 0, packed.stderr.toString());
    for (const partBytes of [512, 1536, 1 << 16]) {
      const { intos } = await unpackedTo(t, [packed.stdout], partBytes, startsOf([packed.stdout], partBytes));
      const [found, wanted] = [await tree(intos[0] ?? ''), await tree(from)];
      assert.deepEqual(Object.keys(found).sort(), Object.keys(wanted).sort());
      for (const [name, what] of Object.entries(wanted)) {
        if (!what.endsWith('directory')) assert.equal(found[name], what);
      }
    }
  });

  test('nothing of a file that came before under the same name is left', async (t) => {
    const twice = tarOf([
      { name: 'same', content: bytes(5000) },
      { name: 'same', content: bytes(100) },
    ]);
    const { intos } = await unpackedTo(t, [twice], 1 << 20, null);
    assert.equal((await stat(path.join(intos[0] ?? '', 'same'))).size, 100);
  });

  const hostile: [string, TarEntry[]][] = [
    ['a name that leads up', [{ name: '../outside', content: bytes(10) }]],
    ['a name that leads up from below', [{ name: 'base/../../outside', content: bytes(10) }]],
    ['a name that leads up after a dot', [{ name: './../outside', content: bytes(10) }]],
    ['a directory that leads up', [{ name: '../outside', kind: '5' }]],
    ['a prefix that leads up', [{ name: 'outside', prefix: '..', content: bytes(10) }]],
    ['an absolute name', [{ name: '/tmp/pitr-outside', content: bytes(10) }]],
    ['an absolute prefix', [{ name: 'pitr-outside', prefix: '/tmp', content: bytes(10) }]],
    ['an empty part of a name', [{ name: 'base//outside', content: bytes(10) }]],
    ['a symbolic link', [{ name: 'outside', kind: '2', link: '..' }]],
    [
      'a file through a symbolic link',
      [
        { name: 'link', kind: '2', link: '..' },
        { name: 'link/outside', content: bytes(10) },
      ],
    ],
    ['a hard link', [{ name: 'outside', kind: '1', link: '/etc/passwd' }]],
    ['a device', [{ name: 'outside', kind: '3' }]],
    ['a fifo', [{ name: 'outside', kind: '6' }]],
    ['a longer name of GNU’s', [{ name: '././@LongLink', kind: 'L', content: Buffer.from('outside') }]],
    ['a pax header', [{ name: 'outside', kind: 'x', content: Buffer.from('20 path=../outside\n') }]],
    ['a file without a name', [{ name: './', content: bytes(10) }]],
    [
      'a file below a file',
      [
        { name: 'base', content: bytes(10) },
        { name: 'base/outside', content: bytes(10) },
      ],
    ],
    [
      'a file where a directory is',
      [
        { name: 'base', kind: '5' },
        { name: 'base', content: bytes(10) },
      ],
    ],
    ['a header whose checksum is wrong', [{ name: 'x', content: bytes(10), overwrite: (header) => header.write('y') }]],
    ['a header of another format', [{ name: 'x', content: bytes(10), change: (header) => header.fill(0, 257, 265) }]],
    ['a size that is no number', [{ name: 'x', change: (header) => header.write('9', 124, 'latin1') }]],
    ['a size beyond all numbers', [{ name: 'x', change: (header) => header.fill(0xff, 124, 136) }]],
  ];
  for (const [what, entries] of hostile) {
    test(`${what} is refused, and nothing lands outside`, async (t) => {
      const root = await scratchDir(t);
      const into = path.join(root, 'data');
      await mkdir(into);
      const content = tarOf(entries);
      const archives = [{ from: 0, to: content.length, into }];
      const parts = partsOf(content, 1 << 20);
      const error = { code: 'BACKUP_CORRUPT', message: /^The backup cannot be unpacked: / };
      await assert.rejects(unpack({ parts, archives, starts: null, owner: null }, never), error);
      assert.deepEqual(await readdir(root), ['data']);
      assert.equal(existsSync('/tmp/pitr-outside'), false);
    });
  }

  test('a place that a backup claims leads nowhere else either', async (t) => {
    for (const claimed of [
      { path: '../outside', at: 0, left: 10 },
      { path: '/tmp/pitr-outside', at: 0, left: 10 },
      // One character whose last byte is a dot's.
      { path: '\u012e\u012e/outside', at: 0, left: 10 },
      { path: 'inside', at: -512, left: 10 },
      { path: 'inside', at: 0, left: 0 },
      { path: 'inside', at: 1, left: 10 },
    ]) {
      const starts = { partBytes: 512, starts: [claimed, null, null, null] };
      const unpacking = unpackedTo(t, [tarOf([{ name: 'x', content: bytes(600) }])], 512, starts);
      await assert.rejects(unpacking, { code: 'BACKUP_CORRUPT' });
    }
    assert.equal(existsSync('/tmp/pitr-outside'), false);
  });

  test('parts that do not go on from one another', async (t) => {
    const content = tarOf(base);
    const starts = startsOf([content], 1024);
    assert.ok(starts.starts.length > 10);
    for (const [i, right] of starts.starts.entries()) {
      const wrong = right ? { ...right, left: right.left + 512 } : { path: 'base/5/1259', at: 0, left: 512 };
      const claimed = { ...starts, starts: starts.starts.with(i, wrong) };
      await assert.rejects(unpackedTo(t, [content], 1024, claimed), { code: 'BACKUP_CORRUPT' }, `start ${i}`);
    }
  });

  test('an archive that ends within a file, within a block, or goes on behind its end', async (t) => {
    const whole = tarOf([{ name: 'x', content: bytes(2000) }]);
    for (const short of [whole.subarray(0, 1024), whole.subarray(0, 1000)]) {
      await assert.rejects(unpackedTo(t, [short], 1 << 20, null), { code: 'BACKUP_CORRUPT' });
      await assert.rejects(unpackedTo(t, [short, whole], 512, null), { code: 'BACKUP_CORRUPT' });
    }
    const more = Buffer.concat([whole, tarOf([{ name: 'y', content: bytes(10) }])]);
    await assert.rejects(unpackedTo(t, [more], 1 << 20, null), { code: 'BACKUP_CORRUPT' });
  });

  test('a backup with a hole, or with other bytes than its archives have', async (t) => {
    const into = await scratchDir(t);
    const content = tarOf(base);
    const archives = [{ from: 0, to: content.length, into }];
    const parts = partsOf(content, 1024);
    for (const wrong of [parts.slice(1), parts.slice(0, -1), parts.filter((_, i) => i !== 3), [...parts, ...parts]]) {
      await assert.rejects(unpack({ parts: wrong, archives, starts: null, owner: null }, never), {
        code: 'BACKUP_CORRUPT',
      });
    }
  });
});
