/** The service as an ordinary user: its servers run as that user, and everything is as it is where the service is root. */
import assert from 'node:assert/strict';
import { chownSync, statSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { resolveRunAs } from '../../src/datastores/postgresql/server/processes.js';
import { backUp, column, create, recover, remove } from '../support/postgresql/postgresCalls.js';
import { withoutPostgresql } from '../support/postgresql/postgresRig.js';
import { scratchDir } from '../support/scratch.js';
import { processesOf, startService } from '../support/service.js';

/** Where the tests are not root themselves, every other suite is this one. */
const needsRoot = process.getuid?.() === 0 ? false : 'only where the tests may choose whom the service runs as';

test('the service not root: created, recovered, and left without a trace', {
  skip: withoutPostgresql || needsRoot,
  timeout: 120_000,
}, async (t) => {
  const user = resolveRunAs('nobody');
  assert.ok(user);
  const dir = await scratchDir(t);
  chownSync(dir, user.uid, user.gid);
  const service = await startService(t, { dir, user });
  const made = await create(service, 'shop');
  const data = (id: string) => path.join(service.home, 'instances', id, 'data');
  assert.equal(statSync(data(made.id)).uid, user.uid);
  await column(made.connectionUri, 'create table note (text text)');
  await backUp(service, made.id);
  await column(made.connectionUri, "insert into note values ('kept')");
  const [at] = await column(
    made.connectionUri,
    `select to_char(clock_timestamp() at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`,
  );
  await column(made.connectionUri, 'drop table note');
  const back = await recover(service, made.id, { pointInTime: String(at) });
  assert.equal(statSync(data(back.id)).uid, user.uid);
  assert.deepEqual(await column(back.connectionUri, 'select text from note'), ['kept']);
  await service.restart();
  assert.deepEqual(await column(back.connectionUri, 'select text from note'), ['kept']);
  await remove(service, back.id);
  await remove(service, made.id);
  assert.deepEqual(processesOf(path.join(service.home, 'instances')), []);
  assert.equal(await service.stop(), 0);
});
