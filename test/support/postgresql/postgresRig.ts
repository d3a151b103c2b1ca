/**
 * A PostgreSQL source that "somebody else" runs, the driver under test, the plain archive between them, and an oracle:
 * what pg_waldump finds in the source's own log.
 */
import { spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdir, mkdtemp, readdir, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import pg from 'pg';
import type {
  BackupSink,
  Datastore,
  InstanceFacts,
  LogCapture,
  RecoveryContext,
  RollForwardRequest,
  StoredBackup,
} from '../../../src/datastores/datastore.js';
import { supportedMajors } from '../../../src/datastores/postgresql/formats/majors.js';
import { createPostgresqlDatastore } from '../../../src/datastores/postgresql/postgresql.js';
import { Binaries } from '../../../src/datastores/postgresql/server/binaries.js';
import { resolveRunAs, run } from '../../../src/datastores/postgresql/server/processes.js';
import { provisionServer } from '../../../src/datastores/postgresql/server/provision.js';
import type { ManagedServer } from '../../../src/datastores/postgresql/server/server.js';
import { NetworkBounds } from '../../../src/datastores/postgresql/source/networks.js';
import { type Instant, instant, parseInstant } from '../../../src/instant.js';
import type { Cut, InstanceHandle } from '../../../src/model.js';
import { binOf, withoutMajor } from './majors.js';
import { PlainArchive, PlainBackup } from './plainArchive.js';

/** The major of suites that are not about majors, with all of its programs. */
const USUAL = 15;
export const BIN = binOf(USUAL);
export const withoutPostgresql = withoutMajor(USUAL);

/** A commit as PostgreSQL's own programs tell it, in log order. */
export interface OracleCommit {
  xid: number;
  at: Instant;
}

export interface Recovered {
  facts: InstanceFacts;
  cut: Cut;
  handle: InstanceHandle;
  /** Connected to the recovered server's database `postgres`. */
  client: pg.Client;
  replayedTo: Instant[];
}

export class PostgresRig {
  readonly driver: Datastore;
  readonly archive: PlainArchive;
  private readonly clients: pg.Client[] = [];
  private recoveries = 0;

  /** What goes with the rig. */
  private away = async (): Promise<void> => {};

  private constructor(
    readonly directory: string,
    readonly server: ManagedServer,
    readonly instance: InstanceHandle,
    readonly major: number,
    streamRestMs: number,
  ) {
    this.archive = new PlainArchive(path.join(directory, 'archive'));
    this.driver = createPostgresqlDatastore({
      binDirectories: supportedMajors.map(binOf),
      // The smallest cap that the service takes.
      retainBytes: 16 * 2 ** 20,
      streamRestMs,
      bounds: new NetworkBounds(['loopback', 'sockets']),
      realPath: (_tenant, file) => realpath(file),
    });
  }

  /** In a directory of its own, which goes when the rig is closed. */
  static async alone(settings: Record<string, string> = {}, major = USUAL, streamRestMs = 0): Promise<PostgresRig> {
    const directory = await mkdtemp(path.join(tmpdir(), 'pitr-test-'));
    const away = () => rm(directory, { recursive: true, force: true });
    const rig = await PostgresRig.start(directory, settings, major, streamRestMs).catch(async (error) => {
      await away();
      throw error;
    });
    rig.away = away;
    return rig;
  }

  /** @param settings in effect from the first start that serves */
  static async start(
    directory: string,
    settings: Record<string, string> = {},
    major = USUAL,
    streamRestMs = 0,
  ): Promise<PostgresRig> {
    for (const part of ['source', 'home', 'archive']) await mkdir(path.join(directory, part));
    const { server, facts } = await provisionServer(
      path.join(directory, 'source'),
      major,
      new Binaries([binOf(major)]),
      resolveRunAs(undefined),
    );
    const instance: InstanceHandle = {
      id: randomUUID(),
      tenantId: 'tenant',
      origin: 'REGISTERED',
      connectionUri: facts.connectionUri,
      home: path.join(directory, 'home'),
      state: {},
    };
    const rig = new PostgresRig(directory, server, instance, major, streamRestMs);
    const client = await rig.connect();
    // The oracle reads the source's own log, so that has to stay.
    for (const [name, value] of Object.entries({ wal_keep_size: '4GB', ...settings })) {
      await client.query(`alter system set ${name} = ${pg.escapeLiteral(value)}`);
    }
    await rig.restartSource();
    return rig;
  }

  /** As for a registration by the instance's tenant. */
  inspect(uri = this.instance.connectionUri): Promise<InstanceFacts> {
    return this.driver.inspect(uri, this.instance.tenantId);
  }

  async restartSource(): Promise<void> {
    await this.endClients();
    await this.server.stop();
    await this.server.start();
  }

  async connect(uri = this.instance.connectionUri): Promise<pg.Client> {
    const client = new pg.Client({ connectionString: uri });
    client.on('error', () => {});
    await client.connect();
    this.clients.push(client);
    return client;
  }

  async capture(resume = this.archive.resumePoint(), archive = this.archive): Promise<LogCapture> {
    return await this.driver.capture(this.instance, resume, archive);
  }

  async backup(capture: LogCapture, instance = this.instance): Promise<StoredBackup> {
    const scratch = path.join(this.directory, `backup-scratch-${this.recoveries++}`);
    await mkdir(scratch);
    const sink = new PlainBackup(path.join(this.directory, `backup-${this.recoveries++}`));
    const facts = await this.driver.backup(
      {
        instance,
        capture,
        type: 'FULL',
        parent: null,
        scratch,
        signal: new AbortController().signal,
        progress: () => {},
      },
      sink,
    );
    return sink.stored(facts);
  }

  /** A full backup made of another and the archive, as the service would have it made. */
  async roll(
    base: StoredBackup,
    at: Instant,
    change: (request: RollForwardRequest) => RollForwardRequest = (request) => request,
    passed: () => void = () => {},
  ): Promise<StoredBackup> {
    const { rollForward } = this.driver;
    if (!rollForward) throw new Error('the driver makes no backups of backups');
    const cut = await this.locate(at, base.facts.replayAfter.stretch);
    const { scratch, segments, signal } = await this.context(base, cut);
    const sink = new PlainBackup(path.join(this.directory, `backup-${this.recoveries++}`));
    const request = change({ base, cut, at, segments, scratch, signal });
    async function* watched(content: AsyncIterable<Buffer>): AsyncIterable<Buffer> {
      for await (const chunk of content) {
        passed();
        yield chunk;
      }
    }
    const write: BackupSink['write'] = (content, partBytes) => sink.write(watched(content), partBytes);
    try {
      return sink.stored(await rollForward.make(request, { write }));
    } finally {
      await rm(scratch, { recursive: true, force: true });
    }
  }

  async locate(at: Instant, stretch: string, archive = this.archive): Promise<Cut> {
    return await this.driver.locate({ at }, archive.around(at, stretch));
  }

  /** A recovery's context as the service would make it. */
  async context(
    base: StoredBackup,
    cut: Cut,
    archive = this.archive,
  ): Promise<RecoveryContext & { replayed: Instant[] }> {
    const home = path.join(this.directory, `target-${++this.recoveries}`);
    const scratch = path.join(this.directory, `scratch-${this.recoveries}`);
    await mkdir(home);
    await mkdir(scratch);
    const chosen = archive.between(cut.position.stretch, base.facts.replayAfter.ordinal, cut.position.ordinal);
    const replayed: Instant[] = [];
    return {
      source: { id: this.instance.id, state: this.instance.state, datastoreVersion: String(this.major) },
      target: { id: randomUUID(), home },
      scratch,
      base,
      incrementals: [],
      cut,
      async *segments(order) {
        yield* order === 'oldest-first' ? chosen : [...chosen].reverse();
      },
      progress: { replayedTo: (at) => replayed.push(at), message: () => {} },
      signal: new AbortController().signal,
      replayed,
    };
  }

  async recover(base: StoredBackup, target: Instant | Cut, archive = this.archive): Promise<Recovered> {
    const stretch = base.facts.replayAfter.stretch;
    const cut = typeof target === 'number' ? await this.locate(target, stretch, archive) : target;
    const context = await this.context(base, cut, archive);
    const { recovery } = this.driver;
    await recovery.restoreBase(context);
    await recovery.replayLog(context);
    const found = await recovery.verify(context);
    const facts = await recovery.activate(context);
    const handle: InstanceHandle = {
      id: context.target.id,
      tenantId: 'tenant',
      origin: 'RECOVERED',
      connectionUri: facts.connectionUri,
      home: context.target.home,
      state: JSON.parse(JSON.stringify(facts.state)),
    };
    const client = await this.connect(await this.privateUri(handle));
    return { facts, cut: found, handle, client, replayedTo: context.replayed };
  }

  /** Removes a recovered instance. */
  async drop(recovered: Recovered): Promise<void> {
    await recovered.client.end();
    await this.driver.destroy(recovered.handle);
  }

  /** All commits of the source that its log still holds, in log order. */
  async oracle(): Promise<OracleCommit[]> {
    const wal = path.join(this.directory, 'source', 'data', 'pg_wal');
    const files = (await readdir(wal)).filter((name) => /^[0-9A-F]{24}$/.test(name)).sort();
    const { stdout } = spawnSync(
      `${BIN}/pg_waldump`,
      ['--rmgr=Transaction', '-p', wal, files[0] ?? '', files.at(-1) ?? ''],
      {
        env: { TZ: 'UTC', LC_ALL: 'C' },
        maxBuffer: 1 << 30,
        encoding: 'utf8',
      },
    );
    return [...stdout.matchAll(/tx:\s+(\d+), .* desc: COMMIT(?:_PREPARED)? (?:\d+: )?(\S+ \S+) UTC/g)].map((match) => ({
      xid: Number(match[1]),
      at: parseInstant(`${match[2]}Z`),
    }));
  }

  /** As PostgreSQL's programs are told where the source is. */
  get whereItIs(): string[] {
    const { socketDir, port, user } = this.server.place;
    return ['-h', socketDir, '-p', String(port), '-U', user];
  }

  /** Runs pgbench against the source's database `postgres`, and answers with what it said. */
  async pgbench(...args: string[]): Promise<string> {
    const { runAs } = this.server.place;
    return await run(`${BIN}/pgbench`, [...args, ...this.whereItIs, 'postgres'], { runAs, timeoutMs: 600_000 });
  }

  async endClients(): Promise<void> {
    await Promise.all(this.clients.splice(0).map((client) => client.end().catch(() => {})));
  }

  async close(): Promise<void> {
    await this.endClients();
    await this.driver.close();
    await this.server.stop();
    await this.away();
  }

  private async privateUri(handle: InstanceHandle): Promise<string> {
    const state = handle.state as { port: number; user: string };
    return `postgresql:///postgres?host=${handle.home}/run&port=${state.port}&user=${state.user}`;
  }
}

/** The xids that an instant keeps: everything before the first commit in log order that is later. */
export function keptBy(commits: OracleCommit[], at: Instant): Set<number> {
  const first = commits.findIndex((commit) => commit.at > at);
  return new Set(commits.slice(0, first < 0 ? commits.length : first).map((commit) => commit.xid));
}

export async function sourceNow(client: pg.Client): Promise<Instant> {
  const { rows } = await client.query('select (extract(epoch from clock_timestamp()) * 1000000)::bigint as now');
  return instant(Number(rows[0].now));
}
