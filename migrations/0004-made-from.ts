/** `madeFromId` of a backup: the older one that it was rolled forward from. */
import type { MigrationInterface, QueryRunner } from 'typeorm';

const columns = [
  'id',
  'instanceId',
  'type',
  'state',
  'percent',
  'parentId',
  'stretchId',
  'consistentAt',
  'consistentOrdinal',
  'consistentText',
  'replayAfterOrdinal',
  'sizeBytes',
  'storedBytes',
  'location',
  'verifiedAt',
  'error',
  'startedAt',
  'completedAt',
  'manifestKey',
  'manifestPlainBytes',
  'manifestStoredBytes',
  'manifestSha256',
]
  .map((name) => `"${name}"`)
  .join(', ');

const added = {
  column: `
    "madeFromId" text,`,
  check: `
    CONSTRAINT "backups_made_from" CHECK ("madeFromId" IS NULL OR "type" = 'FULL'),`,
  key: `
    CONSTRAINT "fk_backups_made_from_same_instance" FOREIGN KEY ("madeFromId", "instanceId") REFERENCES "backups" ("id", "instanceId"),`,
  index: [`CREATE INDEX "backups_by_origin" ON "backups" ("madeFromId")`],
};

/**
 * SQLite puts an added column behind the constraints, so the table is made anew to read as its entity does. Foreign keys
 * are off while migrations run.
 */
function rebuild({ column, check, key, index }: typeof added): string[] {
  return [
    `CREATE TABLE "backups_anew" (
    "id" text PRIMARY KEY NOT NULL,
    "instanceId" text NOT NULL,
    "type" text NOT NULL,
    "state" text NOT NULL,
    "percent" double precision NOT NULL,
    "parentId" text,${column}
    "stretchId" text,
    "consistentAt" bigint,
    "consistentOrdinal" bigint,
    "consistentText" text,
    "replayAfterOrdinal" bigint,
    "sizeBytes" bigint,
    "storedBytes" bigint,
    "location" text,
    "verifiedAt" bigint,
    "error" text,
    "startedAt" bigint NOT NULL,
    "completedAt" bigint,
    "manifestKey" text,
    "manifestPlainBytes" bigint,
    "manifestStoredBytes" bigint,
    "manifestSha256" text,
    CONSTRAINT "backups_of_instance" UNIQUE ("id", "instanceId"),
    CONSTRAINT "backups_type" CHECK ("type" IN ('FULL', 'DIFFERENTIAL', 'INCREMENTAL')),
    CONSTRAINT "backups_state" CHECK ("state" IN ('RUNNING', 'COMPLETED', 'FAILED', 'DELETING', 'DELETED')),
    CONSTRAINT "backups_percent" CHECK ("percent" BETWEEN 0 AND 100),
    CONSTRAINT "backups_parent" CHECK (("type" = 'FULL') = ("parentId" IS NULL)),${check}
    CONSTRAINT "backups_completed" CHECK ("state" <> 'COMPLETED' OR ("stretchId" IS NOT NULL AND "consistentAt" IS NOT NULL AND "consistentOrdinal" IS NOT NULL AND "consistentText" IS NOT NULL AND "replayAfterOrdinal" IS NOT NULL AND "manifestKey" IS NOT NULL AND "manifestPlainBytes" IS NOT NULL AND "manifestStoredBytes" IS NOT NULL AND "manifestSha256" IS NOT NULL AND "completedAt" IS NOT NULL)),
    CONSTRAINT "backups_failed" CHECK ("state" <> 'FAILED' OR "error" IS NOT NULL),
    CONSTRAINT "backups_ordinals" CHECK ("replayAfterOrdinal" >= 0 AND "consistentOrdinal" >= "replayAfterOrdinal"),
    CONSTRAINT "backups_manifest" CHECK (length("manifestSha256") = 64 AND trim("manifestSha256", '0123456789abcdef') = ''),
    CONSTRAINT "fk_backups_instance" FOREIGN KEY ("instanceId") REFERENCES "instances" ("id"),
    CONSTRAINT "fk_backups_parent_of_same_instance" FOREIGN KEY ("parentId", "instanceId") REFERENCES "backups" ("id", "instanceId"),${key}
    CONSTRAINT "fk_backups_stretch_of_same_instance" FOREIGN KEY ("stretchId", "instanceId") REFERENCES "log_stretches" ("id", "instanceId"))`,
    `INSERT INTO "backups_anew" (${columns}) SELECT ${columns} FROM "backups"`,
    `DROP TABLE "backups"`,
    `ALTER TABLE "backups_anew" RENAME TO "backups"`,
    `CREATE INDEX "backups_newest" ON "backups" ("instanceId", "startedAt", "id")`,
    `CREATE INDEX "backups_starting_points" ON "backups" ("instanceId", "state", "consistentAt", "id")`,
    `CREATE INDEX "backups_by_state" ON "backups" ("state")`,
    `CREATE INDEX "backups_children" ON "backups" ("parentId")`,
    `CREATE INDEX "backups_of_stretch" ON "backups" ("stretchId")`,
    ...index,
  ];
}

export class MadeFrom implements MigrationInterface {
  readonly name = 'MadeFrom0000000000004';

  async up(runner: QueryRunner): Promise<void> {
    for (const statement of rebuild(added)) await runner.query(statement);
  }

  async down(runner: QueryRunner): Promise<void> {
    for (const statement of rebuild({ column: '', check: '', key: '', index: [] })) await runner.query(statement);
  }
}
