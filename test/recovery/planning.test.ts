/**
 * Planning against a brute-force oracle: random histories in a real catalog and real storage, commit times out of log
 * order, gaps, several stretches and backups; the oracle walks over every transaction one by one.
 */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { pino } from 'pino';
import { DamageBook } from '../../src/backup/damageBook.js';
import { segmentKey } from '../../src/backup/objectKeys.js';
import type { InstanceRecord, SegmentRecord } from '../../src/catalog/records.js';
import type { Datastore, LocateTarget, SegmentsAround, StoredSegment } from '../../src/datastores/datastore.js';
import { Fault } from '../../src/errors.js';
import { type Instant, instant } from '../../src/instant.js';
import type { Cut, LogPosition, RecoveryPlan } from '../../src/model.js';
import { loadWindows, planRecovery } from '../../src/recovery/planning.js';
import { windowHolding } from '../../src/recovery/windows.js';
import { FileStorage } from '../../src/storage/fileStorage.js';
import { ObjectPipeline } from '../../src/storage/pipeline.js';
import { aBackup, aGap, anInstance, aStretch, at, completion, scratchCatalog } from '../catalog/examples.js';
import { Random, seeds } from '../support/random.js';
import { scratchDir } from '../support/scratch.js';

interface Transaction {
  ordinal: number;
  at: Instant;
}

interface Backup {
  id: string;
  ordinal: number;
  replayAfter: number;
  at: Instant;
}

interface Stretch {
  name: string;
  transactions: Transaction[];
  /** Ordinals at which segments end, rising; the last one is the last transaction's. */
  ends: number[];
  backups: Backup[];
  coveredTo: Instant;
}

/** Transactions whose times mostly rise and sometimes don't, in segments of any size, with backups in between. */
function history(random: Random, name: string, from: number): Stretch {
  const transactions: Transaction[] = [];
  const backups: Backup[] = [];
  let now = from;
  let latest = from;
  const count = random.below(40);
  for (let ordinal = 1; ordinal <= count; ordinal += 1) {
    now += random.below(5);
    const at = Math.max(from, now - (random.below(4) === 0 ? random.below(6) : 0));
    latest = Math.max(latest, at);
    transactions.push({ ordinal, at: instant(at) });
    if (random.below(10) === 0) {
      // Consistent once everything up to here is certainly committed, and nothing later is at that instant.
      now = latest + 1;
      const replayAfter = Math.max(0, ordinal - random.below(5));
      backups.push({ id: `${name}-${ordinal}`, ordinal, replayAfter, at: instant(now) });
      now += 7;
    }
  }
  if (random.below(3) > 0) backups.push({ id: `${name}-start`, ordinal: 0, replayAfter: 0, at: instant(from) });
  const ends = transactions.filter(() => random.below(3) === 0).map(({ ordinal }) => ordinal);
  if (count > 0 && ends.at(-1) !== count) ends.push(count);
  return { name, transactions, ends, backups, coveredTo: instant(Math.max(now, latest) + random.below(10)) };
}

/** What the definition says, transaction by transaction. */
function expected(stretches: Stretch[], at: Instant): { cut: LogPosition; base: string; closest: Instant } | null {
  for (const { name, transactions, backups, coveredTo } of stretches) {
    if (at > coveredTo || !backups.some((backup) => backup.at <= at)) continue;
    const dropped = transactions.find((transaction) => transaction.at > at);
    const kept = dropped ? dropped.ordinal - 1 : transactions.length;
    const usable = backups.filter((backup) => backup.at <= at && backup.ordinal <= kept);
    const base = usable.sort((a, b) => b.replayAfter - a.replayAfter || b.at - a.at || (b.id > a.id ? 1 : -1))[0];
    assert.ok(base, 'the oracle always finds a base inside a window');
    const last = transactions[kept - 1];
    const closest = kept > base.ordinal && last ? last.at : base.at;
    return { cut: { stretch: name, ordinal: kept, text: `${name}/${kept}` }, base: base.id, closest };
  }
  return null;
}

