/**
 * The ids of operations on one WebSocket. A client may give the id of one that it has completed to the next at once, while the
 * first is still ending. graphql-ws tells operations apart by their ids alone, and would hand the next one the answers and the
 * end of the first: so it is given ids that no other operation of the connection has had.
 */
import { CloseCode, MessageType, type WebSocket } from 'graphql-ws';

/** A message of the service about one operation, as graphql-ws writes it, with an id that was made here. */
const ABOUT_ONE = /^\{"id":"(?<id>\d+)","type":"(?<type>\w+)"/;

/** The same socket for graphql-ws, with ids of our own where the client sees its. */
export function withOwnIds(socket: WebSocket): WebSocket {
  const own = new Map<string, string>();
  /** By our own: of those that the client still listens to. */
  const clients = new Map<string, string>();
  let count = 0;

  /** Null for what nothing has to be done about. */
  function inward(text: string): string | null {
    const message = objectIn(text);
    // What is wrong with a message, graphql-ws says.
    if (typeof message?.id !== 'string' || message.id === '') return text;
    const { id } = message;
    if (message.type === MessageType.Subscribe) {
      if (own.has(id)) {
        socket.close(CloseCode.SubscriberAlreadyExists, 'An operation under this id is open already');
        return null;
      }
      own.set(id, String(++count));
      clients.set(String(count), id);
      return JSON.stringify({ ...message, id: String(count) });
    }
    if (message.type !== MessageType.Complete) return text;
    const left = own.get(id);
    if (left === undefined) return null;
    forget(id, left);
    return JSON.stringify({ ...message, id: left });
  }

  /** Null for what the client does not want any more. */
  function outward(text: string): string | null {
    const [head = '', ours = '', type] = ABOUT_ONE.exec(text) ?? [];
    if (head === '') return text;
    const id = clients.get(ours);
    if (id === undefined) return null;
    if (type !== MessageType.Next) forget(id, ours);
    return `{"id":${JSON.stringify(id)},"type":"${type}"${text.slice(head.length)}`;
  }

  function forget(id: string, ours: string): void {
    own.delete(id);
    clients.delete(ours);
  }

  return {
    ...socket,
    send(text) {
      const sent = outward(text);
      if (sent !== null) return socket.send(sent);
    },
    onMessage(read) {
      socket.onMessage(async (text) => {
        const seen = inward(text);
        if (seen !== null) await read(seen);
      });
    },
  };
}

function objectIn(text: string): Record<string, unknown> | null {
  try {
    return Object(JSON.parse(text));
  } catch {
    return null;
  }
}
