/** What answers at a connection URI and is no PostgreSQL server, or a broken one: it costs one connection and nothing else. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { describe, type TestContext, test } from 'node:test';
import { parseConnectionUri } from '../../../src/datastores/postgresql/source/address.js';
import { copyConnection } from '../../../src/datastores/postgresql/source/replicationStream.js';
import { MessageBounds } from '../../../src/datastores/postgresql/source/serverMessages.js';
import { connect, withSession } from '../../../src/datastores/postgresql/source/session.js';
import { message, ready, row, ScriptedServer } from '../../support/postgresql/scriptedServer.js';

const MIB = 1024 * 1024;
const AUTHENTICATED = message('R', Buffer.alloc(4));

function declared(kind: string, length: number): Buffer {
  const head = Buffer.alloc(5);
  head.write(kind, 0, 'latin1');
  head.writeUInt32BE(length, 1);
  return head;
}

function int16(number: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeInt16BE(number);
  return bytes;
}

function int32(number: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(number);
  return bytes;
}

/** What comes of a connection to a server that says this whatever it is told, and then as many zeros as are taken. */
async function greetedWith(t: TestContext, said: Buffer, zeros = 0): Promise<{ fault: Error; sent: number }> {
  let sent = 0;
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', () => {
      socket.write(said);
      const more = () => {
        while (sent < zeros && !socket.destroyed) {
          sent += MIB;
          if (!socket.write(Buffer.alloc(MIB))) return socket.once('drain', more);
        }
      };
      more();
    });
  }).listen(0, '127.0.0.1');
  t.after(() => server.close());
  await once(server, 'listening');
  const uri = `postgresql://u:p@127.0.0.1:${(server.address() as AddressInfo).port}/d?sslmode=disable`;
  const fault = await connect(parseConnectionUri(uri, null), { applicationName: 'x' }).then(
    () => assert.fail('it was taken for a server'),
    (error: Error) => error,
  );
  return { fault, sent };
}

describe('PostgreSQL: what a server may send', { timeout: 60_000 }, () => {
  test('a message that says it is endless is refused before it has come', async (t) => {
    const { fault, sent } = await greetedWith(t, declared('R', 0x60000000), 256 * MIB);
    assert.equal((fault as { code?: string }).code, 'DATASTORE_UNAVAILABLE');
    assert.match(fault.message, /more than the 1 MiB/);
    // What the system's own buffers take.
    assert.ok(sent < 64 * MIB, `${sent} bytes were taken`);
  });

  test('a greeting without an end is refused', async (t) => {
    const status = message('S', Buffer.from(`name\0${'x'.repeat(1000)}\0`));
    const { fault } = await greetedWith(
      t,
      Buffer.concat([AUTHENTICATED, ...Array.from({ length: 1100 }, () => status)]),
    );
    assert.match(fault.message, /more than the 1 MiB/);
  });

  for (const [what, said] of Object.entries({
    'a way to authenticate that nobody knows': message('R', int32(99)),
    'columns that are not there': message('T', int16(5)),
  })) {
    test(`${what}: the connection ends, and nothing else`, async (t) => {
      const { fault } = await greetedWith(t, said);
      assert.equal((fault as { code?: string }).code, 'DATASTORE_UNAVAILABLE', fault.message);
    });
  }

  // Not over a connection: what pg does not come back from would hold up the failing test as well.
  test('what pg would not come back from is not given to it', () => {
    for (const [what, said] of Object.entries({
      'an error that does not end': message('E', Buffer.from('SFATAL\0')),
      'a notice that does not end': message('N', Buffer.from('M')),
      'an error without anything': message('E', Buffer.alloc(0)),
      'a message shorter than its length': declared('S', 3),
      'a row that leads back to its beginning': message('D', Buffer.concat([int16(1), int32(-6)])),
      'a row that is longer than its message': message('D', Buffer.concat([int16(1), int32(9), Buffer.alloc(8)])),
      'a row that is shorter than its message': message('D', Buffer.concat([int16(1), int32(8), Buffer.alloc(9)])),
      'a row without its columns': message('D', int16(0)),
    })) {
      const bounds = new MessageBounds();
      bounds.check(message('T', int16(1)));
      assert.throws(() => bounds.check(said), /does not speak as PostgreSQL does/, what);
    }
  });

  test('an answer has its bounds, however small its rows are; the next one has them anew', async (t) => {
    const kibibyte = row({ text: 'x'.repeat(1024) });
    const none = [message('T', int16(0)), ...Array.from({ length: 40_000 }, () => message('D', int16(0)))];
    const server = await ScriptedServer.start((query) => {
      if (query === 'large') return [row({ text: 'x'.repeat(3 * MIB) }), ready()];
      if (query === 'too large') return [row({ text: 'x'.repeat(5 * MIB) }), ready()];
      if (query === 'many') return [...Array.from({ length: 5000 }, () => kibibyte), ready()];
      return [...none, ready()];
    });
    t.after(() => server.close());
    await withSession(server.address, { applicationName: 'x' }, async (client) => {
      for (let asked = 0; asked < 3; asked++) {
        assert.equal((await client.query('large')).rows[0].text.length, 3 * MIB);
      }
    });
    for (const query of ['too large', 'many', 'small']) {
      const asking = withSession(server.address, { applicationName: 'x' }, (client) => client.query(query));
      await assert.rejects(asking, { code: 'DATASTORE_UNAVAILABLE', message: /more than the 4 MiB/ }, query);
    }
  });

  test('what is copied may be as much as it is, a message of it may not', async (t) => {
    const copied = (bytes: number) => message('d', Buffer.alloc(bytes));
    const server = await ScriptedServer.start((query) => [
      message('H', Buffer.alloc(3)),
      ...(query === 'much' ? Array.from({ length: 64 }, () => copied(MIB)) : [copied(5 * MIB)]),
      message('c', Buffer.alloc(0)),
      message('C', Buffer.from('COPY\0')),
      ready(),
    ]);
    t.after(() => server.close());
    await withSession(server.address, { applicationName: 'x', replication: true }, async (client) => {
      let received = 0;
      copyConnection(client).on('copyData', ({ chunk }: { chunk: Buffer }) => {
        received += chunk.length;
      });
      await client.query('much');
      assert.equal(received, 64 * MIB);
      await assert.rejects(client.query('one'), /more than the 4 MiB/);
    });
  });

  test('messages are told apart wherever a chunk of them ends', () => {
    const fault = message('E', Buffer.from('SERROR\0Mno\0\0'));
    const said = Buffer.concat([
      ...[AUTHENTICATED, message('S', Buffer.from('a\0b\0')), fault, ready(), message('d', Buffer.from('wal'))],
      ...[
        row({ a: '1', b: '' }),
        message('T', int16(0)),
        message('D', int16(0)),
        message('c', Buffer.alloc(0)),
        ready(),
      ],
    ]);
    const nulls = Buffer.concat([
      message('T', int16(2)),
      message('D', Buffer.concat([int16(2), int32(-1), int32(-1)])),
    ]);
    const all = Buffer.concat([said, nulls, ready()]);
    for (const size of [1, 2, 3, 5, 7, 64, all.length]) {
      const bounds = new MessageBounds();
      for (let at = 0; at < all.length; at += size) bounds.check(all.subarray(at, at + size));
      assert.throws(() => bounds.check(message('E', Buffer.from('x\0'))), /does not speak/);
    }
  });
});
