/** The files for TLS that a connection URI names: what is read of them, and when. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, constants, openSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, test } from 'node:test';
import { WalCapture } from '../../../src/datastores/postgresql/capture/capture.js';
import { parseConnectionUri, tlsOptions } from '../../../src/datastores/postgresql/source/address.js';
import { connect } from '../../../src/datastores/postgresql/source/session.js';
import { PlainArchive } from '../../support/postgresql/plainArchive.js';
import { scratchDir } from '../../support/scratch.js';
import { until } from '../../support/sqlitePrograms.js';

const PARAMETERS = ['sslrootcert', 'sslcert', 'sslkey'];

/** Where nobody listens, so that only a file that is refused is an argument that is refused. */
function addressWith(parameter: string, file: string) {
  const uri = `postgresql://u@127.0.0.1:1/d?sslmode=verify-full&${parameter}=${encodeURIComponent(file)}`;
  return parseConnectionUri(uri, null);
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

  test('one that is missing at a later connection is a reason, and looked for again', async (t) => {
    const directory = await scratchDir(t);
    const file = path.join(directory, 'ca.pem');
    const archive = new PlainArchive(path.join(directory, 'never-made'));
    const capture = new WalCapture({
      address: addressWith('sslrootcert', file),
      slot: 'pitr_x',
      resume: null,
      sink: archive,
      retainBytes: 2 ** 30,
      streamRestMs: 0,
    });
    t.after(() => capture.stop());
    await until('it is told of', () => /sslrootcert .* no such file/.test(capture.health().message ?? ''));
    await writeFile(file, '');
    await until('the server is asked', () => /does not answer: .*ECONNREFUSED/.test(capture.health().message ?? ''));
  });
});
