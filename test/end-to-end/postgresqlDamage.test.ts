/** Archived log of PostgreSQL that is lost or damaged: told, remembered, and healed by a new full backup; never replayed. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import type pg from 'pg';
import { formatInstant } from '../../src/instant.js';
import {
  backUp,
  beginRecovery,
  column,
  type InstanceSeen,
  instance,
  plan,
  recover,
  recoveryEnded,
  register,
  remove,
} from '../support/postgresql/postgresCalls.js';
import { PostgresRig, sourceNow, withoutPostgresql } from '../support/postgresql/postgresRig.js';
import { type Service, startService } from '../support/service.js';
import { until } from '../support/sqlitePrograms.js';

function flip(file: string, where: number): void {
  const bytes = readFileSync(file);
  const at = Math.floor(bytes.length * where);
  bytes.writeUInt8(bytes.readUInt8(at) ^ 0x10, at);
  writeFileSync(file, bytes);
}

const damages: Record<string, (file: string) => void> = {
  'middle segment deleted': (file) => rmSync(file),
  'byte flipped in used WAL': (file) => flip(file, 0.1),
  // Nearly all of the segment is what a log switch left unused.
  'byte flipped in the zero tail': (file) => flip(file, 0.9),
  'segment cut short': (file) => truncateSync(file, Math.floor(statSync(file).size / 2)),
};

describe('PostgreSQL: damaged log in the archive', { skip: withoutPostgresql, timeout: 300_000 }, () => {
  let rig: PostgresRig;
  let client: pg.Client;
  let service: Service;
  let source: InstanceSeen;
  let stopService = async (): Promise<void> => {};
  const context = {
    after: (stop: unknown) => {
      stopService = stop as typeof stopService;
    },
  };

  before(async () => {
    rig = await PostgresRig.alone({ autovacuum: 'off' });
    client = await rig.connect();
    await client.query('create table note (id serial primary key, text text not null)');
    service = await startService(context);
    source = await register(service, 'orders', rig.instance.connectionUri);
  });

  after(async () => {
    // The service first: it is a client of the rig's server.
    await stopService();
    await rig?.close();
  });

  async function note(text: string): Promise<string> {
    await client.query('insert into note (text) values ($1)', [text]);
    return formatInstant(await sourceNow(client));
  }

  /** Makes the archive hold everything up to now; a later one each time, for a window may open only after the first. */
  async function archived(): Promise<void> {
    await until('the archive has caught up', async () => {
      const now = formatInstant(await sourceNow(client));
      return (await plan(service, source.id, { pointInTime: now })).code === null;
    });
  }

  const notes = (uri: string) => column(uri, 'select text from note order by id');

  function segments(): string[] {
    const log = path.join(service.home, 'storage/instances', source.id, 'log');
    return readdirSync(log).flatMap((stretch) =>
      readdirSync(path.join(log, stretch))
        .sort()
        .map((name) => path.join(log, stretch, name)),
    );
  }

  async function splitWindows(): Promise<number> {
    const { recoveryWindows } = await instance(service, source.id);
    return recoveryWindows.filter(({ endsBecause }) => endsBecause === 'CORRUPT_LOG').length;
  }

  for (const [name, damage] of Object.entries(damages)) {
    test(name, async () => {
      await backUp(service, source.id);
      const early = await note(`before: ${name}`);
      await archived();
      const before = new Set(segments());
      await note(`in it: ${name}`);
      await client.query('select pg_switch_wal()');
      await archived();
      const [middle] = segments().filter((file) => !before.has(file));
      assert.ok(middle);
      const late = await note(`after it: ${name}`);
      await archived();
      assert.ok(segments().length > before.size + 1);
      const split = await splitWindows();
      damage(middle);

      const ended = await recoveryEnded(service, await beginRecovery(service, source.id, { pointInTime: late }));
      assert.equal(ended.state, 'FAILED');
      assert.equal(ended.error?.code, 'LOG_CORRUPT', JSON.stringify(ended.error));
      assert.equal(ended.instance, null);
      assert.equal(await splitWindows(), split + 1, 'the window is split there');
      const again = await plan(service, source.id, { pointInTime: late });
      assert.ok(['TARGET_IN_LOG_GAP', 'TARGET_TOO_LATE'].includes(again.code ?? ''), JSON.stringify(again));

      const old = await recover(service, source.id, { pointInTime: early });
      assert.equal((await notes(old.connectionUri)).at(-1), `before: ${name}`);
      await remove(service, old.id);
      // A new full backup comes by itself, and the present is recoverable from it.
      await archived();
      const present = await recover(service, source.id);
      assert.deepEqual(await notes(present.connectionUri), await notes(rig.instance.connectionUri));
      await remove(service, present.id);
    });
  }

  test('a damaged backup is one no more, and the one before it serves', async () => {
    const older = await backUp(service, source.id);
    const newer = await backUp(service, source.id);
    const late = await note('after two backups');
    await archived();
    assert.equal((await plan(service, source.id, { pointInTime: late })).base, newer.id);
    flip(path.join(service.home, 'storage/instances', source.id, 'backups', newer.id, 'parts/00000000'), 0.5);
    const ended = await recoveryEnded(service, await beginRecovery(service, source.id, { pointInTime: late }));
    assert.deepEqual([ended.state, ended.error?.code], ['FAILED', 'BACKUP_CORRUPT']);
    assert.equal((await plan(service, source.id, { pointInTime: late })).base, older.id);
    const back = await recover(service, source.id, { pointInTime: late });
    assert.equal((await notes(back.connectionUri)).at(-1), 'after two backups');
    await remove(service, back.id);
  });

  test('offsets: +09:00 and Z name the same instant, none is refused', async () => {
    const kept = await note('before the offset');
    await note('after the offset');
    await archived();
    const wall = new Date(Date.parse(kept) + 9 * 3_600_000).toISOString().slice(0, 19);
    const tokyo = `${wall}${kept.slice(19, 26)}+09:00`;
    const [utc, east] = [
      await plan(service, source.id, { pointInTime: kept }),
      await plan(service, source.id, { pointInTime: tokyo }),
    ];
    assert.equal(utc.code, null);
    assert.deepEqual(east, utc);
    const back = await recover(service, source.id, { pointInTime: tokyo });
    assert.equal((await notes(back.connectionUri)).at(-1), 'before the offset');
    await remove(service, back.id);
    await assert.rejects(
      beginRecovery(service, source.id, { pointInTime: kept.slice(0, 26) }),
      (error: { code?: string }) => error.code === 'INVALID_POINT_IN_TIME',
    );
  });
});
