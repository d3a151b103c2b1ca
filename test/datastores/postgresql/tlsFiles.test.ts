/** The files for TLS that a connection URI names: what is read of them, and when. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, constants, openSync } from 'node:fs';
import { mkdir, realpath, rename, rm, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { parseConnectionUri, tlsOptions } from '../../../src/datastores/postgresql/source/address.js';
import { NetworkBounds } from '../../../src/datastores/postgresql/source/networks.js';
import { connect } from '../../../src/datastores/postgresql/source/session.js';
import type { FileRule } from '../../../src/datastores/postgresql/source/tlsFiles.js';
import { FileBounds } from '../../../src/instances/fileBounds.js';
import { bareCapture } from '../../support/postgresql/bareCapture.js';
import { PlainArchive } from '../../support/postgresql/plainArchive.js';
import { scratchDir } from '../../support/scratch.js';
import { until } from '../../support/sqlitePrograms.js';

const PARAMETERS = ['sslrootcert', 'sslcert', 'sslkey'];

/** Where nobody listens, so that only a file that is refused is an argument that is refused. */
function addressWith(parameter: string, file: string, files: FileRule = realpath) {
  const uri = `postgresql://u@127.0.0.1:1/d?sslmode=verify-full&${parameter}=${encodeURIComponent(file)}`;
  return parseConnectionUri(uri, { networks: new NetworkBounds(['loopback']), files });
}

/** What a connection with this file would present. */
async function presented(file: string, files?: FileRule): Promise<string> {
  return String((await tlsOptions(addressWith('sslkey', file, files)))?.key);
}

/** Directories of two tenants with a key in each, and of the service. */
async function tenants(t: TestContext): Promise<{ root: string; shop: FileRule }> {
  const root = await scratchDir(t);
  for (const name of ['shop/sub', 'rival/sub', 'home']) await mkdir(path.join(root, name), { recursive: true });
  await writeFile(path.join(root, 'shop/sub/key'), 'own');
  await writeFile(path.join(root, 'rival/sub/key'), 'foreign');
  await writeFile(path.join(root, 'home/key'), 'secret');
  const bounds = new FileBounds({ allowed: path.join(root, '{tenant}'), home: path.join(root, 'home') });
  return { root, shop: (file) => bounds.realPath('shop', file) };
}

