/**
 * What a server may send, looked at before pg takes it in. What is at the other end of a connection URI is whatever its author
 * put there, and pg trusts it: it collects a message for as long as that says it is, keeps every row of an answer, goes back in a
 * row as often as it is told to, never stops reading an error without an end, and throws at the unknown where nobody
 * catches. (PostgreSQL 15 documentation, section 55.7.)
 */
import type { Socket } from 'node:net';
import type pg from 'pg';

/** Until the server is ready for the first command. */
const GREETING_BYTES = 1024 * 1024;
/** An answer with all its rows, of which the service asks for a few, or one message of copied data, which has 128 KiB at most. */
const ANSWER_BYTES = 4 * 1024 * 1024;
/** What pg keeps of a message beside its bytes. */
const KEPT_BYTES = 128;

const [COPIED, ERROR, NOTICE, READY, ROW, ROW_SHAPE] = [...Buffer.from('dENZDT')];

type Listener = (chunk: Buffer) => void;

/** Has the connection ended that brings what no server of PostgreSQL's sends. To be called before it is opened. */
export function guardMessages(client: pg.Client): void {
  // Not in pg's typings: where it begins to read messages, over TLS or not.
  const { connection } = client as unknown as { connection: { attachListeners(stream: Pick<Socket, 'on'>): void } };
  const attach = connection.attachListeners.bind(connection);
  const bounds = new MessageBounds();
  connection.attachListeners = (given) => {
    const stream = given as Socket;
    const guarded = (listener: Listener) => (chunk: Buffer) => {
      try {
        bounds.check(chunk);
        listener(chunk);
      } catch (error) {
        stream.destroy(error as Error);
      }
    };
    const on = (event: string, listener: Listener) => stream.on(event, event === 'data' ? guarded(listener) : listener);
    attach({ on } as Pick<Socket, 'on'>);
  };
}

/** Walks along the messages of a connection, over its chunks as they happen to come. */
export class MessageBounds {
  private readonly word = Buffer.alloc(5);
  private readonly walk = this.messages();
  private got = 0;
  private wanted = this.walk.next().value;
  /** To be passed over before the next word. */
  private skip = 0;
  /** What this answer has taken, copied data apart, which is handed on at once. */
  private answered = 0;
  private limit = GREETING_BYTES;
  private columns = 0;

  /** @throws Error for a chunk that pg must not see; after that no other may be checked */
  check(chunk: Buffer): void {
    for (let at = 0; at < chunk.length; ) {
      const passed = Math.min(this.skip, chunk.length - at);
      this.skip -= passed;
      at += passed;
      // By hand, since it is a few bytes of each of very many messages.
      while (this.got < this.wanted && at < chunk.length) this.word[this.got++] = chunk[at++] ?? 0;
      if (this.got < this.wanted) return;
      this.got = 0;
      this.wanted = this.walk.next(this.word).value;
    }
  }

  /** Asks for as many bytes as it yields, after those that it has passed over. */
  private *messages(): Generator<number, never, Buffer> {
    for (;;) {
      const head = yield 5;
      const kind = head.readUInt8(0);
      // It counts itself.
      const body = within(head.readUInt32BE(1) - 4);
      this.count(kind, body);
      if (kind === ERROR || kind === NOTICE) yield* this.fields(body);
      else if (kind === ROW) yield* this.row(body);
      else if (kind === ROW_SHAPE) yield* this.rowShape(body);
      else this.skip = body;
    }
  }

  private count(kind: number, body: number): void {
    if (kind !== COPIED) this.answered += body + KEPT_BYTES;
    if (Math.max(body, this.answered) > this.limit) {
      throw new Error(`what is there sends more than the ${this.limit / 2 ** 20} MiB that an answer may have`);
    }
    if (kind !== READY) return;
    this.answered = 0;
    this.limit = ANSWER_BYTES;
  }

  /** The last one ends with a zero, and so do all of them. */
  private *fields(body: number): Generator<number, void, Buffer> {
    this.skip = within(body - 2);
    if ((yield 2).readUInt16BE(0) !== 0) throw foreign();
  }

  private *rowShape(body: number): Generator<number, void, Buffer> {
    const rest = within(body - 2);
    this.columns = (yield 2).readInt16BE(0);
    this.skip = rest;
  }

  private *row(body: number): Generator<number, void, Buffer> {
    let rest = within(body - 2);
    if ((yield 2).readInt16BE(0) !== this.columns) throw foreign();
    for (let column = 0; column < this.columns; column++) {
      rest = within(rest - 4);
      const length = (yield 4).readInt32BE(0);
      // A null has no bytes.
      this.skip = length === -1 ? 0 : within(length);
      rest = within(rest - this.skip);
    }
    if (rest !== 0) throw foreign();
  }
}

function within(bytes: number): number {
  if (bytes < 0) throw foreign();
  return bytes;
}

function foreign(): Error {
  return new Error('what is there does not speak as PostgreSQL does');
}
