/** Text in and out: LSNs, positions, names of files and stretches, connection URIs. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  formatLsn,
  parseLsn,
  parsePosition,
  positionAt,
  stretchName,
  walFileName,
} from '../../../src/datastores/postgresql/formats/lsn.js';
import { endpointOf, parseConnectionUri, uriOf } from '../../../src/datastores/postgresql/source/address.js';
import { parseInstant } from '../../../src/instant.js';

describe('PostgreSQL: log positions', () => {
  test('an LSN there and back', () => {
    for (const text of ['0/0', '0/1A2B3C4', '16/B374D848', '1FFFFF/FFFFFFFF']) {
      assert.equal(formatLsn(parseLsn(text) ?? -1), text);
    }
    for (const text of ['', '0', '0/', '/1', '200000/0', 'FFFFFFFF/FFFFFFFF', '0/123456789', '0/1 ', '-1/0']) {
      assert.equal(parseLsn(text), null, text);
    }
  });

  test('files of the log are named as PostgreSQL names them', () => {
    const size = 16 * 1024 * 1024;
    assert.equal(walFileName(1, parseLsn('0/1741930') ?? 0, size), '000000010000000000000001');
    // select pg_walfile_name('16/B374D848') on timeline 1
    assert.equal(walFileName(1, parseLsn('16/B374D848') ?? 0, size), '0000000100000016000000B3');
    assert.equal(walFileName(10, parseLsn('1/0') ?? 0, 1024 * 1024), '0000000A0000000100000000');
  });

  test('a position names its stretch; a bare LSN names none', () => {
    const stretch = stretchName(1, parseInstant('2026-11-22T17:05:01.123456Z'));
    assert.equal(stretch, 'tl1-20261122T170501.123Z');
    const position = positionAt(stretch, 0x1a2b3c4);
    assert.deepEqual(parsePosition(position.text), position);
    assert.deepEqual(parsePosition(' 0/1a2b3c4 '), { stretch: '', ordinal: 0x1a2b3c4, text: '0/1A2B3C4' });
    for (const text of ['', '12', '0/1@', '0/1@gen', '0/1@tl1-1@tl1-1', 'tl1/0/1'])
      assert.equal(parsePosition(text), null);
  });
});

describe('PostgreSQL: connection URIs', () => {
  test('one spelling, an endpoint without credentials, nothing lost', () => {
    const address = parseConnectionUri(
      'postgres://me:p%40ss%2F@DB.Example/app?sslmode=verify-full&sslrootcert=%2Fca.pem',
      null,
    );
    assert.equal(address.password, 'p@ss/');
    assert.equal(
      uriOf(address),
      'postgresql://me:p%40ss%2F@db.example:5432/app?sslmode=verify-full&sslrootcert=%2Fca.pem',
    );
    assert.equal(endpointOf(address), 'postgresql://db.example:5432/app');
    for (const uri of [
      uriOf(address),
      'postgresql:///d?host=%2Frun%2Fpg&port=5433&user=u',
      'postgresql://u@[::1]:5/d',
    ]) {
      assert.deepEqual(parseConnectionUri(uriOf(parseConnectionUri(uri, null)), null), parseConnectionUri(uri, null));
    }
    assert.equal(parseConnectionUri('postgresql://u@h', null).database, 'u');
  });

  test('what cannot be used is refused without repeating a password', () => {
    for (const uri of [
      'postgresql://h/d',
      'postgresql://u:secret@/d',
      'postgresql://u:secret@a,b/d',
      'postgresql://u:secret@h:99999/d',
      'postgresql://u:secret@h/d?sslmode=maybe',
      'postgresql://u:secret@h/d?options=-c%20x',
      'http://u:secret@h/d',
      'postgresql://u:secret%ZZ@h/d',
    ]) {
      assert.throws(
        () => parseConnectionUri(uri, null),
        (error: Error) => 'code' in error && error.code === 'INVALID_ARGUMENT' && !error.message.includes('secret'),
        uri,
      );
    }
  });
});