describe('PostgreSQL: files for TLS', { timeout: 120_000 }, () => {
  async function assertRefused(file: string, why: RegExp): Promise<void> {
    for (const parameter of PARAMETERS) {
      const refused = connect(addressWith(parameter, file), { applicationName: 'x' });
      await assert.rejects(refused, (fault: Error & { code?: string; hint?: string; details?: unknown }) => {
        assert.equal(fault.code, 'INVALID_ARGUMENT', fault.message);
        assert.deepEqual(fault.details, { argument: 'connectionUri' });
        assert.ok(fault.message.includes(`${parameter} ${file} `), fault.message);
        assert.match(fault.message, why);
        assert.match(fault.hint ?? '', /PEM file of at most 1 MiB/);
        return true;
      });
    }
  }

  test('a pipe that nobody writes to holds nobody up', { timeout: 20_000 }, async (t) => {
    let letGo = () => {};
    // Before the directory goes, so that a failure ends too.
    t.after(() => letGo());
    const fifo = path.join(await scratchDir(t), 'fifo');
    execFileSync('mkfifo', [fifo]);
    letGo = () => closeSync(openSync(fifo, constants.O_RDWR | constants.O_NONBLOCK));
    await assertRefused(fifo, /it is not a file/);
  });

  test('what is missing, no file or too large is refused with its name', async (t) => {
    const directory = await scratchDir(t);
    await mkdir(path.join(directory, 'directory'));
    await writeFile(path.join(directory, 'large'), Buffer.alloc(1024 * 1024 + 1));
    await assertRefused(path.join(directory, 'missing'), /there is no such file/);
    await assertRefused(path.join(directory, 'large/x'), /there is no such file/);
    await assertRefused(path.join(directory, 'directory'), /it is not a file/);
    await assertRefused(path.join(directory, 'large'), /larger than 1 MiB/);
    await assertRefused('/dev/null', /it is not a file/);
  });

  test('a file of the greatest size is read whole', async (t) => {
    const file = path.join(await scratchDir(t), 'pem');
    const content = Buffer.alloc(1024 * 1024, 'x');
    await writeFile(file, content);
    assert.deepEqual((await tlsOptions(addressWith('sslcert', file)))?.cert, content);
  });

  for (const [what, moved, target] of [
    ['file', 'shop/sub/key', 'rival/sub/key'],
    ['file', 'shop/sub/key', 'home/key'],
    ['directory', 'shop/sub', 'rival/sub'],
  ] as const) {
    test(`a ${what} that becomes a link to ${target} is not read any more`, async (t) => {
      const { root, shop } = await tenants(t);
      const key = path.join(root, 'shop/sub/key');
      assert.equal(await presented(key, shop), 'own');
      await rename(path.join(root, moved), path.join(root, 'old'));
      await symlink(path.join(root, target), path.join(root, moved));
      await assert.rejects(presented(key, shop), { code: 'INVALID_ARGUMENT', message: /may not be registered from/ });
      await rm(path.join(root, moved));
      await rename(path.join(root, 'old'), path.join(root, moved));
      assert.equal(await presented(key, shop), 'own');
    });
  }

  test('one that becomes a link between the look and the opening is not read', async (t) => {
    const { root, shop } = await tenants(t);
    for (const moved of ['sub/key', 'sub']) {
      const turned: FileRule = async (file) => {
        const real = await shop(file);
        await rename(path.join(root, 'shop', moved), path.join(root, 'old'));
        await symlink(path.join(root, 'rival', moved), path.join(root, 'shop', moved));
        return real;
      };
      const read = presented(path.join(root, 'shop/sub/key'), turned);
      await assert.rejects(read, {
        code: 'INVALID_ARGUMENT',
        message: /a link stands there|replaced while it was opened/,
      });
      await rm(path.join(root, 'shop', moved));
      await rename(path.join(root, 'old'), path.join(root, 'shop', moved));
    }
  });

  test('a certificate that is renewed behind links of its own directory is read anew', async (t) => {
    const { root, shop } = await tenants(t);
    const directory = path.join(root, 'shop');
    // As Kubernetes mounts a secret.
    for (const version of ['..1', '..2']) {
      await mkdir(path.join(directory, version));
      await writeFile(path.join(directory, version, 'tls.key'), version);
    }
    await symlink('..1', path.join(directory, '..data'));
    await symlink('..data/tls.key', path.join(directory, 'tls.key'));
    assert.equal(await presented(path.join(directory, 'tls.key'), shop), '..1');
    await symlink('..2', path.join(directory, '..new'));
    await rename(path.join(directory, '..new'), path.join(directory, '..data'));
    await rm(path.join(directory, '..1'), { recursive: true });
    assert.equal(await presented(path.join(directory, 'tls.key'), shop), '..2');
    // Replaced by a plain file, too.
    await writeFile(path.join(directory, 'new'), 'renewed');
    await rename(path.join(directory, 'new'), path.join(directory, 'tls.key'));
    assert.equal(await presented(path.join(directory, 'tls.key'), shop), 'renewed');
  });

  test('where files may be anywhere, links may lead anywhere but to the service’s own', async (t) => {
    const { root } = await tenants(t);
    const bounds = new FileBounds({ allowed: '*', home: path.join(root, 'home') });
    const anywhere: FileRule = (file) => bounds.realPath('local', file);
    await symlink(path.join(root, 'rival/sub'), path.join(root, 'shop/way'));
    await symlink(path.join(root, 'home/key'), path.join(root, 'shop/link'));
    assert.equal(await presented(path.join(root, 'shop/way/key'), anywhere), 'foreign');
    await assert.rejects(presented(path.join(root, 'shop/link'), anywhere), { code: 'INVALID_ARGUMENT' });
  });

  test('one that is missing at a later connection is a reason, and looked for again', async (t) => {
    const directory = await scratchDir(t);
    const file = path.join(directory, 'ca.pem');
    const archive = new PlainArchive(path.join(directory, 'never-made'));
    const capture = bareCapture(addressWith('sslrootcert', file), archive);
    t.after(() => capture.stop());
    await until('it is told of', () => /sslrootcert .* no such file/.test(capture.health().message ?? ''));
    await writeFile(file, '');
    await until('the server is asked', () => /does not answer: .*ECONNREFUSED/.test(capture.health().message ?? ''));
  });
});
