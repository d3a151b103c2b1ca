/** The rules that hold in the schema itself: SQL that goes around the code is refused by the database. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  aBackup,
  aGap,
  anInstance,
  aRecovery,
  aSegment,
  aStretch,
  completion,
  NOON,
  pendingSteps,
  rawSql,
  SHA,
  scratchCatalog,
} from './examples.js';

/** Changes of one valid row each: table, row, assignment, and what the database says. */
const refused: [table: string, row: string, assignment: string, refusal: RegExp][] = [
  ['instances', `"id" = 'i'`, `"state" = 'GONE'`, /CHECK.*instances_state/],
  ['instances', `"id" = 'i'`, `"origin" = 'FOUND'`, /CHECK.*instances_origin/],
  ['instances', `"id" = 'i'`, `"origin" = 'RECOVERED'`, /CHECK.*instances_recovered/],
  ['instances', `"id" = 'i'`, `"volumeSizeGiB" = 0`, /CHECK.*instances_volume/],
  ['instances', `"id" = 'i'`, `"connectionUri" = NULL`, /CHECK.*instances_active/],
  ['instances', `"id" = 'i'`, `"identity" = NULL`, /CHECK.*instances_active/],
  ['instances', `"id" = 'i'`, `"connectionUri" = 'postgresql://a:b@c/d'`, /CHECK.*instances_sealed/],
  ['instances', `"id" = 'i'`, `"state" = 'DELETED'`, /CHECK.*instances_deleted/],
  ['instances', `"id" = 'i'`, `"deletedAt" = 1`, /CHECK.*instances_deleted/],
  ['instances', `"id" = 'i'`, `"name" = NULL`, /NOT NULL/],
  ['instances', `"id" = 'i'`, `"identity" = 'identity-j'`, /UNIQUE.*identity/],
  ['instances', `"id" = 'i'`, `"recoveredFromId" = 'unknown'`, /FOREIGN KEY/],
  ['instances', `"id" = 'i'`, `"createdByRecoveryId" = 'unknown'`, /FOREIGN KEY/],
  ['instances', `"id" = 'i'`, `"id" = 'moved'`, /FOREIGN KEY/],

  ['backups', `"id" = 'b'`, `"state" = 'DONE'`, /CHECK.*backups_state/],
  ['backups', `"id" = 'b'`, `"type" = 'HALF'`, /CHECK.*backups_(type|parent)/],
  ['backups', `"id" = 'b'`, `"percent" = 100.5`, /CHECK.*backups_percent/],
  ['backups', `"id" = 'b'`, `"percent" = -1`, /CHECK.*backups_percent/],
  ['backups', `"id" = 'b'`, `"state" = 'FAILED'`, /CHECK.*backups_failed/],
  ['backups', `"id" = 'b'`, `"parentId" = 'b2'`, /CHECK.*backups_parent/],
  ['backups', `"id" = 'b'`, `"type" = 'INCREMENTAL'`, /CHECK.*backups_parent/],
  ['backups', `"id" = 'b'`, `"madeFromId" = 'unknown'`, /FOREIGN KEY/],
  ['backups', `"id" = 'b'`, `"madeFromId" = 'of j'`, /FOREIGN KEY/],
  [
    'backups',
    `"id" = 'b'`,
    `"type" = 'INCREMENTAL', "parentId" = 'b2', "madeFromId" = 'b2'`,
    /CHECK.*backups_made_from/,
  ],
  ['backups', `"id" = 'b'`, `"type" = 'INCREMENTAL', "parentId" = 'unknown'`, /FOREIGN KEY/],
  ['backups', `"id" = 'b'`, `"type" = 'INCREMENTAL', "parentId" = 'of j'`, /FOREIGN KEY/],
  ['backups', `"id" = 'b'`, `"stretchId" = 'of j'`, /FOREIGN KEY/],
  ['backups', `"id" = 'b'`, `"instanceId" = 'unknown'`, /FOREIGN KEY/],
  ['backups', `"id" = 'b'`, `"replayAfterOrdinal" = "consistentOrdinal" + 1`, /CHECK.*backups_ordinals/],
  ['backups', `"id" = 'b'`, `"replayAfterOrdinal" = -1`, /CHECK.*backups_ordinals/],
  ['backups', `"id" = 'b'`, `"manifestSha256" = upper("manifestSha256")`, /CHECK.*backups_manifest/],
  ...[
    'stretchId',
    'consistentAt',
    'consistentOrdinal',
    'consistentText',
    'replayAfterOrdinal',
    'manifestKey',
    'manifestPlainBytes',
    'manifestStoredBytes',
    'manifestSha256',
    'completedAt',
  ].map((column): (typeof refused)[number] => [
    'backups',
    `"id" = 'b'`,
    `"${column}" = NULL`,
    /CHECK.*backups_completed/,
  ]),

  ['log_stretches', `"id" = 's'`, `"startsBecause" = 'BOREDOM'`, /CHECK.*log_stretches_start/],
  ['log_stretches', `"id" = 's'`, `"endsBecause" = 'BOREDOM'`, /CHECK.*log_stretches_end/],
  ['log_stretches', `"id" = 's'`, `"lastOrdinal" = "startOrdinal" - 1`, /CHECK.*log_stretches_ordinals/],
  ['log_stretches', `"id" = 's'`, `"number" = 0`, /CHECK.*log_stretches_numbers/],
  ['log_stretches', `"id" = 's'`, `"segments" = -1`, /CHECK.*log_stretches_sums/],
  ['log_stretches', `"id" = 's'`, `"name" = 's2'`, /UNIQUE.*instanceId.*name/],
  ['log_stretches', `"id" = 's'`, `"number" = 2`, /UNIQUE.*instanceId.*number/],
  ['log_stretches', `"id" = 's'`, `"instanceId" = 'unknown'`, /FOREIGN KEY/],

  ['log_segments', `"last" = 20`, `"after" = 20`, /CHECK.*log_segments_ordinals|UNIQUE/],
  ['log_segments', `"last" = 20`, `"after" = 30`, /CHECK.*log_segments_ordinals/],
  ['log_segments', `"last" = 20`, `"after" = -1`, /CHECK.*log_segments_ordinals/],
  ['log_segments', `"last" = 20`, `"last" = 30, "lastWithCommit" = 30`, /UNIQUE.*stretchId.*last/],
  ['log_segments', `"last" = 30`, `"after" = 10`, /UNIQUE.*stretchId.*after/],
  ['log_segments', `"last" = 20`, `"stretchId" = 'unknown'`, /FOREIGN KEY/],
  ['log_segments', `"last" = 20`, `"transactions" = -1`, /CHECK.*log_segments_(transactions|commits)/],
  ['log_segments', `"last" = 20`, `"transactions" = 0`, /CHECK.*log_segments_commits/],
  ['log_segments', `"last" = 20`, `"firstCommitAt" = NULL`, /CHECK.*log_segments_commits/],
  ['log_segments', `"last" = 20`, `"firstCommitAt" = "lastCommitAt" + 1`, /CHECK.*log_segments_commit_order/],
  ['log_segments', `"last" = 20`, `"latestCommitAt" = "lastCommitAt" - 1`, /CHECK.*log_segments_latest_commit/],
  ['log_segments', `"last" = 20`, `"latestCommitAt" = NULL`, /CHECK.*log_segments_latest_commit/],
  ['log_segments', `"last" = 20`, `"lastWithCommit" = 21`, /CHECK.*log_segments_with_commit/],
  ['log_segments', `"last" = 20`, `"lastWithCommit" = 10`, /CHECK.*log_segments_with_commit/],
  ['log_segments', `"last" = 20`, `"objectStoredBytes" = -1`, /CHECK.*log_segments_bytes/],
  ...[
    'AB'.repeat(32),
    'ab'.repeat(31),
    'ab'.repeat(33),
    'xy'.repeat(32),
    `${'a'.repeat(31)}  ${'a'.repeat(31)}`,
  ].flatMap((hash): typeof refused => [
    ['log_segments', `"last" = 20`, `"objectSha256" = '${hash}'`, /CHECK.*log_segments_sha256/],
    ['log_segments', `"last" = 20`, `"objectBlake3" = '${hash}'`, /CHECK.*log_segments_blake3/],
  ]),

  ['log_gaps', `"id" = 'g'`, `"because" = 'FIRST_BACKUP'`, /CHECK.*log_gaps_because/],
  ['log_gaps', `"id" = 'g'`, `"to" = "from" - 1`, /CHECK.*log_gaps_times/],
  ['log_gaps', `"id" = 'g'`, `"after" = NULL`, /CHECK.*log_gaps_both_ordinals/],
  ['log_gaps', `"id" = 'g'`, `"last" = "after"`, /CHECK.*log_gaps_ordinals/],
  ['log_gaps', `"id" = 'g'`, `"stretchId" = 'unknown'`, /FOREIGN KEY/],

  ['recoveries', `"id" = 'r'`, `"state" = 'DONE'`, /CHECK.*recoveries_state/],
  ['recoveries', `"id" = 'r'`, `"state" = 'CANCELLED'`, /CHECK.*recoveries_finished/],
  ['recoveries', `"id" = 'r'`, `"state" = 'FAILED', "finishedAt" = 1`, /CHECK.*recoveries_failed/],
  ['recoveries', `"id" = 'r'`, `"state" = 'STUCK', "finishedAt" = 1`, /CHECK.*recoveries_failed/],
  ['recoveries', `"id" = 'r'`, `"state" = 'SUCCEEDED', "finishedAt" = 1, "targetId" = 'j'`, /CHECK.*recoveries_succ/],
  [
    'recoveries',
    `"id" = 'r'`,
    `"state" = 'SUCCEEDED', "finishedAt" = 1, "recoveredTo" = '{}'`,
    /CHECK.*recoveries_succ/,
  ],
  ['recoveries', `"id" = 'r'`, `"progressPercent" = 101`, /CHECK.*recoveries_percent/],
  ['recoveries', `"id" = 'r'`, `"progressStep" = 'REST'`, /CHECK.*recoveries_step/],
  ['recoveries', `"id" = 'r'`, `"progressSequence" = -1`, /CHECK.*recoveries_progress/],
  ['recoveries', `"id" = 'r'`, `"idempotencyKey" = 'taken'`, /UNIQUE.*tenantId.*idempotencyKey/],
  ['recoveries', `"id" = 'r'`, `"sourceId" = 'unknown'`, /FOREIGN KEY/],
  ['recoveries', `"id" = 'r'`, `"targetId" = 'unknown'`, /FOREIGN KEY/],

  ['recovery_steps', `"name" = 'VERIFY'`, `"state" = 'DONE'`, /CHECK.*recovery_steps_state/],
  ['recovery_steps', `"name" = 'VERIFY'`, `"name" = 'REST'`, /CHECK.*recovery_steps_name/],
  ['recovery_steps', `"name" = 'VERIFY'`, `"name" = 'RESERVE'`, /UNIQUE.*recoveryId.*name/],
  ['recovery_steps', `"name" = 'VERIFY'`, `"attempts" = -1`, /CHECK.*recovery_steps_attempts/],
  ['recovery_steps', `"name" = 'VERIFY'`, `"recoveryId" = 'unknown'`, /FOREIGN KEY/],
];

