/** Where a caller's connection URI may lead: by address in every spelling, by name, and at each connection. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { describe, test } from 'node:test';
import { parseConnectionUri, type SourceBounds } from '../../../src/datastores/postgresql/source/address.js';
import { NetworkBounds, socketTo } from '../../../src/datastores/postgresql/source/networks.js';
import { connect } from '../../../src/datastores/postgresql/source/session.js';
import { serviceUnderTest } from '../../support/serviceUnderTest.js';

const SPECIAL = [
  '169.254.169.254',
  '169.254.0.1',
  '0.0.0.0',
  '0.1.2.3',
  '100.100.100.200',
  '168.63.129.16',
  '192.0.0.192',
  '224.0.0.1',
  '255.255.255.255',
  '::',
  'fe80::1',
  'fe80::1%eth0',
  'febf::1',
  'ff02::1',
  'fd00:ec2::254',
  'FD00:0EC2:0:0:0:0:0:0254',
  // IPv4 in IPv6: mapped in three spellings, compatible, translated, NAT64, 6to4, Teredo.
  '::ffff:169.254.169.254',
  '::ffff:a9fe:a9fe',
  '0:0:0:0:0:FFFF:a9fe:a9fe',
  '::169.254.169.254',
  '::ffff:0:169.254.169.254',
  '64:ff9b::169.254.169.254',
  '64:ff9b:1::a9fe:a9fe',
  '2002:a9fe:a9fe::1',
  '2001:0:1:2:3:4:5601:5601',
  '::ffff:0.0.0.0',
];
const LOOPBACK = ['127.0.0.1', '127.255.255.254', '::1', '::ffff:127.0.0.1', '64:ff9b::7f00:1', '::127.0.0.1'];
const PRIVATE = ['10.0.0.1', '172.16.0.1', '172.31.255.255', '192.168.1.1', '100.64.0.1', 'fd12::1', '::ffff:10.0.0.1'];
const PUBLIC = ['8.8.8.8', '172.32.0.1', '169.253.255.255', '2606:4700::1111', '::ffff:8.8.8.8', '64:ff9b::8.8.8.8'];

/** Bounds for a URI that names no files. */
function within(networks: readonly string[]): SourceBounds {
  return { networks: new NetworkBounds(networks), files: async () => null };
}

