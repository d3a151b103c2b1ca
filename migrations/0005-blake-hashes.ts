/** `objectBlake3` of a piece of log: what proves it when it is read. Those from before have their SHA-256 alone. */
import type { MigrationInterface, QueryRunner } from 'typeorm';

const columns = [
  'stretchId',
  'last',
  'after',
  'lastText',
  'transactions',
  'firstCommitAt',
  'lastCommitAt',
  'latestCommitAt',
  'coveredTo',
  'runningSegments',
  'runningPlainBytes',
  'runningStoredBytes',
  'lastWithCommit',
  'objectKey',
  'objectPlainBytes',
  'objectStoredBytes',
  'objectSha256',
]
  .map((name) => `"${name}"`)
  .join(', ');

const added = {
  column: `
    "objectBlake3" text,`,
  check: `
    CONSTRAINT "log_segments_blake3" CHECK (length("objectBlake3") = 64 AND trim("objectBlake3", '0123456789abcdef') = ''),`,
};

/**
 * SQLite puts an added column behind the constraints, so the table is made anew to read as its entity does. Foreign keys
 * are off while migrations run.
 */
function rebuild({ column, check }: typeof added): string[] {
  return [
    `CREATE TABLE "log_segments_anew" (
    "stretchId" text NOT NULL,
    "last" bigint NOT NULL,
    "after" bigint NOT NULL,
    "lastText" text NOT NULL,
    "transactions" bigint NOT NULL,
    "firstCommitAt" bigint,
    "lastCommitAt" bigint,
    "latestCommitAt" bigint,
    "coveredTo" bigint NOT NULL,
    "runningSegments" bigint NOT NULL,
    "runningPlainBytes" bigint NOT NULL,
    "runningStoredBytes" bigint NOT NULL,
    "lastWithCommit" bigint,
    "objectKey" text NOT NULL,
    "objectPlainBytes" bigint NOT NULL,
    "objectStoredBytes" bigint NOT NULL,
    "objectSha256" text NOT NULL,${column}
    CONSTRAINT "log_segments_after" UNIQUE ("stretchId", "after"),
    CONSTRAINT "log_segments_ordinals" CHECK ("after" >= 0 AND "after" < "last"),
    CONSTRAINT "log_segments_transactions" CHECK ("transactions" >= 0),
    CONSTRAINT "log_segments_commits" CHECK (("firstCommitAt" IS NULL) = ("lastCommitAt" IS NULL) AND ("transactions" > 0 OR "lastCommitAt" IS NULL)),
    CONSTRAINT "log_segments_commit_order" CHECK ("firstCommitAt" <= "lastCommitAt"),
    CONSTRAINT "log_segments_latest_commit" CHECK ("lastCommitAt" IS NULL OR ("latestCommitAt" IS NOT NULL AND "latestCommitAt" >= "lastCommitAt")),
    CONSTRAINT "log_segments_with_commit" CHECK ("lastWithCommit" <= "last" AND ("lastCommitAt" IS NULL OR "lastWithCommit" = "last")),
    CONSTRAINT "log_segments_bytes" CHECK ("objectPlainBytes" >= 0 AND "objectStoredBytes" >= 0),
    CONSTRAINT "log_segments_sha256" CHECK (length("objectSha256") = 64 AND trim("objectSha256", '0123456789abcdef') = ''),${check}
    CONSTRAINT "fk_log_segments_stretch" FOREIGN KEY ("stretchId") REFERENCES "log_stretches" ("id"),
    PRIMARY KEY ("stretchId", "last"))`,
    `INSERT INTO "log_segments_anew" (${columns}) SELECT ${columns} FROM "log_segments"`,
    `DROP TABLE "log_segments"`,
    `ALTER TABLE "log_segments_anew" RENAME TO "log_segments"`,
    `CREATE INDEX "log_segments_latest_commit_at" ON "log_segments" ("stretchId", "latestCommitAt", "last")`,
  ];
}

export class BlakeHashes implements MigrationInterface {
  readonly name = 'BlakeHashes0000000000005';

  async up(runner: QueryRunner): Promise<void> {
    for (const statement of rebuild(added)) await runner.query(statement);
  }

  async down(runner: QueryRunner): Promise<void> {
    for (const statement of rebuild({ column: '', check: '' })) await runner.query(statement);
  }
}
