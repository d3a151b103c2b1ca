/** Events on their way to a webhook, and which request asked for a recovery. */
import type { MigrationInterface, QueryRunner } from 'typeorm';

const create = [
  `CREATE TABLE "recovery_origins" (
    "recoveryId" text PRIMARY KEY NOT NULL,
    "requestId" text NOT NULL,
    "traceparent" text,
    CONSTRAINT "fk_recovery_origins_recovery" FOREIGN KEY ("recoveryId") REFERENCES "recoveries" ("id"))`,
  `CREATE TABLE "outbox" (
    "id" text PRIMARY KEY NOT NULL,
    "tenantId" text NOT NULL,
    "type" text NOT NULL,
    "body" text NOT NULL,
    "state" text NOT NULL,
    "attempts" integer NOT NULL,
    "dueAt" bigint NOT NULL,
    "lastError" text,
    "createdAt" bigint NOT NULL,
    CONSTRAINT "outbox_state" CHECK ("state" IN ('WAITING', 'DELIVERED', 'REFUSED', 'EXPIRED')),
    CONSTRAINT "outbox_attempts" CHECK ("attempts" >= 0))`,
  `CREATE INDEX "outbox_due" ON "outbox" ("state", "dueAt", "id")`,
  `CREATE INDEX "outbox_oldest" ON "outbox" ("createdAt")`,
];

const drop = [`DROP TABLE "outbox"`, `DROP TABLE "recovery_origins"`];

export class Outbox implements MigrationInterface {
  /** TypeORM orders migrations by the last 13 characters, as a number. */
  readonly name = 'Outbox0000000000002';

  async up(runner: QueryRunner): Promise<void> {
    for (const statement of create) await runner.query(statement);
  }

  async down(runner: QueryRunner): Promise<void> {
    for (const statement of drop) await runner.query(statement);
  }
}