describe('PostgreSQL: where registered servers may be', () => {
  test('every address is of one kind, in every spelling', () => {
    const kinds = { public: PUBLIC, private: PRIVATE, loopback: LOOPBACK };
    for (const kind of Object.keys(kinds)) {
      const bounds = new NetworkBounds([kind]);
      for (const [of, addresses] of Object.entries({ ...kinds, special: SPECIAL })) {
        for (const address of addresses) assert.equal(bounds.allows(address), of === kind, `${kind}: ${address}`);
      }
    }
    const all = new NetworkBounds(['public', 'private', 'loopback', 'sockets']);
    for (const address of SPECIAL) assert.equal(all.allows(address), false, address);
  });

  test('a block allows what it names, special or not, and nothing else', () => {
    const bounds = new NetworkBounds(['169.254.7.0/24', '10.1.0.0/16', 'fe80::/10']);
    for (const address of ['169.254.7.9', '::ffff:169.254.7.9', '10.1.2.3', 'fe80::1%eth0']) {
      assert.equal(bounds.allows(address), true, address);
    }
    for (const address of ['169.254.169.254', '10.2.0.1', '8.8.8.8', '127.0.0.1', '::1']) {
      assert.equal(bounds.allows(address), false, address);
    }
  });

  test('what is neither a block nor a kind is refused', () => {
    for (const wrong of ['everything', '10.0.0.0', '10.0.0.0/33', '10.0.0.0/', 'fe80::/129', '/8', '1.2.3/8', '']) {
      assert.throws(() => new NetworkBounds([wrong]), /neither a CIDR block nor one of/, wrong);
    }
  });

  test('names are judged by where they lead, numbers in any base too', async () => {
    const nothing = new NetworkBounds(['public']);
    for (const host of ['localhost', '127.0.0.1', '2130706433', '0x7f.1', '0251.0376.0251.0376', '2852039166', '::1']) {
      await assert.rejects(nothing.resolve(host), /may not be registered/, host);
    }
    const found = await new NetworkBounds(['loopback']).resolve('localhost');
    assert.ok(found.length > 0 && found.every(({ address }) => LOOPBACK.includes(address)));
    await assert.rejects(nothing.resolve('nowhere.invalid'), { code: 'DATASTORE_UNAVAILABLE' });
  });

  test('a connection goes where the name led when it was checked, wherever it leads by then', async (t) => {
    const server = createServer((socket) => socket.end('here')).listen(0, '127.0.0.1');
    t.after(() => server.close());
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    const socket = socketTo([{ address: '127.0.0.1', family: 4 }]);
    // As pg calls it, which the types of a socket know with other names.
    socket.connect(port, 'moved.invalid');
    const [said] = await once(socket, 'data', { signal: AbortSignal.timeout(10_000) });
    assert.equal(String(said), 'here');
    socket.destroy();
  });

  test('every connection is checked, also of what was registered under other settings', async (t) => {
    let reached = 0;
    const server = createServer((socket) => {
      reached++;
      socket.destroy();
    }).listen(0, '127.0.0.1');
    t.after(() => server.close());
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    const uri = `postgresql://u:secret@localhost:${port}/db`;
    const refused = connect(parseConnectionUri(uri, within(['public', 'private'])), {
      applicationName: 'x',
    });
    await assert.rejects(refused, (thrown: Error) => {
      assert.match(thrown.message, /may not be registered/);
      assert.doesNotMatch(thrown.message, /secret/);
      return true;
    });
    assert.equal(reached, 0);
    const allowed = connect(parseConnectionUri(uri, within(['loopback'])), { applicationName: 'x' });
    await assert.rejects(allowed, { code: 'DATASTORE_UNAVAILABLE' });
    assert.ok(reached > 0);
  });

  test('a socket on the machine is a kind of its own', async () => {
    const uri = 'postgresql:///d?host=%2Frun%2Fpg&user=u';
    for (const [allowed, words] of [
      [['public', 'private', 'loopback'], /may not be registered/],
      [['sockets'], /does not answer/],
    ] as const) {
      const address = parseConnectionUri(uri, within(allowed));
      await assert.rejects(connect(address, { applicationName: 'x' }), words);
    }
  });

  test('several hosts, and another address beside the host, are refused as they stand', () => {
    for (const uri of [
      'postgresql://u@8.8.8.8,169.254.169.254/d',
      'postgresql://u@8.8.8.8:5432,169.254.169.254:5432/d',
      'postgresql://u@8.8.8.8/d?host=a,169.254.169.254',
      'postgresql://u@8.8.8.8/d?hostaddr=169.254.169.254',
      'postgresql://u@8.8.8.8/d?service=metadata',
    ]) {
      assert.throws(() => parseConnectionUri(uri, null), { code: 'INVALID_ARGUMENT' }, uri);
    }
  });

  test('with authentication the machine itself and its neighbours on the link are out of bounds, files too', async (t) => {
    const service = await serviceUnderTest(t, ['shop']);
    const query =
      'mutation ($uri: String!) { registerInstance(input: { name: "n", datastore: "postgresql", connectionUri: $uri }) { id } }';
    const answers = new Set<string>();
    for (const host of [
      '127.0.0.1:1',
      'localhost:1',
      '[::1]:1',
      '169.254.169.254',
      '[fd00:ec2::254]',
      '0.0.0.0:1',
      '2852039166',
    ]) {
      answers.add((await service.ask('shop', query, { uri: `postgresql://u:pw@${host}/d?sslmode=disable` })).text);
    }
    answers.add((await service.ask('shop', query, { uri: 'postgresql:///d?host=/tmp&user=u' })).text);
    const [answer, ...others] = answers;
    assert.deepEqual(others, [], 'the same words for all');
    assert.match(String(answer), /INVALID_ARGUMENT.*|PITR_REGISTER_NETWORKS/);
    assert.match(String(answer), /PITR_REGISTER_NETWORKS/);
    for (const name of ['sslkey', 'sslcert', 'sslrootcert']) {
      const uri = `postgresql://u@10.255.255.1/d?sslmode=verify-full&${name}=/etc/passwd`;
      assert.match((await service.ask('shop', query, { uri })).text, /Files there may not be registered/);
    }
  });
});