/** A datastore whose segments are JSON lists of transactions: just enough of one to find cuts in. */
const listLog = {
  parsePosition(text: string): LogPosition | null {
    const [stretch, ordinal] = text.split('/');
    return stretch && ordinal ? { stretch, ordinal: Number(ordinal), text } : null;
  },
  async locate(target: LocateTarget, around: SegmentsAround): Promise<Cut> {
    const all = [...(await transactionsOf(around.before)), ...(await transactionsOf(around.boundary))];
    const dropped =
      'at' in target
        ? all.find(({ at }) => at > target.at)
        : all.find(({ ordinal }) => ordinal > target.position.ordinal);
    const kept = all.filter(({ ordinal }) => ordinal < (dropped?.ordinal ?? Number.POSITIVE_INFINITY)).at(-1);
    const ordinal = kept?.ordinal ?? (dropped?.ordinal ?? 1) - 1;
    return {
      position: { stretch: around.stretch, ordinal, text: `${around.stretch}/${ordinal}` },
      lastKeptNotBefore: kept?.at ?? null,
      lastKeptAt: kept?.at ?? null,
      firstDroppedAt: dropped?.at ?? null,
    };
  },
  recovery: { order: ['RESTORE_BASE', 'APPLY_INCREMENTALS', 'REPLAY_LOG'] },
} as Pick<Datastore, 'parsePosition' | 'locate'> & { recovery: Pick<Datastore['recovery'], 'order'> } as Datastore;

async function transactionsOf(segment: StoredSegment | null): Promise<Transaction[]> {
  if (!segment) return [];
  const chunks: Buffer[] = [];
  for await (const chunk of segment.read()) chunks.push(chunk);
  return JSON.parse(Buffer.concat(chunks).toString());
}

async function* bytes(value: unknown): AsyncGenerator<Buffer> {
  yield Buffer.from(JSON.stringify(value));
}

async function archived(t: TestContext, stretches: Stretch[]) {
  const { catalog } = await scratchCatalog(t);
  const storage = await FileStorage.open(await scratchDir(t));
  const pipeline = new ObjectPipeline(storage, { workers: 1 });
  t.after(() => pipeline.close());
  const instance: InstanceRecord = anInstance({ id: 'i' });
  await catalog.write((writer) => writer.insertInstance(instance));
  for (const [index, stretch] of stretches.entries()) {
    const { name, ends, transactions, backups, coveredTo } = stretch;
    await catalog.write((writer) =>
      writer.insertStretch(
        aStretch({ id: name, name, instanceId: 'i', number: index + 1, endsBecause: null, lastText: `${name}/0` }),
      ),
    );
    let after = 0;
    for (const last of ends) {
      const own = transactions.filter(({ ordinal }) => ordinal > after && ordinal <= last);
      const position = (ordinal: number) => ({ stretch: name, ordinal, text: `${name}/${ordinal}` });
      const key = segmentKey('i', { after: position(after), last: position(last) });
      const object = await pipeline.write(key, bytes(own));
      const times = own.map(({ at }) => at);
      const segment = {
        stretchId: name,
        after,
        last,
        lastText: `${name}/${last}`,
        transactions: own.length,
        firstCommitAt: instant(Math.min(...times)),
        lastCommitAt: instant(Math.max(...times)),
        latestCommitAt: null,
        coveredTo: instant(Math.max(...times)),
        object,
      };
      await catalog.write((writer) => writer.insertSegment(segment));
      after = last;
    }
    await catalog.write(async (writer) => {
      await writer.raiseCoverage(new Map([[name, coveredTo]]));
      for (const backup of backups) {
        await writer.insertBackup(
          aBackup({
            id: backup.id,
            instanceId: 'i',
            ...completion(name, backup.at),
            consistentOrdinal: backup.ordinal,
            consistentText: `${name}/${backup.ordinal}`,
            replayAfterOrdinal: backup.replayAfter,
          }),
        );
      }
    });
  }
  const end = stretches.at(-1)?.coveredTo ?? instant(0);
  const options = { catalog, pipeline, clock: () => instant(end + 1_000), cover: async () => false };
  return { instance, options, storage };
}

