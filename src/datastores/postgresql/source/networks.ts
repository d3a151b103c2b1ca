/**
 * Which addresses the service may connect to on a caller's word. It sits inside networks that its callers may not reach: the
 * credentials of a cloud's machine are one HTTP request to a link-local address away, so what is connected to is checked, and
 * not only what the URI says.
 */
import { lookup } from 'node:dns/promises';
import { BlockList, isIP, isIPv6, Socket, type TcpNetConnectOpts } from 'node:net';
import { Fault, invalidArgument } from '../../../errors.js';

/** What a setting may name besides CIDR blocks. */
const KINDS = ['public', 'private', 'loopback', 'sockets'] as const;
type Kind = (typeof KINDS)[number];

export interface Resolved {
  address: string;
  family: number;
}

const LOOPBACK = blocks(['127.0.0.0/8', '::1/128']);
const PRIVATE = blocks(['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '100.64.0.0/10', 'fc00::/7']);
/** Nobody's database is there, or the metadata of a cloud's machine is; allowed only by a block that names them. */
const SPECIAL = blocks([
  ...['0.0.0.0/8', '169.254.0.0/16', '192.0.0.0/24', '198.18.0.0/15', '224.0.0.0/4', '240.0.0.0/4'],
  ...['::/128', 'fe80::/10', 'fec0::/10', 'ff00::/8'],
  // Metadata and machine agents outside link-local: AWS over IPv6, Alibaba, Azure.
  ...['fd00:ec2::/32', '100.100.100.200/32', '168.63.129.16/32'],
]);

export class NetworkBounds {
  private readonly kinds: ReadonlySet<string>;
  private readonly named: BlockList;

  /** @param allowed CIDR blocks and kinds. @throws Fault INVALID_ARGUMENT for anything else */
  constructor(allowed: readonly string[]) {
    this.kinds = new Set(allowed.filter((each) => (KINDS as readonly string[]).includes(each)));
    this.named = blocks(allowed.filter((each) => !this.kinds.has(each)));
  }

  allows(address: string): boolean {
    const plain = embeddedIn(address) ?? address.replace(/%.*$/, '');
    if (has(this.named, plain)) return true;
    const kind = kindOf(plain);
    return kind !== null && this.kinds.has(kind);
  }

  /** @throws Fault INVALID_ARGUMENT (connectionUri) */
  checkSocket(): void {
    if (!this.kinds.has('sockets' satisfies Kind)) throw refusal();
  }

  /**
   * Every address of a host, looked up once: only these may then be connected to.
   * @throws Fault INVALID_ARGUMENT (connectionUri) where one of them is not allowed; DATASTORE_UNAVAILABLE where there is none
   */
  async resolve(host: string): Promise<Resolved[]> {
    const found = await lookup(host, { all: true }).catch((cause: NodeJS.ErrnoException) => {
      throw new Fault('DATASTORE_UNAVAILABLE', `The name ${host} does not lead to an address: ${cause.code}`, {
        hint: 'Check the name in the connection URI, and that the service can resolve it.',
        cause,
      });
    });
    if (found.length === 0 || !found.every(({ address }) => this.allows(address))) throw refusal();
    return found;
  }
}

/** A socket that goes to one of these addresses, whatever its host's name leads to by the time it connects. */
export function socketTo(addresses: readonly Resolved[]): Socket {
  const socket = new Socket();
  const connect = socket.connect.bind(socket) as (options: TcpNetConnectOpts) => Socket;
  const fixed: TcpNetConnectOpts['lookup'] = (_host, options, callback) => {
    const [first] = addresses;
    if (options.all) callback(null, [...addresses]);
    else callback(null, first?.address ?? '', first?.family);
  };
  // pg's way to connect: a port and a host.
  socket.connect = ((port: number, host: string) => connect({ port, host, lookup: fixed })) as Socket['connect'];
  return socket;
}

function kindOf(address: string): Kind | null {
  if (has(SPECIAL, address)) return null;
  if (has(LOOPBACK, address)) return 'loopback';
  return has(PRIVATE, address) ? 'private' : 'public';
}

function has(list: BlockList, address: string): boolean {
  return list.check(address, isIPv6(address) ? 'ipv6' : 'ipv4');
}

function blocks(cidrs: readonly string[]): BlockList {
  const list = new BlockList();
  for (const cidr of cidrs) {
    const [address = '', prefix = ''] = cidr.split('/');
    const version = isIP(address);
    if (version === 0 || !/^\d{1,3}$/.test(prefix) || Number(prefix) > (version === 6 ? 128 : 32)) {
      throw invalidArgument('networks', `${cidr} is neither a CIDR block nor one of ${KINDS.join(', ')}`);
    }
    list.addSubnet(address, Number(prefix), version === 6 ? 'ipv6' : 'ipv4');
  }
  return list;
}

/** The IPv4 address that an IPv6 address is another way to: mapped, compatible, translated, 6to4, Teredo; null for any other. */
function embeddedIn(address: string): string | null {
  if (!isIPv6(address)) return null;
  const bytes = bytesOf(address);
  const hex = bytes.toString('hex');
  const quad = (from: number, flip = 0) => [...bytes.subarray(from, from + 4)].map((byte) => byte ^ flip).join('.');
  const prefixes = [`${'0'.repeat(20)}ffff`, `${'0'.repeat(16)}ffff0000`, `0064ff9b${'0'.repeat(16)}`, '0064ff9b0001'];
  if (prefixes.some((prefix) => hex.startsWith(prefix))) return quad(12);
  // Not :: and ::1, which are themselves.
  if (hex.startsWith('0'.repeat(24)) && !hex.startsWith('0'.repeat(28))) return quad(12);
  if (hex.startsWith('2002')) return quad(2);
  return hex.startsWith('20010000') ? quad(12, 0xff) : null;
}

/** The sixteen bytes of an IPv6 address in any spelling, which URL brings into one. */
function bytesOf(address: string): Buffer {
  const spelled = new URL(`http://[${address.replace(/%.*$/, '')}]/`).hostname.slice(1, -1);
  const [head = '', tail = ''] = spelled.split('::');
  const groups = (part: string) => part.split(':').filter((group) => group !== '');
  const middle = 8 - groups(head).length - groups(tail).length;
  const all = [...groups(head), ...Array.from({ length: middle }, () => '0'), ...groups(tail)];
  return Buffer.from(all.map((group) => group.padStart(4, '0')).join(''), 'hex');
}

/** The same words whatever is there. */
function refusal(): Fault {
  return invalidArgument(
    'connectionUri',
    'Servers at that address may not be registered',
    'Name one in a network that the service allows; its operator sets PITR_REGISTER_NETWORKS.',
  );
}
