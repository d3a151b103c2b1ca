/** A server that speaks as much of PostgreSQL's protocol as a test wants: lets everybody in, then answers as it is told. */

import type { AddressInfo } from 'node:net';
import { createServer, type Server, type Socket } from 'node:net';
import type { ServerAddress } from '../../../src/datastores/postgresql/source/address.js';

export class ScriptedServer {
  /** What was asked, over all connections. */
  readonly asked: string[] = [];
  private readonly sockets = new Set<Socket>();

  private constructor(private readonly server: Server) {}

  /** @param answer what a query is answered with; null for silence */
  static async start(answer: (query: string) => Buffer[] | null): Promise<ScriptedServer> {
    const server = createServer();
    const scripted = new ScriptedServer(server);
    server.on('connection', (socket) => scripted.serve(socket, answer));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return scripted;
  }

  get address(): ServerAddress {
    return {
      host: '127.0.0.1',
      port: (this.server.address() as AddressInfo).port,
      user: 'user',
      password: 'password',
      database: 'database',
      sslMode: 'disable',
      sslRootCert: null,
      sslCert: null,
      sslKey: null,
      bounds: null,
    };
  }

  /** Connections that nobody has ended. */
  get connections(): number {
    return this.sockets.size;
  }

  async close(): Promise<void> {
    for (const socket of this.sockets) socket.destroy();
    await new Promise((resolve) => this.server.close(resolve));
  }

  private serve(socket: Socket, answer: (query: string) => Buffer[] | null): void {
    this.sockets.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => this.sockets.delete(socket));
    let received = Buffer.alloc(0);
    let known = false;
    socket.on('data', (bytes) => {
      received = Buffer.concat([received, bytes]);
      for (;;) {
        // The first message has no kind.
        const at = known ? 1 : 0;
        if (received.length < at + 4) return;
        const end = at + received.readInt32BE(at);
        if (received.length < end) return;
        const kind = known ? received.toString('latin1', 0, 1) : '';
        const body = received.subarray(at + 4, end);
        received = received.subarray(end);
        if (!known) {
          known = true;
          socket.write(Buffer.concat([message('R', Buffer.alloc(4)), ready()]));
        } else if (kind === 'Q') {
          const query = body.toString('utf8', 0, body.length - 1);
          this.asked.push(query);
          const said = answer(query);
          if (said) socket.write(Buffer.concat(said));
        }
      }
    });
  }
}

export function message(kind: string, body: Buffer): Buffer {
  const head = Buffer.alloc(5);
  head.write(kind, 0, 'latin1');
  head.writeInt32BE(4 + body.length, 1);
  return Buffer.concat([head, body]);
}

export function ready(): Buffer {
  return message('Z', Buffer.from('I'));
}

/** A result of one row of texts. */
export function row(columns: Record<string, string>): Buffer {
  const names = Object.keys(columns).map((name) => {
    const field = Buffer.alloc(18);
    field.writeInt32BE(25, 6);
    field.writeInt16BE(-1, 10);
    field.writeInt32BE(-1, 12);
    return Buffer.concat([Buffer.from(`${name}\0`), field]);
  });
  const values = Object.values(columns).map((value) => {
    const length = Buffer.alloc(4);
    length.writeInt32BE(Buffer.byteLength(value));
    return Buffer.concat([length, Buffer.from(value)]);
  });
  const count = Buffer.alloc(2);
  count.writeInt16BE(names.length);
  return Buffer.concat([
    message('T', Buffer.concat([count, ...names])),
    message('D', Buffer.concat([count, ...values])),
    message('C', Buffer.from('SELECT\0')),
  ]);
}
