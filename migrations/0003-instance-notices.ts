/** `notices` of an instance: what the service does to its database. */
import type { MigrationInterface, QueryRunner } from 'typeorm';

const columns = [
  'id',
  'tenantId',
  'name',
  'origin',
  'datastore',
  'datastoreVersion',
  'flavor',
  'volumeSizeGiB',
  'state',
  'endpoint',
  'connectionUri',
  'identity',
  'driverState',
  'recoveredFromId',
  'createdByRecoveryId',
  'archiveHealthy',
  'archiveMessage',
  'createdAt',
  'deletedAt',
]
  .map((name) => `"${name}"`)
  .join(', ');

/**
 * SQLite puts an added column behind the constraints, so the table is made anew to read as its entity does. Foreign keys
 * are off while migrations run.
 */
const rebuild = [
  `CREATE TABLE "instances_anew" (
    "id" text PRIMARY KEY NOT NULL,
    "tenantId" text NOT NULL,
    "name" text NOT NULL,
    "origin" text NOT NULL,
    "datastore" text NOT NULL,
    "datastoreVersion" text NOT NULL,
    "flavor" text,
    "volumeSizeGiB" bigint,
    "state" text NOT NULL,
    "endpoint" text,
    "connectionUri" text,
    "identity" text,
    "driverState" text NOT NULL,
    "notices" text NOT NULL,
    "recoveredFromId" text,
    "createdByRecoveryId" text,
    "archiveHealthy" boolean NOT NULL,
    "archiveMessage" text,
    "createdAt" bigint NOT NULL,
    "deletedAt" bigint,
    CONSTRAINT "instances_origin" CHECK ("origin" IN ('CREATED', 'REGISTERED', 'RECOVERED')),
    CONSTRAINT "instances_state" CHECK ("state" IN ('PROVISIONING', 'ACTIVE', 'STOPPED', 'FAILED', 'DELETED')),
    CONSTRAINT "instances_volume" CHECK ("volumeSizeGiB" > 0),
    CONSTRAINT "instances_active" CHECK ("state" <> 'ACTIVE' OR ("connectionUri" IS NOT NULL AND "identity" IS NOT NULL)),
    CONSTRAINT "instances_deleted" CHECK (("state" = 'DELETED') = ("deletedAt" IS NOT NULL)),
    CONSTRAINT "instances_sealed" CHECK ("connectionUri" LIKE 'v1.%'),
    CONSTRAINT "instances_recovered" CHECK ("origin" <> 'RECOVERED' OR "recoveredFromId" IS NOT NULL),
    CONSTRAINT "fk_instances_recovered_from" FOREIGN KEY ("recoveredFromId") REFERENCES "instances" ("id"),
    CONSTRAINT "fk_instances_created_by_recovery" FOREIGN KEY ("createdByRecoveryId") REFERENCES "recoveries" ("id"))`,
  `INSERT INTO "instances_anew" (${columns}, "notices") SELECT ${columns}, '[]' FROM "instances"`,
  `DROP TABLE "instances"`,
  `ALTER TABLE "instances_anew" RENAME TO "instances"`,
  `CREATE UNIQUE INDEX "instances_identity" ON "instances" ("datastore", "identity") WHERE "deletedAt" IS NULL`,
  `CREATE INDEX "instances_newest" ON "instances" ("tenantId", "createdAt", "id")`,
  `CREATE INDEX "instances_by_state" ON "instances" ("state")`,
];

export class InstanceNotices implements MigrationInterface {
  readonly name = 'InstanceNotices0000000000003';

  async up(runner: QueryRunner): Promise<void> {
    for (const statement of rebuild) await runner.query(statement);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`ALTER TABLE "instances" DROP COLUMN "notices"`);
  }
}
