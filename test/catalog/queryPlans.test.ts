/** What is asked all the time is a seek in an index, in one statement, however long the log has grown. */
import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { backupReads } from '../../src/catalog/backupQueries.js';
import { instanceReads } from '../../src/catalog/instanceQueries.js';
import { closeConnections, openSqlite } from '../../src/catalog/openSqlite.js';
import { recoveryReads } from '../../src/catalog/recoveryQueries.js';
import { sealer } from '../../src/catalog/seal.js';
import { segmentReads } from '../../src/catalog/segmentQueries.js';
import { stretchReads } from '../../src/catalog/stretchQueries.js';
import { scratchDir } from '../support/scratch.js';
import { at, NOON, SHA } from './examples.js';

const SEGMENTS = 50_000;

/** Segments of ten ordinals each; every tenth holds a commit. */
const LONG_LOG = `
  WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${SEGMENTS})
  INSERT INTO "log_segments" ("stretchId", "last", "after", "lastText", "transactions", "firstCommitAt", "lastCommitAt",
    "latestCommitAt", "coveredTo", "runningSegments", "runningPlainBytes", "runningStoredBytes", "lastWithCommit", "objectKey",
    "objectPlainBytes", "objectStoredBytes", "objectSha256")
  SELECT 's', i * 10, i * 10 - 10, i, i % 10 = 0, iif(i % 10 = 0, ${NOON} + i, NULL), iif(i % 10 = 0, ${NOON} + i, NULL),
    iif(i < 10, NULL, ${NOON} + i - i % 10), ${NOON} + i, i, i * 100, i * 7, iif(i < 10, NULL, (i - i % 10) * 10), i, 100, 7, '${SHA}' FROM n`;

interface Statement {
  sql: string;
  plan: string[];
}

