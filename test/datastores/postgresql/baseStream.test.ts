/** Backups that a server sends whole and that still are not what belongs to the captured log. */
import assert from 'node:assert/strict';
import { mkdir, rename, symlink } from 'node:fs/promises';
import path from 'node:path';
import { describe, test } from 'node:test';
import { BaseStream } from '../../../src/datastores/postgresql/backup/baseStream.js';
import { PostgresRig, withoutPostgresql } from '../../support/postgresql/postgresRig.js';
import { message, ready, row, ScriptedServer } from '../../support/postgresql/scriptedServer.js';
import { tarOf } from '../../support/postgresql/tarWriter.js';

describe('PostgreSQL: who sends a base backup', { timeout: 120_000 }, () => {
  test('a backup of another server than the captured one is refused', { skip: withoutPostgresql }, async (t) => {
    const rig = await PostgresRig.alone();
    t.after(() => rig.close());
    const other = await PostgresRig.alone();
    t.after(() => other.close());
    const road = path.join(rig.directory, 'road');
    await mkdir(road);
    const leadTo = async ({ server }: PostgresRig) => {
      const { socketDir, port } = server.place;
      await symlink(path.join(socketDir, `.s.PGSQL.${port}`), path.join(road, 'next'));
      await rename(path.join(road, 'next'), path.join(road, '.s.PGSQL.5432'));
    };
    await leadTo(rig);
    assert.equal(other.server.place.user, rig.server.place.user);
    rig.instance.connectionUri = `postgresql:///postgres?host=${road}&port=5432&user=${rig.server.place.user}`;
    const capture = await rig.capture();
    await rig.backup(capture);
    // The capture's own connections stay where they are.
    await leadTo(other);
    await assert.rejects(rig.backup(capture), { code: 'DATASTORE_UNAVAILABLE', message: /another database cluster/ });
    await leadTo(rig);
    await rig.backup(capture);
    await capture.stop();
  });

  async function received(finish: Record<string, string>): Promise<number> {
    const data = (bytes: Buffer) => message('d', bytes);
    const server = await ScriptedServer.start(() => [
      row({ recptr: '0/2000028', tli: '1' }),
      row({ spcoid: '', spclocation: '', size: '1' }),
      message('H', Buffer.alloc(3)),
      data(Buffer.from('nbase.tar\0\0')),
      data(Buffer.concat([Buffer.from('d'), tarOf([{ name: 'PG_VERSION', content: Buffer.from('15\n') }])])),
      message('c', Buffer.alloc(0)),
      row(finish),
      ready(),
    ]);
    const stream = await BaseStream.open(server.address);
    try {
      await stream.begin();
      let bytes = 0;
      for await (const chunk of stream.content()) bytes += chunk.length;
      return bytes;
    } finally {
      stream.close();
      await server.close();
    }
  }

  test('a backup that does not end behind where it starts, on the same timeline, is refused', async () => {
    assert.ok((await received({ recptr: '0/2000100', tli: '1' })) > 0);
    const refused = { code: 'DATASTORE_UNAVAILABLE', message: /end does not lie behind its start/ };
    await assert.rejects(received({ recptr: '0/2000028', tli: '1' }), refused);
    await assert.rejects(received({ recptr: '0/1000100', tli: '1' }), refused);
    await assert.rejects(received({ recptr: '0/2000100', tli: '2' }), refused);
    await assert.rejects(received({ nothing: '' }), refused);
  });
});
