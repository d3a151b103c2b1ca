/**
 * A source is lost and its standby, which had not received all of it, takes its place, on every supported major: what was
 * archived of the old timeline stays as it is, also what the new one never had.
 */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import type pg from 'pg';
import { supportedMajors } from '../../../src/datastores/postgresql/formats/majors.js';
import type { ManagedServer } from '../../../src/datastores/postgresql/server/server.js';
import { withoutMajor } from '../../support/postgresql/majors.js';
import { PostgresRig, sourceNow } from '../../support/postgresql/postgresRig.js';
import { standbyOf } from '../../support/postgresql/standby.js';
import { until } from '../../support/sqlitePrograms.js';

for (const major of supportedMajors) {
  test(`PostgreSQL ${major}: its standby takes its place`, {
    skip: withoutMajor(major),
    timeout: 180_000,
  }, async (t) => {
    const rig = await PostgresRig.alone({ autovacuum: 'off' }, major);
    let standby: ManagedServer | null = null;
    // The rig's directory goes with it, and a server that still wrote into it would be in the way.
    t.after(async () => {
      await standby?.stop();
      await rig.close();
    });
    let client = await rig.connect();
    await client.query('create table entry (number int primary key)');
    standby = await standbyOf(rig);
    client = await rig.connect();
    const capture = await rig.capture();
    const base = await rig.backup(capture);

    await client.query('insert into entry values (1)');
    await standby.start();
    const { socketDir, port, user } = standby.place;
    const instance = {
      ...rig.instance,
      connectionUri: `postgresql:///postgres?host=${socketDir}&port=${port}&user=${user}`,
    };
    let onStandby = await rig.connect(instance.connectionUri);
    await until('the standby has what was committed', async () => (await numbers(onStandby)).length === 1);
    await onStandby.end();
    await standby.stop();
    await client.query('insert into entry values (2)');
    const last = await sourceNow(client);
    await capture.fence();
    await capture.stop();
    await killForGood(rig);

    await standby.start();
    onStandby = await rig.connect(instance.connectionUri);
    await onStandby.query('select pg_promote()');
    const after = await rig.driver.capture(instance, rig.archive.resumePoint(), rig.archive);
    await rig.archive.until('a stretch of the new timeline', () => rig.archive.stretches.length === 2);
    assert.equal(rig.archive.stretches[1]?.because, 'TIMELINE_CHANGE');
    assert.match(rig.archive.stretches[1]?.stretch ?? '', /^tl2-/);
    const later = await rig.backup(after, instance);
    assert.equal(rig.archive.identity, (await rig.driver.inspect(instance.connectionUri, instance.tenantId)).identity);
    await onStandby.query('insert into entry values (3)');
    const present = await sourceNow(onStandby);
    await after.fence();
    for (const [from, at, expected] of [
      [base, last, [1, 2]],
      [later, present, [1, 3]],
    ] as const) {
      const recovered = await rig.recover(from, at);
      assert.deepEqual(await numbers(recovered.client), expected);
      await rig.drop(recovered);
    }
    await after.stop();
  });
}

/** kill -9; stopping ends the watch that would bring it back. */
async function killForGood(rig: PostgresRig): Promise<void> {
  const pid = await readFile(path.join(rig.server.place.data, 'postmaster.pid'), 'utf8');
  process.kill(Number(pid.split('\n')[0]), 'SIGKILL');
  await rig.server.stop();
}

async function numbers(of: pg.Client): Promise<number[]> {
  const { rows } = await of.query<{ number: number }>('select number from entry order by number');
  return rows.map(({ number }) => number);
}
