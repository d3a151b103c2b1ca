/**
 * A random life of several databases under a whole service: acts in which programs write while things happen to the
 * service, its storage, its clock and the files, and backups and recoveries are asked for; and between the acts, while
 * nobody writes, what can only happen to a file at rest.
 */
import assert from 'node:assert/strict';
import { stat } from 'node:fs/promises';
import type { TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import {
  beginBackup,
  deleteInstance,
  fileOf,
  plan,
  recover,
  recoveryEnded,
  type Target,
  type Type,
} from './apiCalls.js';
import { generationOf, LivedDatabase } from './livedDatabase.js';
import { hourMillis, type LivingService, retainedMiB } from './livingService.js';
import { GraphqlError } from './service.js';
import { contentOfFile, FileLife, randomShape } from './sqliteFileLife.js';
import { holding } from './sqliteHistory.js';
import { ask, start, until } from './sqlitePrograms.js';

/** Nothing of the log may be lost by these. */
export const harmless = [
  'backup',
  'recovery',
  'fence',
  'RESTART checkpoint',
  'TRUNCATE checkpoint',
  'journal mode tried',
  'VACUUM',
  'large transaction',
  'attached transactions',
] as const;
/** What log is lost by these is in a gap. */
export const costly = [
  'engine killed',
  'engine killed, log emptied',
  'service killed, log emptied',
  'service stopped',
  'storage gone',
  'storage gone past the cap',
  'storage full',
  'clock set back',
  'clock set right',
] as const;
export const quietly = [
  'nothing',
  'removed and made anew',
  'older copy moved over it',
  'down: removed and made anew',
  'down: older copy put over it',
  'down: tail lost',
  'down: journal mode changed',
  'down: log kept',
  'down: log lost',
] as const;
type Busy = (typeof harmless)[number] | (typeof costly)[number];
type Quiet = (typeof quietly)[number];

const settleSeconds = 60;
const largeBytes = 4_000_000;

interface Asked {
  database: LivedDatabase;
  id: string;
  target: Target;
  storageTroubles: number;
}

export class ServiceLife {
  readonly databases: LivedDatabase[] = [];
  /** What happened, for whoever has to understand a failure. */
  readonly events: string[] = [];
  readonly refusals = new Map<string, number>();
  private recoveries: Asked[] = [];
  private storageTroubles = 0;

  constructor(
    private readonly t: TestContext,
    private readonly living: LivingService,
    private readonly random: () => number,
    /** Makes a directory of the test's own. */
    private readonly directory: () => Promise<string>,
  ) {}

  async begin(count: number): Promise<void> {
    for (let i = 0; i < count; i++) {
      const { id, file } = await this.living.adopt(this.t, `${i}`, randomShape(this.random));
      this.databases.push(new LivedDatabase(id, new FileLife(this.t, file, await this.directory(), this.random)));
    }
    for (const { id } of this.databases) await beginBackup(this.service, id);
    await this.settle();
  }

  async act(transactions: number, happening: readonly Busy[]): Promise<void> {
    const { t, random } = this;
    const seed = String(Math.floor(random() * 1e9));
    const writers = this.databases.map(({ life }) =>
      start(t, 'write', life.file, ...life.newWriter(), String(transactions), seed),
    );
    const disturber = start(t, 'disturb', this.any().life.file, seed);
    const victim = random() < 0.4 ? writers.pop() : undefined;
    for (const event of happening) {
      await delay(random() * 200);
      this.events.push(event);
      if (costly.some((each) => each === event)) for (const database of this.databases) database.disturb();
      await this.happen(event);
    }
    victim?.child.kill('SIGKILL');
    await victim?.done.catch(() => {});
    await Promise.all(writers.map(({ done }) => done));
    disturber.child.stdin?.end();
    await disturber.done;
    await this.settle();
  }

  async between(event: Quiet): Promise<void> {
    const database = this.any();
    this.events.push(`${this.databases.indexOf(database)}: ${event}`);
    if (event === 'nothing') return;
    database.disturb();
    if (!event.startsWith('down')) await this.exchange(database, event);
    else {
      for (const each of this.databases) each.disturb();
      await this.living.down(this.random() < 0.5 ? 'stop' : 'kill', () => this.whileDown(database, event));
    }
    await this.settle();
  }

  /** Sets the clock right, makes last promises, and recovers to some of all there were and to instants in between. */
  async end(recoveries: number): Promise<void> {
    await this.living.setClock(0);
    await this.settle();
    const pick = <T>(from: readonly T[]): T | undefined => from[Math.floor(this.random() * from.length)];
    for (const database of this.databases) {
      const instants = database.instants();
      assert.ok(instants.length > 0);
      for (const { at, position } of instants) {
        const { cut, code } = await plan(this.service, database.id, { pointInTime: textOf(at) });
        assert.equal(cut, position, `what ${at} means has changed (${code}) in ${database.id}`);
      }
      for (const { position } of database.promised) {
        assert.equal((await plan(this.service, database.id, { position })).cut, position);
      }
      for (let i = 0; i < recoveries; i++) {
        const instant = pick(instants);
        const promised = pick(database.promised);
        if (instant) await this.recovered(database, { pointInTime: textOf(instant.at) }, instant.n);
        if (promised) await this.recovered(database, { position: promised.position }, promised.n);
        for (const at of [database.anyInstant(this.random), database.anyDarkInstant(this.random)])
          if (at) await this.recovered(database, { pointInTime: textOf(at) });
      }
    }
  }

  private get service() {
    return this.living.service;
  }

  private any(): LivedDatabase {
    const database = this.databases[Math.floor(this.random() * this.databases.length)];
    assert.ok(database);
    return database;
  }

  private async happen(event: Busy): Promise<void> {
    const { t, living, random } = this;
    const database = this.any();
    const { file } = database.life;
    const emptied = (each: LivedDatabase) =>
      ask(t, 'run', each.life.file, 'PRAGMA busy_timeout=100', 'PRAGMA wal_checkpoint(TRUNCATE)').catch(() => {});
    if (event === 'backup') await this.backUp(database);
    else if (event === 'recovery') await this.askForRecovery(database);
    else if (event === 'fence') await plan(this.service, database.id);
    else if (event === 'VACUUM') {
      // It writes all of the file in one transaction, which may be more log than may wait.
      if ((await stat(file)).size > (retainedMiB << 20) / 2) database.disturb();
      await ask(t, 'run', file, event).catch(busy);
    } else if (event === 'RESTART checkpoint') await ask(t, 'run', file, 'PRAGMA wal_checkpoint(RESTART)').catch(busy);
    else if (event === 'TRUNCATE checkpoint') await ask(t, 'run', file, 'PRAGMA wal_checkpoint(TRUNCATE)').catch(busy);
    else if (event === 'journal mode tried') {
      const tried = ask(t, 'run', file, 'PRAGMA busy_timeout=0', 'PRAGMA journal_mode=DELETE').catch(busy);
      const changed = (await tried) !== undefined;
      // Only a capture that follows can be relied upon to be in the way.
      assert.ok(!changed || database.isDisturbed, 'the journal mode of a captured database was changed');
      if (changed) {
        const back = () => ask(t, 'run', file, 'PRAGMA busy_timeout=1000', 'PRAGMA journal_mode=WAL').catch(busy);
        await until('the journal mode is WAL again', async () => (await back()) !== undefined);
      }
    } else if (event === 'large transaction') {
      await start(t, 'large', file, ...database.life.newWriter(), String(largeBytes)).done;
    } else if (event === 'attached transactions') {
      const other = this.databases.find((each) => each !== database)?.life;
      assert.ok(other);
      await start(t, 'both', file, ...database.life.newWriter(), other.file, ...other.newWriter(), '5').done;
    } else if (event === 'engine killed') living.killEngine();
    else if (event === 'engine killed, log emptied') {
      living.killEngine();
      await emptied(database);
    } else if (event === 'service killed, log emptied') await living.down('kill', () => emptied(database));
    else if (event === 'service stopped') await living.down('stop', () => delay(random() * 300));
    else if (event === 'clock set back') await living.setClock(-hourMillis);
    else if (event === 'clock set right') await living.setClock(0);
    else {
      this.storageTroubles++;
      const large = async () => {
        for (let bytes = 0; bytes <= retainedMiB << 20; bytes += largeBytes) {
          await start(t, 'large', file, ...database.life.newWriter(), String(largeBytes)).done;
        }
      };
      const meanwhile = event === 'storage gone past the cap' ? large : () => delay(random() * 400);
      if (event === 'storage full' && living.canFill) await living.storageFull(meanwhile);
      else await living.storageGone(meanwhile);
    }
  }

  private async exchange({ life }: LivedDatabase, event: Quiet): Promise<void> {
    if (event === 'removed and made anew') await life.makeAnew();
    else await life.putOlderCopy('moved');
  }

  private async whileDown({ id, life }: LivedDatabase, event: Quiet): Promise<void> {
    const { t } = this;
    if (event === 'down: removed and made anew') await life.makeAnew();
    else if (event === 'down: older copy put over it') await life.putOlderCopy('in place');
    else if (event === 'down: tail lost') {
      await life.loseTail(async () => {
        await this.service.start();
        await until('what is lost afterwards is archived', async () => (await plan(this.service, id)).code === null);
        await this.service.kill();
      });
    } else if (event === 'down: journal mode changed') {
      await ask(t, 'run', life.file, 'PRAGMA journal_mode=DELETE');
      await life.write(5);
      await ask(t, 'run', life.file, 'PRAGMA journal_mode=WAL');
    } else if (event === 'down: log kept') {
      const reader = await holding(t, life);
      await life.write(8);
      await reader.kill();
    } else {
      await life.write(5);
      await ask(t, 'run', life.file, `PRAGMA wal_checkpoint(${this.random() < 0.5 ? 'TRUNCATE' : 'RESTART'})`);
      await life.write(5);
    }
  }

  private async backUp({ id }: LivedDatabase): Promise<void> {
    const types: Type[] = ['FULL', 'INCREMENTAL', 'DIFFERENTIAL'];
    const type = types[Math.floor(this.random() * types.length)] as Type;
    await beginBackup(this.service, id, type).catch((error: unknown) => {
      this.refused(error);
    });
  }

  /** The answer is waited for when all is quiet. */
  private async askForRecovery(database: LivedDatabase): Promise<void> {
    const { random } = this;
    const kind = random();
    const at = kind < 0.4 && this.living.clockIsRight ? database.anyInstant(random) : null;
    const position = kind < 0.8 ? database.anyPosition(random) : null;
    const target: Target = at ? { pointInTime: textOf(at) } : position ? { position } : {};
    const { storageTroubles } = this;
    await recover(this.service, database.id, target).then(
      ({ id }) => this.recoveries.push({ database, id, target, storageTroubles }),
      (error: unknown) => {
        const code = this.refused(error);
        assert.equal(target.position, undefined, `${code}: a position between two promises was refused`);
        if (at) database.assertRefusable(at, code);
      },
    );
  }

  /** Until every database is archived up to now; then the service has promised it. */
  private async settle(): Promise<void> {
    await Promise.all(this.databases.map((database) => this.settleOne(database)));
    for (const { database, id, target, storageTroubles } of this.recoveries.splice(0)) {
      await this.judged(database, id, target, null, storageTroubles);
    }
  }

  private async settleOne(database: LivedDatabase): Promise<void> {
    const { id, life } = database;
    const { n } = await life.content();
    assert.ok(n >= life.acknowledged(), 'SQLite itself lost a transaction');
    let position = '';
    await until(
      `the latest point of database ${this.databases.indexOf(database)} is the source as it is`,
      async () => {
        const held = await this.recovered(database, {});
        position = held?.recovery.recoveredTo?.position ?? '';
        return held?.content.n === n;
      },
      settleSeconds,
    );
    let at: number | null = null;
    if (this.living.clockIsRight) {
      const millis = Date.now() + 1;
      while (Date.now() <= millis) await delay(1);
      at = millis * 1000;
      const pointInTime = textOf(at);
      await until('now is covered', async () => {
        const found = await plan(this.service, id, { pointInTime });
        if (found.cut === null) return false;
        // Nobody wrote since, but the capture may have started anew over the same content.
        if (found.cut !== position && generationOf(found.cut) === generationOf(position)) {
          // An engine that was killed just before is asked for nothing: the latest point was the end of what was archived, and
          // what came after it changed nothing that is counted, as a VACUUM does. By now it is archived.
          const held = await this.recovered(database, {});
          assert.deepEqual([held?.content.n, held?.recovery.recoveredTo?.position], [n, found.cut]);
        }
        position = found.cut;
        return true;
      });
    }
    database.promise(position, n, at);
    await life.keepCopy(n);
  }

  /** Recovers, looks, and lets the copy go; null where it was refused. */
  private async recovered(database: LivedDatabase, target: Target, n: number | null = null) {
    const asked = await recover(this.service, database.id, target).catch((error: unknown) => this.refused(error));
    if (typeof asked === 'object') return this.judged(database, asked.id, target, n, this.storageTroubles);
    assert.equal(n, null, `what was promised is refused: ${asked}, ${JSON.stringify(target)}`);
    if (target.pointInTime) database.assertRefusable(Date.parse(target.pointInTime) * 1000, asked);
    return null;
  }

  private async judged(database: LivedDatabase, id: string, target: Target, n: number | null, storageTroubles: number) {
    const recovery = await recoveryEnded(this.service, id);
    if (recovery.state !== 'SUCCEEDED') {
      const { code } = recovery.error ?? {};
      const where = `${JSON.stringify(target)}: ${JSON.stringify(recovery.error)}`;
      assert.ok(storageTroubles < this.storageTroubles, where);
      assert.ok(code === 'STORAGE_UNAVAILABLE' || code === 'STORAGE_FULL', where);
      return null;
    }
    const held = { recovery, target, content: await contentOfFile(fileOf(recovery.instance?.endpoint)), n };
    database.held.push(held);
    await deleteInstance(this.service, recovery.instance?.id ?? '');
    return held;
  }

  /** The code of a refusal; anything else is thrown. */
  private refused(error: unknown): string {
    if (!(error instanceof GraphqlError) || !error.code || error.code === 'INTERNAL') throw error;
    this.refusals.set(error.code, (this.refusals.get(error.code) ?? 0) + 1);
    return error.code;
  }
}

function textOf(micros: number): string {
  return new Date(Math.floor(micros / 1000)).toISOString();
}

function busy(error: Error): void {
  if (!/SQLITE_BUSY|database is locked|SQLITE_LOCKED/.test(error.message)) throw error;
}
