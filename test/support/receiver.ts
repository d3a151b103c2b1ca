/** A real HTTP server on a free port that keeps what it is sent and answers as a test says. */
import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';

export interface Received {
  path: string;
  headers: IncomingHttpHeaders;
  body: string;
}

/** A status, with headers; null: no answer at all. */
export type Reply = { status: number; headers?: Record<string, string> } | null;

export interface Receiver {
  url: string;
  port: number;
  received: Received[];
  /** For the request of this number, from 0; 200 unless it is set. */
  reply: (request: Received, number: number) => Reply;
  /** Waits for this many requests, thirty seconds at most. */
  until(count: number): Promise<Received[]>;
  close(): Promise<void>;
}

/** `port`: 0 takes any free one. */
export async function receiver(t: Pick<TestContext, 'after'>, port = 0): Promise<Receiver> {
  const server = createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request) body += chunk;
    const taken = { path: request.url ?? '', headers: request.headers, body };
    made.received.push(taken);
    const reply = made.reply(taken, made.received.length - 1);
    if (reply) response.writeHead(reply.status, { connection: 'close', ...reply.headers }).end('{}');
  });
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  const taken = (server.address() as AddressInfo).port;
  const made: Receiver = {
    url: `http://127.0.0.1:${taken}`,
    port: taken,
    received: [],
    reply: () => ({ status: 200 }),
    async until(count) {
      for (const deadline = Date.now() + 30_000; made.received.length < count; ) {
        if (Date.now() > deadline) throw new Error(`${made.received.length} of ${count} requests arrived`);
        await delay(10);
      }
      return made.received;
    },
    async close() {
      if (!server.listening) return;
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
  t.after(() => made.close());
  return made;
}