test('the schema refuses', async (t) => {
  const { catalog, file } = await scratchCatalog(t);
  await catalog.write(async (writer) => {
    for (const id of ['i', 'j']) await writer.insertInstance(anInstance({ id }));
    await writer.insertStretch(aStretch({ id: 's', instanceId: 'i', startOrdinal: 10 }));
    await writer.insertStretch(aStretch({ id: 's2', instanceId: 'i', number: 2 }));
    await writer.insertStretch(aStretch({ id: 'of j', instanceId: 'j' }));
    await writer.insertSegment(aSegment({ stretchId: 's', after: 10, last: 20 }));
    await writer.insertSegment(aSegment({ stretchId: 's', after: 20, last: 30 }));
    await writer.insertGap(aGap({ id: 'g', stretchId: 's', after: 10, last: 20 }));
    for (const id of ['b', 'b2']) await writer.insertBackup(aBackup({ id, instanceId: 'i', ...completion('s') }));
    await writer.insertBackup(aBackup({ id: 'of j', instanceId: 'j', ...completion('of j') }));
    await writer.insertRecovery(aRecovery({ id: 'r', sourceId: 'i' }), pendingSteps('r'));
    await writer.insertRecovery(aRecovery({ id: 'r2', sourceId: 'i', idempotencyKey: 'taken' }), []);
  });

  for (const [table, row, assignment, refusal] of refused) {
    await t.test(`${table}: ${assignment}`, async () => {
      const [found] = await rawSql<{ rows: number }>(file, `SELECT count(*) AS rows FROM "${table}" WHERE ${row}`);
      assert.equal(found?.rows, 1, 'the row to change is there');
      await assert.rejects(rawSql(file, `UPDATE "${table}" SET ${assignment} WHERE ${row}`), refusal);
    });
  }

  await t.test('nothing that is right', async () => {
    await rawSql(file, `UPDATE "backups" SET "type" = 'INCREMENTAL', "parentId" = 'b2' WHERE "id" = 'b'`);
    await rawSql(file, `UPDATE "log_segments" SET "objectSha256" = '${SHA}' WHERE "last" = 20`);
    const [row] = await rawSql<Record<string, unknown>>(
      file,
      `SELECT typeof("createdAt") AS kind, "createdAt" AS at, json_valid("driverState") AS json FROM "instances" WHERE "id" = 'i'`,
    );
    assert.deepEqual(row, { kind: 'integer', at: NOON, json: 1 });
  });
});