for (const seed of seeds(20261122)) {
  test(`random histories give the cut that the definition names (seed ${seed})`, async (t) => {
    const random = new Random(seed);
    const rounds = process.env.PITR_TEST_LONG ? 40 : 3;
    for (let round = 0; round < rounds; round += 1) {
      const stretches: Stretch[] = [];
      let from = 100;
      for (let number = 1; number <= 1 + random.below(3); number += 1) {
        const stretch = history(random, `${number}`, from);
        stretches.push(stretch);
        from = stretch.coveredTo + 1 + random.below(20);
      }
      const { instance, options } = await archived(t, stretches);
      for (let micros = 95; micros <= from + 5; micros += 1) {
        const at = instant(micros);
        const wanted = expected(stretches, at);
        const target = { pointInTime: at, position: null };
        const plan = await planRecovery(options, listLog, instance, target).catch((error: unknown) => {
          if (!(error instanceof Fault) || error.code === 'INTERNAL') throw error;
          return error;
        });
        const label = `round ${round}, instant ${micros}`;
        if (wanted === null) {
          assert.ok(plan instanceof Fault, `${label}: refused`);
          continue;
        }
        if (plan instanceof Fault) throw new Error(`${label}: ${plan.code} ${plan.message}`);
        assert.deepEqual(plan.cut.position, wanted.cut, label);
        assert.equal(plan.baseId, wanted.base, label);
        assert.equal(plan.closestPointInTime, wanted.closest, label);
        // The same transaction named by its position leads to the same cut.
        if (wanted.cut.ordinal > 0) {
          const byPosition = await planRecovery(options, listLog, instance, {
            pointInTime: null,
            position: wanted.cut.text,
          });
          assert.deepEqual(byPosition.cut.position, wanted.cut, `${label} by position`);
        }
      }
    }
  });
}

for (const seed of seeds(20261124)) {
  test(`without a target all that is archived is kept, whatever the times in it say (seed ${seed})`, async (t) => {
    const random = new Random(seed);
    const rounds = process.env.PITR_TEST_LONG ? 60 : 6;
    let planned = 0;
    for (let round = 0; round < rounds; round += 1) {
      const stretch = history(random, '1', 100);
      const { transactions } = stretch;
      // A commit of a moment at which the clock was ahead; PostgreSQL's coverage then ends just before it.
      const ahead = transactions[random.below(transactions.length || 1)];
      if (ahead) ahead.at = instant(ahead.at + 1_000);
      if (ahead && random.below(2) === 0) stretch.coveredTo = instant(ahead.at - 1);
      const { instance, options } = await archived(t, [stretch]);
      const target = { pointInTime: null, position: null };
      const plan = await planRecovery(options, listLog, instance, target).catch((error: unknown) => error);
      const windows = (await loadWindows(options.catalog.read, ['i'])).get('i') ?? [];
      if (windows.length === 0) {
        assert.ok(plan instanceof Fault && plan.code === 'NO_BACKUP', `round ${round}: ${plan}`);
        continue;
      }
      if (plan instanceof Error) throw plan;
      const { cut } = plan as RecoveryPlan;
      assert.deepEqual([cut.position.ordinal, cut.firstDroppedAt], [transactions.length, null], `round ${round}`);
      planned += 1;
    }
    assert.ok(planned > 0, 'nothing was planned at all');
  });
}

