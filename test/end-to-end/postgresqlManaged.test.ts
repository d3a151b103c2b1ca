/** PostgreSQL servers that the service itself makes and runs: used, recovered, killed, stopped, deleted. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import {
  backUp,
  column,
  create,
  type InstanceSeen,
  instance,
  recover,
  remove,
} from '../support/postgresql/postgresCalls.js';
import { withoutPostgresql } from '../support/postgresql/postgresRig.js';
import { processesOf, type Service, startService } from '../support/service.js';
import { until } from '../support/sqlitePrograms.js';

describe('PostgreSQL: servers of the service’s own', { skip: withoutPostgresql, timeout: 300_000 }, () => {
  let service: Service;
  let made: InstanceSeen;
  const cleanups: (() => unknown)[] = [];
  /** What lies in the system's directory for temporary files: sockets with long paths would. */
  let sockets: string[];

  before(async () => {
    sockets = socketDirectories();
    service = await startService({ after: (work: unknown) => cleanups.push(work as () => unknown) });
    made = await create(service, 'shop');
    await column(made.connectionUri, 'create table note (id serial primary key, text text not null)');
    await backUp(service, made.id);
  });

  after(async () => {
    for (const cleanup of cleanups.reverse()) await cleanup();
  });

  const socketDirectories = () => readdirSync(tmpdir()).filter((name) => name.startsWith('pitr-pg-'));
  const write = (text: string) => column(made.connectionUri, `insert into note (text) values ('${text}')`);
  const notes = (uri: string) => column(uri, 'select text from note order by id');
  const now = async () =>
    String(
      (
        await column(
          made.connectionUri,
          `select to_char(clock_timestamp() at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`,
        )
      )[0],
    );

  test('made, written to, recovered twice over, with the credentials that it was made with', async () => {
    await write('one');
    const at = await now();
    await column(made.connectionUri, 'truncate note');
    const back = await recover(service, made.id, { pointInTime: at });
    assert.deepEqual(await notes(back.connectionUri), ['one']);
    assert.deepEqual(await notes(made.connectionUri), []);
    // The copy is an instance like any other: captured, backed up, recovered.
    await backUp(service, back.id);
    await column(back.connectionUri, "insert into note (text) values ('two')");
    const again = await recover(service, back.id);
    assert.deepEqual(await notes(again.connectionUri), ['one', 'two']);
    await remove(service, back.id);
    assert.deepEqual(await notes(again.connectionUri), ['one', 'two'], 'a copy of a copy needs its parent no more');
    await remove(service, again.id);
  });

  test('after kill -9 of the service and after a stop it is there again, without a gap', async () => {
    await write('before the kill');
    await service.kill();
    await service.start();
    await write('before the stop');
    const at = await now();
    assert.equal(await service.stop(), 0);
    assert.deepEqual(processesOf(service.dir), [], 'nothing runs on');
    await service.start();
    const back = await recover(service, made.id, { pointInTime: at });
    assert.deepEqual(await notes(back.connectionUri), ['before the kill', 'before the stop']);
    assert.equal((await instance(service, made.id)).recoveryWindows.length, 1);
    await remove(service, back.id);
  });

  test('while somebody else has its port it is told, and it comes up when the port is free', async () => {
    const port = Number(new URL(made.endpoint).port);
    assert.equal(await service.stop(), 0);
    const squatter = createServer((socket) => socket.destroy());
    await new Promise<void>((resolve) => squatter.listen(port, '127.0.0.1', resolve));
    try {
      await service.start();
      await until('the trouble is told', async () => !(await instance(service, made.id)).logArchive.healthy);
    } finally {
      await new Promise((resolve) => squatter.close(resolve));
    }
    await until('it is up again', async () => (await instance(service, made.id)).logArchive.healthy, 60);
    await write('the port is free again');
    const back = await recover(service, made.id);
    assert.equal((await notes(back.connectionUri)).at(-1), 'the port is free again');
    await remove(service, back.id);
  });

  test('deleted, it leaves no process, port, socket or directory, and can still be recovered', async () => {
    const home = path.join(service.home, 'instances', made.id);
    assert.ok(existsSync(home));
    assert.ok(processesOf(home).length > 0);
    await remove(service, made.id);
    assert.deepEqual(processesOf(home), []);
    assert.ok(!existsSync(home));
    await assert.rejects(column(made.connectionUri, 'select 1'), /ECONNREFUSED/);
    const back = await recover(service, made.id, {});
    assert.equal(back.state, 'ACTIVE');
    assert.equal(new URL(back.connectionUri).password, '', 'its password was forgotten with it');
    await remove(service, back.id);
    assert.deepEqual(readdirSync(path.join(service.home, 'instances')), []);
    assert.deepEqual(readdirSync(path.join(service.home, 'scratch')), []);
    assert.deepEqual(socketDirectories(), sockets);
  });
});