test('with 50,000 segments', async (t) => {
  const connections = await openSqlite(path.join(await scratchDir(t), 'catalog.sqlite'));
  t.after(() => closeConnections(connections));
  const statements: { sql: string; parameters: unknown[] }[] = [];
  const { writer, reader } = connections;
  await writer.query(
    `INSERT INTO "instances" ("id", "tenantId", "name", "origin", "datastore", "datastoreVersion", "state", "driverState", "notices", "archiveHealthy", "createdAt")
       VALUES ('i', 't', 'n', 'CREATED', 'sqlite', '3', 'PROVISIONING', '{}', '[]', 1, 1)`,
  );
  await writer.query(
    `INSERT INTO "log_stretches" ("id", "instanceId", "name", "number", "startsBecause", "reason", "startedAt", "startOrdinal", "lastOrdinal", "lastText", "segments", "bytes", "continuation")
       VALUES ('s', 'i', 's', 1, 'FIRST_BACKUP', '', 1, 0, ${SEGMENTS * 10}, '', ${SEGMENTS}, 0, '{}')`,
  );
  await writer.query(LONG_LOG);
  const logQuery = (sql: string, parameters: unknown[] = []) => statements.push({ sql, parameters });
  Object.assign(reader, { logger: { ...reader.logger, logQuery, logQueryError: () => undefined } });

  /** Runs a read; answers with it and with the plan of each statement that it took. */
  async function explained<T>(read: () => Promise<T>): Promise<{ answer: T; taken: Statement[] }> {
    statements.length = 0;
    const answer = await read();
    const taken: Statement[] = [];
    for (const { sql, parameters } of statements.splice(0)) {
      const steps: { detail: string }[] = await writer.query(`EXPLAIN QUERY PLAN ${sql}`, parameters);
      taken.push({ sql, plan: steps.map(({ detail }) => detail) });
    }
    return { answer, taken };
  }

  /** The plans of a read, none of which walks or sorts a table (TypeORM asks whether rows exist through a row it makes up). */
  async function seeks<T>(read: () => Promise<T>, statementsAllowed = 1): Promise<{ answer: T; steps: string[] }> {
    const { answer, taken } = await explained(read);
    assert.equal(taken.length, statementsAllowed);
    const steps = taken.flatMap(({ plan }) => plan);
    assert.ok(steps.length > 0);
    for (const step of steps) assert.doesNotMatch(step, /SCAN (?!CONSTANT|dummy_table)|TEMP B-TREE|AUTOMATIC/, step);
    return { answer, steps };
  }

  const log = () => segmentReads(reader.manager);

  await t.test('the oldest segment committed after an instant', async () => {
    const { answer, steps } = await seeks(() => log().firstSegmentCommittedAfter('s', at(40_000)));
    assert.equal(answer?.last, 400_100);
    assert.match(steps.join(), /log_segments_latest_commit_at \(stretchId=\? AND latestCommitAt>\?\)/);
  });

  await t.test('the newest segment with a commit up to an ordinal', async () => {
    const { answer, steps } = await seeks(() => log().lastSegmentWithCommitUpTo('s', 400_099));
    assert.equal(answer?.last, 400_000);
    assert.match(steps.join(), /\(stretchId=\? AND last=\?\).*\(stretchId=\? AND last<\?\)/);
  });

  await t.test('the segment that holds an ordinal, also where none does', async () => {
    for (const [ordinal, last] of [
      [400_001, 400_010],
      [0, undefined],
      [SEGMENTS * 10 + 1, undefined],
    ] as const) {
      const { answer, steps } = await seeks(() => log().segmentHolding('s', ordinal));
      assert.equal(answer?.last, last);
      assert.match(steps.join(), /\(stretchId=\? AND last>\?\)/);
    }
  });

  await t.test('the segments of a range, from either end: both ends bound the index', async () => {
    for (const order of ['oldest-first', 'newest-first'] as const) {
      const { answer, steps } = await seeks(() => log().segments('s', { after: 250_005, last: 250_031 }, order, 1000));
      const lasts = [250_010, 250_020, 250_030, 250_040];
      assert.deepEqual(
        answer.map(({ last }) => last),
        order === 'oldest-first' ? lasts : lasts.reverse(),
      );
      assert.match(steps[0] ?? '', / \(stretchId=\? AND last>\? AND last<\?\)/);
      assert.match(steps.at(-1) ?? '', /"?end"? USING COVERING INDEX .* \(stretchId=\? AND last>\?\)/);
    }
  });

  await t.test('the totals of the whole log: two rows and a look for gaps', async () => {
    const { answer, steps } = await seeks(() => log().segmentTotals('s', { after: 0, last: SEGMENTS * 10 }));
    assert.deepEqual(answer, {
      segments: SEGMENTS,
      plainBytes: SEGMENTS * 100,
      storedBytes: SEGMENTS * 7,
      after: 0,
      last: SEGMENTS * 10,
      contiguous: true,
    });
    // Each of the two rows is looked up where the bounds on both sides lead.
    const bounded = steps.filter((step) => / log_segments .*\(stretchId=\? AND last>\? AND last<\?\)/.test(step));
    assert.equal(bounded.length, 2);
  });

  await t.test('a page of a list, from its beginning and after an item', async () => {
    const manager = reader.manager;
    const backups = backupReads(manager);
    const recoveries = recoveryReads(manager);
    const instances = instanceReads(manager, sealer(Buffer.alloc(32)));
    for (const after of [null, 'x']) {
      const page = { first: 50, after };
      const states = ['COMPLETED', 'RUNNING'] as const;
      const pages: [read: () => Promise<unknown>, index: string][] = [
        [() => backups.backups({ instanceId: 'i', states, before: null }, page), 'backups_newest'],
        [() => backups.startingPoints({ instanceId: 'i', before: at(1) }, page), 'backups_starting_points'],
        [() => instances.instances({ tenantId: 't', includeDeleted: true }, page), 'instances_newest'],
        [() => recoveries.recoveries({ tenantId: 't', sourceId: null, states: null }, page), 'recoveries_newest'],
        [() => recoveries.recoveries({ tenantId: 't', sourceId: 'i', states: null }, page), 'recoveries_of_source'],
      ];
      for (const [read, index] of pages) {
        // The item is none of the list's, which costs one more look at it and a refusal.
        const looked = after === null ? read : () => assert.rejects(read(), { code: 'INVALID_ARGUMENT' });
        assert.match((await seeks(looked, after === null ? 1 : 2)).steps[0] ?? '', new RegExp(index));
      }

      // Of a tenant: along the primary key until the page is full, never sorted.
      const { taken } = await explained(() => backups.backupsOfTenant({ tenantId: 't', states }, page));
      assert.equal(taken.length, 1);
      const [walk, ...others] = taken[0]?.plan ?? [];
      assert.match(walk ?? '', /(SCAN|SEARCH) backup USING INDEX sqlite_autoindex_backups_1/);
      for (const step of others) assert.doesNotMatch(step, /SCAN|TEMP B-TREE|AUTOMATIC/, step);
    }
  });

  await t.test('the next recovery in the queue, however many wait', async () => {
    const { steps } = await seeks(() => recoveryReads(reader.manager).recoveriesInStates(['QUEUED'], 1));
    assert.match(steps.join(), /recoveries_by_state/);
  });

  await t.test('what is loaded for many at once takes one statement', async () => {
    const manager = reader.manager;
    await seeks(() => backupReads(manager).backupsByIds(['a', 'b']));
    await seeks(() => backupReads(manager).backup('a'));
    await seeks(() => instanceReads(manager, sealer(Buffer.alloc(32))).instancesByIds(['i', 'b']));
    await seeks(() => recoveryReads(manager).recoveriesByIds(['i', 'b']));
    await seeks(() => recoveryReads(manager).steps(['i', 'b']));
    await seeks(() => stretchReads(manager).stretches(['i', 'b']));
    await seeks(() => stretchReads(manager).newestStretch('i'));
    assert.equal((await explained(() => stretchReads(manager).gaps(['s', 'b']))).taken.length, 1);
    assert.equal((await explained(() => backupReads(manager).backupPoints(['i', 'j']))).taken.length, 1);
  });
});
