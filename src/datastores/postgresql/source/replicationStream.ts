/**
 * PostgreSQL's streaming replication protocol, physical kind: asks who the server is, then receives its log as it is
 * written and tells it how far it is safely kept. (PostgreSQL 15 documentation, section 55.4.)
 */
import type { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import { collect } from '../../../collector.js';
import { Fault } from '../../../errors.js';
import { type Instant, instant } from '../../../instant.js';
import { formatLsn, serverLsn } from '../formats/lsn.js';
import type { ServerAddress } from './address.js';
import { PacedReading } from './pacedReading.js';
import { askRow, connect, hangUp } from './session.js';

/** 2000-01-01T00:00:00Z in microseconds since 1970. */
const POSTGRES_EPOCH = 946_684_800_000_000;
const STATUS_EVERY_MS = 5_000;
/** Every status asks for an answer; a server that gives none for this long is gone. */
const SILENCE_MS = 60_000;
/**
 * The server forgets to close the file of log that it last read when a stream ends (seen with 15 to 18), so that each
 * stream costs its process a file handle for as long as the connection lasts.
 */
const STREAMS_PER_CONNECTION = 100;
/** Every read from the connection leaves a buffer of its own behind, and pg makes another of many of them. */
const BYTES_PER_COLLECTION = 4 * 1024 * 1024;

export interface SystemIdentity {
  systemId: string;
  timeline: number;
  /** How far the server's log is on its disk. */
  flushed: number;
}

export interface StreamListener {
  /** Log from `start` on; the bytes are used again afterwards. */
  data(start: number, bytes: Buffer): void;
  /** The server's clock and the end of its log. */
  heartbeat(serverTime: Instant, logEnd: number): void;
  /** The server wants to be told how far its log is kept; one that shuts down waits until that is all of it. */
  asked(): void;
  /** The connection has had all its streams. Resolves when everything received is kept, so that another one can go on. */
  usedUp(): Promise<void>;
}

/** The part of pg's connection that copying in both directions needs; not in its typings. */
export interface CopyConnection extends EventEmitter {
  stream: Socket;
  sendCopyFromChunk(chunk: Buffer): void;
  /** Says that nothing more comes from this side. */
  endCopyFrom(): void;
}

export function copyConnection(client: pg.Client): CopyConnection {
  return (client as unknown as { connection: CopyConnection }).connection;
}

/** Who answers on a connection for replication. @throws Fault DATASTORE_UNAVAILABLE */
export async function identifySystem(client: pg.Client, address: ServerAddress): Promise<SystemIdentity> {
  const row = await askRow(client, 'IDENTIFY_SYSTEM', address);
  return { systemId: String(row.systemid), timeline: Number(row.timeline), flushed: serverLsn(row.xlogpos) };
}

/**
 * What the connection is at: none of it, a stream that the server has not begun yet, one that flows, one that it is to
 * end, the rest after it.
 */
type Phase = 'closed' | 'beginning' | 'streaming' | 'ending' | 'resting';

export class ReplicationStream {
  private readonly connection: CopyConnection;
  private readonly reading: PacedReading;
  private phase: Phase = 'closed';
  private beating: NodeJS.Timeout | null = null;
  private heardAt = Date.now();
  private written = 0;
  private kept = 0;
  private uncollected = 0;
  private streamRest = 0;
  /** Looks whether the rest between two streams is over. */
  private lookAtRest = (): void => {};

  private constructor(
    private readonly client: pg.Client,
    private readonly address: ServerAddress,
  ) {
    this.connection = copyConnection(client);
    this.reading = new PacedReading(this.connection.stream);
  }

  /** @throws Fault INVALID_ARGUMENT (connectionUri), DATASTORE_UNAVAILABLE */
  static async open(address: ServerAddress, applicationName: string): Promise<ReplicationStream> {
    return new ReplicationStream(await connect(address, { applicationName, replication: true }), address);
  }

  /** @throws Fault DATASTORE_UNAVAILABLE */
  async identify(): Promise<SystemIdentity> {
    return await identifySystem(this.client, this.address);
  }

  /** The history file of a timeline later than the first, without which no server replays it. */
  async history(timeline: number): Promise<string> {
    const row = await askRow(this.client, `TIMELINE_HISTORY ${timeline}`, this.address);
    return String(row.content);
  }

  /**
   * Streams from `from` on. Rejects with what ended the connection, also where it was closed, and resolves where it has
   * had all its streams and another one is to go on. An exception of the listener ends it too.
   */
  async follow(slot: string, from: number, timeline: number, listener: StreamListener): Promise<void> {
    this.written = from;
    this.kept = from;
    const failed = new Promise<never>((_, reject) => {
      this.connection.on('replicationStart', () => {
        if (this.phase === 'beginning') this.phase = 'streaming';
        // What was kept while nothing could be told.
        this.sendStatus(false);
      });
      this.connection.on('copyData', ({ chunk }: { chunk: Buffer }) => {
        this.heardAt = Date.now();
        // What pg had already taken in when the stream was closed.
        if (this.closed) return;
        try {
          this.receive(chunk, listener);
        } catch (error) {
          reject(error);
          this.close();
        }
      });
      this.connection.on('copyDone', () => {
        if (!this.ended) reject(timelineEnded());
      });
      // What the server says where no command waits for an answer, as when it shuts down in a rest.
      this.client.on('error', reject);
      this.client.on('end', () => reject(unavailable('The connection to PostgreSQL ended')));
    });
    this.beating = setInterval(() => this.beat(), STATUS_EVERY_MS);
    const streaming = this.streams(slot, timeline, listener);
    try {
      // The command's own error says more than the end of the connection that comes with it, and comes first.
      await Promise.race([streaming, failed]);
    } finally {
      streaming.catch(() => {});
      failed.catch(() => {});
      this.close();
    }
  }

  /** Log before `lsn` is archived, and the server need not keep it for this service any longer. */
  acknowledge(lsn: number): void {
    this.kept = Math.max(this.kept, lsn);
    this.sendStatus(false);
  }

  /** Tells the server at once how much has arrived: commits that wait for `remote_write` need no more. */
  tellReceived(): void {
    this.sendStatus(false);
  }

  /** Whether what arrives is taken at once, or a moment later, which is much less work. */
  setPrompt(prompt: boolean): void {
    this.reading.setPrompt(prompt);
  }

  /**
   * For how many milliseconds the stream is ended whenever everything is received, so that the server does not send each of
   * its commits; 0, as at first, stays in the stream, and ends a rest at once.
   */
  setStreamRest(milliseconds: number): void {
    this.streamRest = milliseconds;
    this.lookAtRest();
  }

  pause(): void {
    this.reading.hold();
  }

  resume(): void {
    // The silence was this side's.
    this.heardAt = Date.now();
    this.reading.letGo();
    this.lookAtRest();
  }

  close(): void {
    this.phase = 'closed';
    if (this.beating) clearInterval(this.beating);
    this.beating = null;
    this.reading.close();
    this.lookAtRest();
    hangUp(this.client);
  }

  /** One stream after another, each from where the one before it ended, with a rest in between. */
  private async streams(slot: string, timeline: number, listener: StreamListener): Promise<void> {
    for (let streams = 1; ; streams++) {
      this.phase = 'beginning';
      this.heardAt = Date.now();
      const said: unknown = await this.client.query(
        `START_REPLICATION SLOT "${slot}" PHYSICAL ${formatLsn(this.written)} TIMELINE ${timeline}`,
      );
      // The server ends a stream by itself only where its timeline ends, and then names the next one.
      if (!this.ended || hasRows(said)) throw timelineEnded();
      const usedUp = streams >= STREAMS_PER_CONNECTION && this.streamRest > 0;
      const rested = new AbortController();
      const rest = usedUp ? listener.usedUp() : delay(this.streamRest, undefined, { signal: rested.signal });
      const whole = await this.rest(rest);
      rested.abort();
      if (this.closed) throw unavailable('The connection to PostgreSQL ended');
      if (usedUp && whole) return;
    }
  }

  /**
   * Until `rest` has settled or the stream is to go on at once; beyond that while the listener has no room.
   * @returns whether it was kept, and to its end
   */
  private async rest(rest: Promise<void>): Promise<boolean> {
    if (!this.closed) this.phase = 'resting';
    let settled = false;
    const kept = rest
      .then(
        () => true,
        () => false,
      )
      .finally(() => {
        settled = true;
        this.lookAtRest();
      });
    await new Promise<void>((resolve) => {
      this.lookAtRest = () => {
        if (this.closed || (!this.reading.held && (settled || this.streamRest === 0))) resolve();
      };
      this.lookAtRest();
    });
    this.lookAtRest = () => {};
    return settled && this.streamRest > 0 && (await kept);
  }

  private get closed(): boolean {
    return this.phase === 'closed';
  }

  /** By this side. */
  private get ended(): boolean {
    return this.closed || this.phase === 'ending';
  }

  /** The server answers with the end of its side, after what it had under way. */
  private endStream(): void {
    if (this.phase !== 'streaming') return;
    this.phase = 'ending';
    this.connection.endCopyFrom();
  }

  private collectNowAndThen(bytes: number): void {
    this.uncollected += bytes;
    if (this.uncollected < BYTES_PER_COLLECTION) return;
    this.uncollected = 0;
    collect({ type: 'minor' });
  }

  private receive(chunk: Buffer, listener: StreamListener): void {
    const kind = chunk.readUInt8(0);
    if (kind === 0x77 /* w: start, end of log, clock, bytes */) {
      const start = Number(chunk.readBigUInt64BE(1));
      const logEnd = Number(chunk.readBigUInt64BE(9));
      const bytes = chunk.subarray(25);
      this.written = start + bytes.length;
      listener.data(start, bytes);
      if (this.streamRest === 0) this.reading.came();
      else if (this.written >= logEnd) this.endStream();
      listener.heartbeat(clock(chunk, 17), logEnd);
      this.collectNowAndThen(bytes.length);
    } else if (kind === 0x6b /* k: end of log, clock, answer wanted */) {
      listener.heartbeat(clock(chunk, 9), Number(chunk.readBigUInt64BE(1)));
      if (chunk.readUInt8(17) === 1) {
        this.sendStatus(false);
        listener.asked();
      }
    }
  }

  private beat(): void {
    // Between two streams the server has nothing to say; that it is gone shows when the next one begins.
    if (this.phase === 'resting') return;
    if (Date.now() - this.heardAt > SILENCE_MS && !this.connection.stream.isPaused()) {
      this.connection.stream.destroy();
    } else {
      this.sendStatus(true);
    }
  }

  /** Nothing is told where no stream flows: the next one begins with it. */
  private sendStatus(answerWanted: boolean): void {
    if (!this.connection.stream.writable || this.phase !== 'streaming') return;
    const status = Buffer.alloc(34);
    status.writeUInt8(0x72, 0);
    status.writeBigUInt64BE(BigInt(this.written), 1);
    status.writeBigUInt64BE(BigInt(this.kept), 9);
    status.writeBigUInt64BE(BigInt(this.kept), 17);
    status.writeBigInt64BE(BigInt(Date.now()) * 1000n - BigInt(POSTGRES_EPOCH), 25);
    status.writeUInt8(answerWanted ? 1 : 0, 33);
    this.connection.sendCopyFromChunk(status);
  }
}

function clock(chunk: Buffer, at: number): Instant {
  return instant(Number(chunk.readBigInt64BE(at)) + POSTGRES_EPOCH);
}

/** Whether a command, which may have several answers, was answered with a row. */
function hasRows(said: unknown): boolean {
  return [said].flat().some((each) => (each as pg.QueryResult).rows.length > 0);
}

function timelineEnded(): Fault {
  return unavailable('PostgreSQL ended the stream: a new timeline began');
}

function unavailable(message: string): Fault {
  return new Fault('DATASTORE_UNAVAILABLE', message);
}
