/** One capture's trouble in the engine process, which all captures share. */
import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { CaptureSession } from '../../../src/datastores/sqlite/engine/captureSession.js';
import type { SessionEvent } from '../../../src/datastores/sqlite/follower/captureTerms.js';
import type { WalFollower } from '../../../src/datastores/sqlite/follower/walFollower.js';
import { attachRequest } from '../../support/attachRequest.js';
import { scratchDir } from '../../support/scratch.js';
import { TestDatabase } from '../../support/sqliteDatabase.js';
import { until } from '../../support/sqlitePrograms.js';

test('where the disk is full and it cannot be told how much waits, the database is let go of and attached to anew', async (t) => {
  const dir = await scratchDir(t);
  const file = path.join(dir, 'a.db');
  const application = await TestDatabase.open(file);
  t.after(() => application.close());
  await application.run('PRAGMA journal_mode=WAL; CREATE TABLE t (x)');
  const events: SessionEvent[] = [];
  const host = { emit: (event: SessionEvent) => void events.push(event), sync: async () => {} };
  const session = new CaptureSession(attachRequest(file, path.join(dir, 'spool')), host);
  t.after(() => session.stop());
  await session.ready;
  const { follower } = session as unknown as { follower: WalFollower };
  follower.look = () => Promise.reject(Object.assign(new Error('no space left'), { code: 'ENOSPC' }));
  follower.unreadBytes = () => Promise.reject(new Error('it cannot be told'));
  await application.run("INSERT INTO t VALUES ('first')");
  const anew = () => (session as unknown as { follower: WalFollower | null }).follower;
  await until('it is attached anew', () => anew() !== null && anew() !== follower);
  const { generation, ordinal } = await session.fence(false);
  assert.deepEqual([generation, ordinal], [1, 2]);
  assert.equal(events.filter(({ type }) => type === 'stretch').length, 1);
});
