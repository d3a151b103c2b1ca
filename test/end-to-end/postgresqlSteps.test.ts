/** The service dies in every step of a recovery of PostgreSQL: nothing runs on, and the next start ends where it should. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type pg from 'pg';
import { formatInstant } from '../../src/instant.js';
import {
  backUp,
  beginRecovery,
  column,
  type InstanceSeen,
  instance,
  plan,
  recoveryEnded,
  register,
  remove,
} from '../support/postgresql/postgresCalls.js';
import { PostgresRig, sourceNow, withoutPostgresql } from '../support/postgresql/postgresRig.js';
import { processesOf, type Service, startService } from '../support/service.js';
import { until } from '../support/sqlitePrograms.js';
import type { Disturbance } from '../support/sweptService.js';
import { traces } from '../support/writtenStory.js';

const entry = fileURLToPath(new URL('../support/sweptService.js', import.meta.url));

describe('PostgreSQL: SIGKILL of the service in a recovery', { skip: withoutPostgresql, timeout: 300_000 }, () => {
  let rig: PostgresRig;
  let client: pg.Client;
  let service: Service;
  let source: InstanceSeen;
  let at: string;
  let clean: unknown;
  let stopService = async (): Promise<void> => {};
  const context = {
    after: (stop: unknown) => {
      stopService = stop as typeof stopService;
    },
  };

  before(async () => {
    rig = await PostgresRig.alone({ autovacuum: 'off' });
    client = await rig.connect();
    await client.query('create table entry (number int primary key, filler text)');
    service = await startService(context, { entry });
    source = await register(service, 'orders', rig.instance.connectionUri);
    await backUp(service, source.id);
    for (let round = 0; round < 3; round++) {
      await client.query(
        'insert into entry select i, md5(random()::text) from generate_series($1::int, $1::int + 9999) i',
        [round * 10_000],
      );
      await plan(service, source.id, {});
    }
    at = formatInstant(await sourceNow(client));
    await client.query('truncate entry');
    await plan(service, source.id, {});
    clean = leftovers();
  });

  after(async () => {
    // The service first: it is a client of the rig's server.
    await stopService();
    await rig?.close();
  });

  function leftovers(): unknown {
    const { instances, scratch } = traces(service);
    return { instances, scratch };
  }

  function disturb(...list: Disturbance[]): void {
    const file = path.join(service.dir, 'disturb.json');
    if (list.length === 0) {
      rmSync(file, { force: true });
      return;
    }
    writeFileSync(`${file}.part`, JSON.stringify(list));
    renameSync(`${file}.part`, file);
  }

  /** After the service's death: nothing of it runs, and its next life ends the recovery exactly. */
  async function endsExactly(recovery: string, before: () => Promise<void> = async () => {}): Promise<void> {
    await until('nothing of it runs on', () => processesOf(service.dir).length === 0);
    disturb();
    await before();
    await service.start();
    const ended = await recoveryEnded(service, recovery);
    assert.equal(ended.state, 'SUCCEEDED', JSON.stringify(ended.error));
    const uri = ended.instance?.connectionUri ?? '';
    assert.deepEqual(await column(uri, 'select count(*)::int from entry'), [30_000]);
    assert.deepEqual(await column(uri, 'select pg_is_in_recovery()'), [false]);
    const home = path.join(service.home, 'instances', ended.instance?.id ?? '');
    assert.ok(processesOf(home).length > 0);
    await remove(service, ended.instance?.id ?? '');
    assert.deepEqual(processesOf(home), []);
    assert.deepEqual(leftovers(), clean);
    assert.equal((await instance(service, source.id)).recoveryWindows.length, 1, 'the source’s window has no gap');
  }

  for (const step of ['RESTORE_BASE', 'REPLAY_LOG', 'VERIFY', 'ACTIVATE'] as const) {
    test(`at the end of ${step}`, async () => {
      disturb({ step, act: 'kill after' });
      const recovery = await beginRecovery(service, source.id, { pointInTime: at });
      await service.gone();
      await endsExactly(recovery);
    });
  }

  /** Begins a recovery, and kills the service at the moment at which `seen` answers true. */
  async function killedWhen(what: string, seen: (scratch: string) => boolean): Promise<string> {
    const scratch = path.join(service.home, 'scratch');
    // Held back in the step before, so that the watch is there when it begins.
    disturb({ step: 'RESERVE', act: 'hold' });
    const recovery = await beginRecovery(service, source.id, { pointInTime: at });
    disturb();
    for (const deadline = Date.now() + 30_000; !seen(scratch); await new Promise(setImmediate)) {
      assert.ok(Date.now() < deadline, `waited in vain until ${what} is seen`);
    }
    await service.kill();
    return recovery;
  }

  test('while the backup is unpacked', async () => {
    const places = (scratch: string, name: string) =>
      readdirSync(scratch).some((recovery) => existsSync(path.join(scratch, recovery, name)));
    // It is unpacked in a moment, which may be over before the kill.
    for (let attempt = 1; attempt <= 5; attempt++) {
      const recovery = await killedWhen('an unpacked file', (scratch) => places(scratch, 'data/base'));
      const halfway = !places(path.join(service.home, 'scratch'), 'restored');
      await endsExactly(recovery);
      if (halfway) return;
    }
    assert.fail('it was never killed halfway');
  });

  test('while PostgreSQL replays', async () => {
    const running = (scratch: string) => processesOf(scratch).some((line) => line.split(' ')[1]?.endsWith('postgres'));
    await endsExactly(await killedWhen('postgres', running));
  });

  test('port taken: the new instance gets another one than was chosen for it', async () => {
    disturb({ step: 'ACTIVATE', act: 'kill after' });
    const recovery = await beginRecovery(service, source.id, { pointInTime: at });
    await service.gone();
    const [home] = traces(service).instances.filter((name) => name !== source.id);
    const chosen = JSON.parse(readFileSync(path.join(service.home, 'instances', home ?? '', 'server.json'), 'utf8'));
    const squatter = createServer((socket) => socket.destroy());
    try {
      await endsExactly(recovery, async () => {
        await new Promise<void>((resolve) => squatter.listen(chosen.port, '127.0.0.1', resolve));
      });
    } finally {
      await new Promise((resolve) => squatter.close(resolve));
    }
  });
});