for (const seed of seeds(20261123)) {
  test(`lost segments split the windows, and every instant in one is planned without them (seed ${seed})`, async (t) => {
    const random = new Random(seed);
    const rounds = process.env.PITR_TEST_LONG ? 60 : 4;
    let planned = 0;
    for (let round = 0; round < rounds; round += 1) {
      const stretch = history(random, '1', 100);
      const { instance, options, storage } = await archived(t, [stretch]);
      const { catalog, pipeline } = options;
      const told: string[] = [];
      const logger = pino({ level: 'silent' });
      const book = new DamageBook({ catalog, storage, pipeline, logger, onLost: (id) => told.push(id) });
      const all = await catalog.read.segments('1', { after: 0, last: 1_000 }, 'oldest-first', 100);
      const lost: SegmentRecord[] = all.filter(() => random.below(4) === 0);
      if (lost.length === all.length) continue; // A storage without any object is taken for one that is not mounted.
      for (const { object } of lost) {
        const fault = new Fault('LOG_CORRUPT', 'missing', { details: { object: object.key } });
        await book.remember(fault);
        await storage.remove(object.key);
        await book.remember(fault);
        await book.remember(fault);
      }
      assert.equal(told.length, lost.length, 'each is told once, and only when it really is lost');
      const windows = (await loadWindows(catalog.read, ['i'])).get('i') ?? [];
      for (let micros = 95; micros <= stretch.coveredTo + 5; micros += 1) {
        const at = instant(micros);
        const label = `round ${round}, instant ${micros}`;
        const target = { pointInTime: at, position: null };
        const plan = await planRecovery(options, listLog, instance, target).catch((error: unknown) => error);
        if (!windowHolding(windows, at)) {
          assert.ok(plan instanceof Fault && !['INTERNAL', 'LOG_CORRUPT'].includes(plan.code), `${label}: ${plan}`);
          continue;
        }
        if (plan instanceof Error) throw new Error(`${label}: advertised, but ${plan.message}`);
        const { cut, replayAfter } = plan as RecoveryPlan;
        assert.deepEqual(cut.position, expected([stretch], at)?.cut, label);
        for (const { after, last } of lost) {
          assert.ok(last <= replayAfter || cut.position.ordinal <= after, `${label} needs what is lost`);
        }
        planned += 1;
      }
      const target = { pointInTime: null, position: null };
      const latest = await planRecovery(options, listLog, instance, target).catch((error: unknown) => error);
      if (windows.length === 0) assert.ok(latest instanceof Fault && latest.code === 'NO_BACKUP', `${latest}`);
      else {
        if (latest instanceof Error) throw latest;
        const { cut, replayAfter } = latest as RecoveryPlan;
        const expectedEnd = expected([stretch], windows.at(-1)?.to ?? instant(0))?.cut.ordinal ?? 0;
        assert.ok(cut.position.ordinal >= expectedEnd);
        for (const { after, last } of lost) assert.ok(last <= replayAfter || cut.position.ordinal <= after, 'latest');
      }
      for (const { ordinal } of stretch.transactions) {
        const target = { pointInTime: null, position: `1/${ordinal}` };
        const plan = await planRecovery(options, listLog, instance, target).catch((error: unknown) => error);
        if (plan instanceof Fault && plan.code !== 'INTERNAL') continue;
        if (plan instanceof Error) throw plan;
        const { cut, replayAfter } = plan as RecoveryPlan;
        assert.equal(cut.position.ordinal, ordinal);
        for (const { after, last } of lost) assert.ok(last <= replayAfter || ordinal <= after, `1/${ordinal}`);
      }
    }
    assert.ok(planned > 0, 'nothing was planned at all');
  });
}

test('the windows of many instances are loaded together and kept apart', async (t) => {
  const { catalog } = await scratchCatalog(t);
  const ids = Array.from({ length: 5 }, (_, number) => `i${number}`);
  await catalog.write(async (writer) => {
    for (const [number, id] of ids.entries()) {
      await writer.insertInstance(anInstance({ id }));
      if (number === 4) continue; // One without any log.
      const coveredTo = at(100 + number);
      await writer.insertStretch(aStretch({ id: `s-${id}`, instanceId: id, coveredTo }));
      await writer.insertBackup(aBackup({ id: `b-${id}`, instanceId: id }));
      await writer.updateBackup(`b-${id}`, completion(`s-${id}`, at(number)));
      const gap = aGap({ id: `g-${id}`, stretchId: `s-${id}`, from: at(50), to: at(60 + number) });
      if (number > 1) await writer.insertGap(gap);
    }
  });
  const windows = await loadWindows(catalog.read, [...ids, 'unknown']);
  const spans = Object.fromEntries([...windows].map(([id, own]) => [id, own.map(({ from, to }) => [from, to])]));
  assert.deepEqual(spans, {
    i0: [[at(0), at(100)]],
    i1: [[at(1), at(101)]],
    i2: [
      [at(2), at(50)],
      [at(62), at(102)],
    ],
    i3: [
      [at(3), at(50)],
      [at(63), at(103)],
    ],
    i4: [],
    unknown: [],
  });
});
