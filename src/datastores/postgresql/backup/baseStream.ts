/**
 * A base backup as PostgreSQL's replication protocol sends it: one tar archive for each tablespace, the data directory's
 * own last. (PostgreSQL 15 documentation, section 55.4, BASE_BACKUP.)
 */
import pg from 'pg';
import { Fault } from '../../../errors.js';
import { serverLsn } from '../formats/lsn.js';
import type { ServerAddress } from '../source/address.js';
import {
  type CopyConnection,
  copyConnection,
  identifySystem,
  type SystemIdentity,
} from '../source/replicationStream.js';
import { connect, hangUp } from '../source/session.js';
import { PartMarks, partBytesOf } from './partMarks.js';

/** Received and not yet taken by whoever stores it. */
const MOST_WAITING = 4 * 1024 * 1024;
const ENOUGH_WAITING = 1024 * 1024;

const COMMAND = `BASE_BACKUP (LABEL 'pitr', PROGRESS, CHECKPOINT 'fast', MANIFEST 'no', TABLESPACE_MAP, WAIT false)`;

export interface BaseArchive {
  /** Its object id; null for the data directory. */
  tablespace: number | null;
  /** Size of the tar archive. */
  bytes: number;
}

export class BaseStream {
  /** What was sent so far, in this order. */
  readonly archives: BaseArchive[] = [];
  /** The server's own estimate of all bytes; null before it has made one. */
  estimate: number | null = null;
  /** Where replay has to start, and on which timeline; told before the first byte. */
  start: { lsn: number; timeline: number } | null = null;
  /** Where the backup ends, told after the last byte. */
  private finish: { lsn: number; timeline: number } | null = null;
  /** Where the content's parts begin, whose size the first archive decides. */
  marks = new PartMarks(partBytesOf(0));
  private readonly connection: CopyConnection;
  private waiting: Buffer[] = [];
  private waitingBytes = 0;
  private over = false;
  private failure: unknown = null;
  private wake: () => void = () => {};

  private constructor(
    private readonly client: pg.Client,
    private readonly address: ServerAddress,
  ) {
    this.connection = copyConnection(client);
  }

  /** @throws Fault INVALID_ARGUMENT (connectionUri), DATASTORE_UNAVAILABLE */
  static async open(address: ServerAddress): Promise<BaseStream> {
    return new BaseStream(await connect(address, { applicationName: 'pitr_base', replication: true }), address);
  }

  /** Who would send the backup. To be asked before begin(). @throws Fault DATASTORE_UNAVAILABLE */
  async identify(): Promise<SystemIdentity> {
    return await identifySystem(this.client, this.address);
  }

  /**
   * Asks for the backup. Resolves when its first bytes are there, with the size of the parts that its content is to be
   * cut into.
   */
  async begin(): Promise<number> {
    this.ask();
    while (this.archives.length === 0 && !this.over) await this.news();
    return this.marks.partBytes;
  }

  /**
   * All archives as one stream of bytes, whose ends `archives` tells afterwards. To be read once, after begin().
   * @throws Fault DATASTORE_UNAVAILABLE in the server's words
   */
  async *content(): AsyncIterable<Buffer> {
    for (;;) {
      const taken = this.waiting;
      this.waiting = [];
      for (const chunk of taken) {
        yield chunk;
        this.waitingBytes -= chunk.length;
        if (this.waitingBytes < ENOUGH_WAITING) this.connection.stream.resume();
      }
      if (this.failure) throw baseFault(this.failure);
      if (this.waiting.length > 0) continue;
      if (this.over) break;
      await this.news();
    }
    const { start, finish } = this;
    if (!start || !finish || finish.timeline !== start.timeline || finish.lsn <= start.lsn) {
      throw baseFault(new Error('its end does not lie behind its start'));
    }
  }

  close(): void {
    hangUp(this.client);
  }

  private news(): Promise<void> {
    return new Promise((resolve) => {
      this.wake = resolve;
    });
  }

  private ask(): void {
    const query = new pg.Query(COMMAND);
    query.on('row', (row: Record<string, string | null>) => this.row(row));
    query.on('error', (error) => this.end(error));
    query.on('end', () => this.end(null));
    this.connection.on('copyData', ({ chunk }: { chunk: Buffer }) => {
      try {
        this.receive(chunk);
      } catch (error) {
        this.end(error);
      }
    });
    this.client.on('end', () => this.end(new Error('the connection ended')));
    this.client.query(query);
  }

  /** First where the backup starts, then what it consists of, after the bytes where it ends. */
  private row(row: Record<string, string | null>): void {
    if (typeof row.recptr === 'string') {
      const told = { lsn: serverLsn(row.recptr), timeline: Number(row.tli) };
      if (this.start === null) this.start = told;
      else this.finish = told;
    } else if (typeof row.size === 'string') {
      this.estimate = (this.estimate ?? 0) + Number(row.size) * 1024;
    }
  }

  private receive(chunk: Buffer): void {
    const kind = chunk.readUInt8(0);
    if (kind === 0x6e /* n: the archive's name, the tablespace's directory */) {
      const name = chunk.toString('latin1', 1, chunk.indexOf(0, 1));
      const tablespace = name === 'base.tar' ? null : Number(/^(\d+)\.tar$/.exec(name)?.[1]);
      if (Number.isNaN(tablespace)) throw new Error(`an archive named ${name}`);
      if (this.archives.length === 0) this.marks = new PartMarks(partBytesOf(this.estimate ?? 0));
      else this.marks.nextArchive();
      this.archives.push({ tablespace, bytes: 0 });
      this.wake();
    } else if (kind === 0x64 /* d: bytes */) {
      const archive = this.archives.at(-1);
      if (!archive) throw new Error('bytes before the first archive');
      // pg reuses the buffer under the chunk.
      const bytes = Buffer.from(chunk.subarray(1));
      archive.bytes += bytes.length;
      this.marks.push(bytes);
      this.waiting.push(bytes);
      this.waitingBytes += bytes.length;
      if (this.waitingBytes > MOST_WAITING) this.connection.stream.pause();
      this.wake();
    }
  }

  private end(failure: unknown): void {
    if (this.over) return;
    this.over = true;
    this.failure = failure;
    this.wake();
  }
}

function baseFault(error: unknown): Fault {
  const said = error instanceof Error ? error.message : String(error);
  return new Fault('DATASTORE_UNAVAILABLE', `PostgreSQL did not send the whole backup: ${said}`, {
    hint: 'Take the backup again.',
    cause: error,
  });
}
