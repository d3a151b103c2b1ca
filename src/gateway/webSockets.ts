/** The sockets under graphqlOverWebSocket.ts: upgrade, keep-alive, and an end in time. */
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { CloseCode, handleProtocols } from 'graphql-ws';
import type { Logger } from 'pino';
import { type RawData, type WebSocket, WebSocketServer } from 'ws';
import type { Connection, createProtocol } from './graphqlOverWebSocket.js';
import { described } from './operationLog.js';

/** A client that answers no ping within this many milliseconds is gone. */
const KEEP_ALIVE_MS = 12_000;
/** How long a client may take to answer the closing handshake. */
const CLOSE_TIMEOUT_MS = 2_000;
const GOING_AWAY = 1001;
/** A client with more than this waiting for it, in bytes, is not listened to until it has read. */
const MOST_UNREAD = 1024 * 1024;

export interface WebSockets {
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void;
  /** Ends every subscription, tells every client 1001, and resolves once all sockets are closed: within seconds. */
  close(): Promise<void>;
}

export function createWebSockets(
  protocol: ReturnType<typeof createProtocol>,
  logger: Logger,
  maxPayload: number,
): WebSockets {
  const server = new WebSocketServer({
    noServer: true,
    maxPayload,
    handleProtocols,
    // Read by ws, though its types don't have it yet.
    ...{ closeTimeout: CLOSE_TIMEOUT_MS },
  });

  server.on('connection', (socket: WebSocket, request: IncomingMessage) => {
    const connection: Connection = {
      request,
      identity: null,
      callerKey: '',
      leave: null,
      operations: new Map(),
      close: (code, reason) => socket.close(code, reason),
      stopWatching: null,
      closed: false,
    };
    const stopPinging = keepAlive(socket);
    const closed = protocol.opened(
      {
        protocol: socket.protocol,
        // Settles when the bytes are on their way: a slow reader slows the operation and not the service's memory.
        send: (data) =>
          new Promise((resolve, reject) => {
            if (socket.readyState !== socket.OPEN) return resolve();
            socket.send(data, (error) => {
              if (socket.isPaused && socket.bufferedAmount <= MOST_UNREAD) socket.resume();
              return error ? reject(error) : resolve();
            });
            if (socket.bufferedAmount > MOST_UNREAD) socket.pause();
          }),
        close: connection.close,
        onMessage: (read) =>
          socket.on('message', (data: RawData) => {
            read(String(data)).catch((error: unknown) => {
              if (socket.readyState !== socket.OPEN) return;
              logger.error({ err: described(error) }, 'a WebSocket message could not be handled');
              socket.close(CloseCode.InternalServerError, 'Internal server error');
            });
          }),
      },
      connection,
    );
    // A broken frame or a reset connection: ws closes the socket itself.
    socket.on('error', (error: Error) => logger.debug({ reason: error.message }, 'WebSocket broke'));
    socket.once('close', (code, reason) => {
      stopPinging();
      closed(code, String(reason)).catch((error: unknown) =>
        logger.error({ err: described(error) }, 'WebSocket did not end'),
      );
    });
  });

  return {
    upgrade(request, socket, head) {
      server.handleUpgrade(request, socket, head, (client) => server.emit('connection', client, request));
    },
    async close() {
      for (const client of server.clients) client.close(GOING_AWAY, 'Going away');
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

/** Pings until stopped; a connection that has died silently is ended, and its subscriptions with it. */
function keepAlive(socket: WebSocket): () => void {
  let alive = true;
  socket.on('pong', () => {
    alive = true;
  });
  const timer = setInterval(() => {
    if (!alive) return socket.terminate();
    alive = false;
    socket.ping();
  }, KEEP_ALIVE_MS);
  return () => clearInterval(timer);
}
