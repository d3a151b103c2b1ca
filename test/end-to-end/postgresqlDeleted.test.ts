/** A PostgreSQL server whose instance is deleted in the middle of a backup: nothing of the service is left there. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { FileStorage } from '../../src/storage/fileStorage.js';
import { backupEnded, beginBackup, register, remove } from '../support/postgresql/postgresCalls.js';
import { PostgresRig, withoutPostgresql } from '../support/postgresql/postgresRig.js';
import { runningService } from '../support/runningService.js';
import type { Service } from '../support/service.js';
import { until } from '../support/sqlitePrograms.js';

test('a backup of a deleted instance reads its server no longer, and fails with that', {
  skip: withoutPostgresql,
  timeout: 120_000,
}, async (t) => {
  const service = clientOf(await runningService(t));
  const rig = await PostgresRig.alone();
  t.after(() => rig.close());
  const client = await rig.connect();
  // More than lies ready between the server and the storage.
  await client.query('create table large as select repeat(md5(i::text), 60) as text from generate_series(1, 20000) i');
  const stored: string[] = [];
  const { put } = FileStorage.prototype;
  t.mock.method(
    FileStorage.prototype,
    'put',
    function (this: FileStorage, ...[key, body, signal]: Parameters<typeof put>) {
      if (!key.includes('/parts/') || !signal) return put.call(this, key, body, signal);
      stored.push(key);
      return put.call(this, key, stuck(body, signal), signal);
    },
  );
  const sessions = async () => {
    const { rows } = await client.query(
      "select application_name from pg_stat_activity where application_name ~ '^pitr'",
    );
    return rows.map(({ application_name: name }) => name as string);
  };
  const { id } = await register(service, 'orders', rig.instance.connectionUri);
  const backup = await beginBackup(service, id);
  await until('the backup is in the middle', async () => stored.length > 0 && (await sessions()).includes('pitr_base'));
  await remove(service, id);
  await until('the server has no session of the service', async () => (await sessions()).length === 0);
  assert.equal((await client.query('select from pg_replication_slots')).rowCount, 0);
  const ended = await backupEnded(service, backup);
  assert.deepEqual([ended.state, ended.error?.code], ['FAILED', 'INSTANCE_NOT_FOUND']);
});

/** The first bytes, and no more until somebody gives up. */
async function* stuck(body: AsyncIterable<Uint8Array>, signal: AbortSignal): AsyncIterable<Uint8Array> {
  for await (const chunk of body) {
    yield chunk;
    await once(signal, 'abort');
  }
}

/** What the calls need of a service, of one in this process. */
function clientOf({ url }: { url: string }): Service {
  const graphql: Service['graphql'] = async (query, variables = {}) => {
    const response = await fetch(`${url}/graphql`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', connection: 'close' },
      body: JSON.stringify({ query, variables }),
    });
    const { data, errors } = (await response.json()) as { data: never; errors?: unknown };
    assert.equal(errors, undefined, JSON.stringify(errors));
    return data;
  };
  return { graphql } as Service;
}
